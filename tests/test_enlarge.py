"""Every bit is Pillow's, for pictures that try the rounding and the clipping of both passes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gwainet.enlarge import enlarge
from gwainet.images import upscale


def assert_is_pillows(pictures: np.ndarray) -> None:
    made = enlarge(torch.from_numpy(pictures), 8)
    assert made.dtype == torch.uint8
    assert np.array_equal(made.numpy(), np.stack([upscale(picture) for picture in pictures]))


@pytest.mark.parametrize("shape", [(21, 18), (32, 32), (6, 5), (3, 40), (40, 3), (1, 1)])
def test_enlarged_noise_is_pillows(shape: tuple[int, int]):
    assert_is_pillows(np.random.default_rng(0).integers(0, 256, (20, *shape, 3), np.uint8))


@pytest.mark.parametrize("shape", [(21, 18), (5, 4)])
def test_hard_edges_are_clipped_between_the_passes_as_pillow_does(shape: tuple[int, int]):
    assert_is_pillows(np.random.default_rng(1).choice([0, 255], (20, *shape, 3)).astype(np.uint8))


def test_pictures_without_contrast_stay_as_they_are():
    pictures = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 4, 3), np.uint8)
    assert_is_pillows(pictures)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.binary(min_size=8, max_size=8))
def test_any_shape_is_pillows(height: int, width: int, seed: bytes):
    random = np.random.default_rng(int.from_bytes(seed, "little"))
    assert_is_pillows(random.integers(0, 256, (2, height, width, 3), np.uint8))
