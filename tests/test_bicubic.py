"""The quick bicubic is Pillow's, bit for bit, whatever the picture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gwainet import bicubic, images
from gwainet.bicubic import reduce_exactly, reduces_exactly
from gwainet.images import Uint8, downscale
from gwainet.people.photo import draw_photo

SIZES = [(168, 144), (256, 256), (32, 24), (8, 8), (8, 64), (16, 8), (64, 8 * 40), (288, 144)]


def pillow(image: Uint8, scale: int = 8) -> Uint8:
    size = image.shape[1] // scale, image.shape[0] // scale
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def picture(kind: str, shape: tuple[int, int], seed: int) -> Uint8:
    """Pictures that are hard in different ways."""
    random = np.random.default_rng(seed)
    height, width = shape
    if kind == "noise":
        return random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "extremes":
        return (random.integers(0, 2, (height, width, 3)) * 255).astype(np.uint8)
    if kind == "checkers":
        cell = random.integers(1, 17, 3)
        rows, columns = np.arange(height)[:, None, None] // cell, np.arange(width)[None, :, None] // cell
        return ((rows + columns + random.integers(0, 2)) % 2 * 255).astype(np.uint8)
    if kind == "edges":  # the most that a sum can undershoot and overshoot
        image = np.zeros((height, width, 3), np.uint8)
        image[random.integers(0, height) :, random.integers(0, width) :] = 255
        return image if random.random() < 0.5 else 255 - image
    if kind == "flat":
        base = int(random.integers(0, 256))
        return np.clip(base + random.integers(-1, 2, (height, width, 3)), 0, 255).astype(np.uint8)
    smooth = Image.fromarray(random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
    return np.asarray(smooth.resize((width, height), Image.Resampling.BILINEAR))


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["noise", "extremes", "checkers", "edges", "flat", "smooth"]),
    shape=st.sampled_from(SIZES),
    count=st.integers(1, 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_picture_is_reduced_as_by_pillow(kind: str, shape: tuple[int, int], count: int, seed: int) -> None:
    batch = np.stack([picture(kind, shape, seed + number) for number in range(count)])
    assert reduces_exactly(batch, 8)
    assert np.array_equal(reduce_exactly(batch, 8), np.stack([pillow(image) for image in batch]))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    scale=st.sampled_from([2, 3, 4, 5, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_shape_and_scale_is_pillows_or_refused(height: int, width: int, scale: int, seed: int) -> None:
    image = picture("extremes", (height * scale, width * scale), seed)
    if height > 2 * width:
        assert not reduces_exactly(image, scale)
    else:
        assert reduces_exactly(image, scale)
        assert np.array_equal(reduce_exactly(image, scale), pillow(image, scale))


@pytest.mark.parametrize("shape", [(168, 144), (256, 256)])
def test_a_thousand_noisy_pictures_hold_no_pixel_that_rounds_another_way(shape: tuple[int, int]) -> None:
    for seed in range(1000 * 168 * 144 // (shape[0] * shape[1]) // 8):
        batch = np.stack([picture(("noise", "extremes")[seed % 2], shape, 8 * seed + number) for number in range(8)])
        assert np.array_equal(reduce_exactly(batch, 8), np.stack([pillow(image) for image in batch]))


def test_drawn_faces_are_reduced_as_by_pillow() -> None:
    faces = np.stack([draw_photo(0, identity, 0, 1)[25:193, 17:161] for identity in range(4)])
    assert np.array_equal(reduce_exactly(faces, 8), np.stack([pillow(face) for face in faces]))


def test_without_opencv_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture("noise", (168, 144), 0)
    with_it, sums = reduce_exactly(image, 8), images.channel_sums(image)
    monkeypatch.setattr(bicubic, "cv2", None)
    monkeypatch.setattr(images, "cv2", None)
    assert np.array_equal(reduce_exactly(image, 8), with_it)
    assert np.array_equal(images.channel_sums(image), sums)
    assert sums.tolist() == image.sum((0, 1)).tolist()


def test_sums_near_a_half_are_summed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    image = picture("noise", (168, 144), 1)
    across = bicubic._pass(144, 18, 504)
    counts, exact = [], bicubic._exact

    def counted(seen, weights):
        counts.append(len(seen))
        return exact(seen, weights)

    monkeypatch.setattr(bicubic, "_exact", counted)
    reduce_exactly(image, 8)
    assert 0 < sum(counts) < 0.005 * 168 * 54
    assert across.error < 1e-3


def test_products_are_small_enough_for_one_thread_and_cover_every_output_once() -> None:
    for inputs, outputs, lines in [(144, 18, 504), (168, 21, 18), (256, 32, 768), (1024, 128, 3072)]:
        blocks = bicubic._pass(inputs, outputs, lines).blocks
        assert [n for block in blocks for n in range(outputs)[block.outputs]] == list(range(outputs))
        if lines <= 1000:
            assert all(block.weights.size * lines <= bicubic._PRODUCTS for block in blocks)


def test_what_cannot_be_reduced_exactly_goes_to_pillow() -> None:
    tall, odd = picture("noise", (512, 144), 0), picture("noise", (100, 90), 1)
    assert not reduces_exactly(tall, 8)
    assert not reduces_exactly(odd, 8)
    assert np.array_equal(downscale(tall), pillow(tall))
    assert np.array_equal(downscale(odd), pillow(odd))
    assert np.array_equal(downscale(np.stack([tall, tall[::-1]]))[1], pillow(np.ascontiguousarray(tall[::-1])))
