"""Batches are a pure function of (seed, step)."""

import numpy as np
import pytest
import torch

from gwainet.dataset import Faces
from gwainet.errors import DataError
from gwainet.training.draws import words
from gwainet.training.sampling import BatchSampler, PairSampler, draw_partners, tables
from tests.faces import write_faces

CPU = torch.device("cpu")


@pytest.fixture(scope="module", name="faces")
def _faces(tmp_path_factory):
    return Faces(write_faces(tmp_path_factory.mktemp("faces") / "faces", identities=10, images=3))


def test_an_epoch_shows_every_training_target_once(faces):
    sampler = BatchSampler(faces, 3, seed=0, stream="generator")
    count = len(sampler.targets)
    seen = np.concatenate([sampler.rows(step) for step in range(count)])  # three epochs, batches across their borders
    for epoch in range(3):
        assert np.array_equal(np.sort(seen[epoch * count : (epoch + 1) * count]), sampler.targets)
    assert not np.array_equal(seen[:count], seen[count : 2 * count])


@pytest.mark.parametrize("batch_size", [1, 3, 7, 18, 50])
def test_rows_are_the_epochs_orders_one_after_the_other(faces, batch_size):
    sampler = BatchSampler(faces, batch_size, seed=4, stream="critic")
    count = len(sampler.targets)
    for step in (0, 1, 5):
        places = range(step * batch_size, (step + 1) * batch_size)
        assert sampler.rows(step).tolist() == [sampler._shuffled(n // count)[n % count] for n in places]
        assert sampler.rows(step).dtype == np.int64


def test_a_step_gives_the_same_batch_whatever_came_before(faces):
    used = BatchSampler(faces, 4, seed=3, stream="generator", horizontal_flip=True)
    for step in range(7):
        used.batch(step, CPU)
    fresh = BatchSampler(faces, 4, seed=3, stream="generator", horizontal_flip=True)
    first, second = used.batch(7, CPU), fresh.batch(7, CPU)
    for name in ("i_lr", "i_lru", "i_gi", "i_gt"):
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_seeds_and_streams_draw_other_batches(faces):
    samplers = {
        "a": BatchSampler(faces, 4, 0, "generator"),
        "b": BatchSampler(faces, 4, 1, "generator"),
        "c": BatchSampler(faces, 4, 0, "critic"),
    }
    rows = {name: np.concatenate([sampler.rows(step) for step in range(4)]) for name, sampler in samplers.items()}
    assert not np.array_equal(rows["a"], rows["b"])
    assert not np.array_equal(rows["a"], rows["c"])


def test_epsilon_is_uniform_and_one_a_sample(faces):
    sampler = BatchSampler(faces, 500, seed=0, stream="critic")
    epsilon = sampler.drawn(0)["epsilon"]
    assert epsilon.shape == (500,)
    assert epsilon.min() >= 0
    assert epsilon.max() < 1
    assert epsilon.mean().item() == pytest.approx(0.5, abs=0.05)


def test_flipping_mirrors_target_and_guide_independently(faces):
    plain = BatchSampler(faces, 64, seed=0, stream="generator").batch(0, CPU)
    flipped = BatchSampler(faces, 64, seed=0, stream="generator", horizontal_flip=True).batch(0, CPU)
    outcomes = set()
    for i in range(64):
        target = torch.equal(flipped.i_gt[i], plain.i_gt[i].flip(-1))
        guide = torch.equal(flipped.i_gi[i], plain.i_gi[i].flip(-1))
        assert target or torch.equal(flipped.i_gt[i], plain.i_gt[i])
        assert torch.equal(flipped.i_lr[i], plain.i_lr[i].flip(-1) if target else plain.i_lr[i])
        outcomes.add((target, guide))
    assert len(outcomes) == 4


def test_half_of_the_pairs_show_one_person_and_the_other_half_two(faces):
    sampler = PairSampler(faces, 8, seed=0)
    for step in range(5):
        first, second, same = sampler.rows(step)
        assert same.sum() == 4
        assert np.array_equal(faces.identity[first] == faces.identity[second], same == 1)
        assert (first != second).all()
        assert (faces.manifest["split"].to_numpy()[second] == "train").all()


def test_pairs_are_pictures_in_minus_1_to_1(faces):
    sampler = PairSampler(faces, 4, seed=0)
    first, second, same = sampler.rows(2)
    pairs = sampler.batch(2, CPU)
    assert torch.equal(pairs.first, faces.batch(first, first, CPU).i_gt)
    assert torch.equal(pairs.second, faces.batch(second, second, CPU).i_gt)
    assert pairs.same.tolist() == same.tolist()


def test_partners_of_other_people_are_uniform_over_the_splits_other_photos(faces):
    validation = faces.targets("validation")
    start, end = int(validation[0]), int(validation[-1]) + 1
    row = np.repeat(validation[:1], 4000)
    made = draw_partners(tables(faces, CPU), torch.from_numpy(row), (start, end), words(0, 0, torch.arange(4000)))
    partners, same = (part.numpy() for part in made)
    drawn, counts = np.unique(partners[same == 0], return_counts=True)
    others = [r for r in range(start, end) if faces.identity[r] != faces.identity[row[0]]]
    assert np.array_equal(drawn, others)
    expected = 2000 / len(others)
    assert ((counts - expected) ** 2 / expected).sum() < 3 * len(others)


def test_guides_are_dropped_and_wrong_in_the_shares_that_are_asked_for(faces):
    mixed = BatchSampler(faces, 400, seed=0, stream="generator", guide_dropout=0.25, other_guides=0.25)
    seen = []

    def watch(rows, guides, _device, _flip, _flip_guide, drop):
        seen.append((rows, guides, drop))

    faces.batch, before = watch, faces.batch
    try:
        mixed.batch(0, CPU)
    finally:
        faces.batch = before
    ((rows, guides, drop),) = seen
    wrong = faces.identity[rows] != faces.identity[guides]
    assert not (wrong & drop.numpy()).any()  # one or the other
    assert 0.18 < drop.float().mean() < 0.32
    assert 0.18 < wrong.mean() < 0.32
    assert (faces.manifest["split"].to_numpy()[guides] == "train").all()


def test_a_dropped_guide_is_the_mean_colour_and_the_others_are_as_they_were(faces):
    plain = BatchSampler(faces, 32, seed=0, stream="generator").batch(5, CPU)
    made = BatchSampler(faces, 32, seed=0, stream="generator", guide_dropout=0.5).batch(5, CPU)
    dropped = (made.i_gi == 0).flatten(1).all(dim=1)
    assert 0 < dropped.sum() < 32
    assert torch.equal(made.i_gi[~dropped], plain.i_gi[~dropped])
    assert torch.equal(made.i_gt, plain.i_gt)
    assert torch.equal(made.i_lr, plain.i_lr)


def test_shares_of_nought_draw_what_was_drawn_before_there_were_shares(faces):
    plain = BatchSampler(faces, 8, seed=0, stream="generator", horizontal_flip=True)
    made = BatchSampler(faces, 8, 0, "generator", True, guide_dropout=0.0, other_guides=0.0)
    assert torch.equal(plain.batch(3, CPU).i_gi, made.batch(3, CPU).i_gi)


def test_wrong_guides_need_other_people(tmp_path):
    alone = Faces(write_faces(tmp_path / "faces", identities=6, images=3))
    alone.manifest["split"] = ["train"] * 3 + ["test"] * (len(alone.manifest) - 3)
    with pytest.raises(DataError, match="two people"):
        BatchSampler(alone, 2, 0, "generator", other_guides=0.5)


def test_a_split_without_targets_is_refused(tmp_path):
    empty = Faces(write_faces(tmp_path / "faces", identities=6, images=3))
    empty.manifest["split"] = "test"
    with pytest.raises(DataError, match="no targets"):
        BatchSampler(empty, 2, 0, "generator")
