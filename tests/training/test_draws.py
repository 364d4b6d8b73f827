"""Philox's own published answers, and what the numbers made of it must be."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare, kstest

from gwainet.training.draws import philox, uniform, words

# counter, key, answer: Random123's kat_vectors, philox 4x32, 10 rounds
PUBLISHED = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "answer"), PUBLISHED)
def test_philox_gives_its_authors_answers(counter, key, answer):
    c0, c1, c2, c3 = (torch.tensor([word] * 3) for word in counter)
    made = philox((c0, c1, c2, c3), (key[0], key[1]))
    assert [word.tolist() for word in made] == [[word] * 3 for word in answer]


def test_a_places_words_do_not_depend_on_what_is_drawn_beside_it():
    together = words(7, 2, torch.arange(100))
    for place in (0, 3, 99):
        assert torch.equal(words(7, 2, torch.tensor([place]))[:, 0], together[:, place])
    assert torch.equal(words(7, 2, torch.arange(100).view(4, 25)), together.view(8, 4, 25))


def test_seeds_streams_and_places_beyond_32_bits_get_words_of_their_own():
    place = torch.tensor([5])
    drawn = [
        words(*of) for of in ((0, 0, place), (1, 0, place), (2**32, 0, place), (0, 1, place), (0, 0, place + 2**32))
    ]
    assert len({tuple(one.flatten().tolist()) for one in drawn}) == len(drawn)


def test_words_are_uniform_and_independent_of_each_other():
    drawn = words(11, 0, torch.arange(40_000))
    assert drawn.min() >= 0
    assert drawn.max() < 2**32
    for word in drawn:
        assert kstest(uniform(word).numpy().astype(np.float64), "uniform").pvalue > 1e-3
    for first, second in ((0, 1), (3, 4), (0, 7)):
        a, b = (uniform(drawn[part]).numpy() for part in (first, second))
        table = np.histogram2d(a, b, bins=8)[0]
        assert chisquare(table.ravel()).pvalue > 1e-3


def test_uniform_numbers_are_float32_of_24_bits_below_1():
    ends = uniform(torch.tensor([0, 255, 256, 2**32 - 1]))
    assert ends.dtype == torch.float32
    assert ends.tolist() == [0, 0, 2.0**-24, 1 - 2.0**-24]
