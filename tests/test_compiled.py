"""What Numba compiles gives the same bytes as the ways without it."""

import importlib.util
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import caching

from gwainet import bicubic, compiled, duplicates, progress
from gwainet.bicubic import reduce_exactly
from gwainet.files import tree_digest
from gwainet.sources.checksum import _keys, pixel_digest, pixel_digests
from tests.photos import params, people, photo, write_zip
from tests.stages.test_prepare_faces import prepare
from tests.test_bicubic import SIZES, picture, pillow

KINDS = ["noise", "extremes", "checkers", "edges", "flat", "smooth"]


@pytest.fixture(scope="module", autouse=True)
def loops() -> Iterator[None]:
    compiled.expect(compiled.PAYS_FROM)
    assert compiled.ready()
    yield
    compiled._loaded = None


def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "_loaded", None)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    shape=st.sampled_from(SIZES),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_picture_is_reduced_as_by_pillow(kind: str, shape: tuple[int, int], count: int, seed: int) -> None:
    batch = np.stack([picture(kind, shape, seed + number) for number in range(count)])
    assert np.array_equal(reduce_exactly(batch, 8), np.stack([pillow(image) for image in batch]))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    scale=st.sampled_from([2, 3, 4, 5, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_shape_and_scale_is_pillows(height: int, width: int, scale: int, seed: int) -> None:
    image = picture("extremes", (height * scale, width * scale), seed)
    if height <= 2 * width:
        assert np.array_equal(reduce_exactly(image, scale), pillow(image, scale))


def test_the_loops_and_not_the_products_reduce(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("the products were taken")

    monkeypatch.setattr(bicubic, "_rows", refused)
    reduce_exactly(picture("noise", (168, 144), 0), 8)
    without(monkeypatch)
    with pytest.raises(AssertionError, match="products"):
        reduce_exactly(picture("noise", (168, 144), 0), 8)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(1, 20),
    seed=st.integers(0, 2**32 - 1),
)
def test_small_faces_are_pillows(kind: str, height: int, width: int, count: int, seed: int) -> None:
    crops = np.stack([picture(kind, (8 * height, 8 * width), seed + number) for number in range(count)])
    assert np.array_equal(duplicates.small_faces(crops), np.stack([duplicates.small_face(crop) for crop in crops]))


def test_small_faces_of_the_papers_crops_are_not_made_by_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("Pillow was asked")

    shapes = ((168, 144), (256, 256))
    assert all(duplicates._loops_are_pillows(*shape) for shape in shapes)
    monkeypatch.setattr(duplicates, "small_face", refused)
    for shape in shapes:
        duplicates.small_faces(picture("noise", shape, 0)[None])


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 17])
def test_pictures_turned_together_become_what_each_becomes_alone(count: int) -> None:
    crops = np.stack([picture("noise", (168, 144), number) for number in range(count)])
    turned = compiled.Turned(crops)
    low, faces = reduce_exactly(crops, 8, turned), duplicates.small_faces(crops, turned)
    for row, crop in enumerate(crops):
        assert np.array_equal(low[row], pillow(crop))
        assert np.array_equal(faces[row], duplicates.small_face(crop))
        assert pixel_digests(crops, low)[row] == pixel_digest(crop, low[row])


def test_what_was_turned_must_be_the_pictures_asked_for() -> None:
    crops = np.stack([picture("noise", (168, 144), number) for number in range(2)])
    with pytest.raises(AssertionError):
        reduce_exactly(crops, 8, compiled.Turned(crops[::-1]))
    with pytest.raises(AssertionError):
        duplicates.small_faces(crops, compiled.Turned(crops[::-1]))


def test_there_may_be_no_picture() -> None:
    none = np.empty((0, 168, 144, 3), np.uint8)
    assert pixel_digests(none, none[:, ::8, ::8]) == []
    assert duplicates.small_faces(none).shape == (0, 32, 32)


def test_a_checksum_is_the_documented_sum_with_and_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    hr, lr = picture("noise", (168, 144), 0), picture("noise", (16, 16), 1)
    words = [int.from_bytes(hr.tobytes()[start : start + 4], "little") for start in range(0, hr.size, 4)]
    total = sum(word * int(key) for word, key in zip(words, _keys(len(words)), strict=True)) % 2**64
    wanted = f"{total:016x}{zlib.crc32(lr.tobytes()):08x}"
    assert pixel_digest(hr, lr) == wanted
    without(monkeypatch)
    assert pixel_digest(hr, lr) == wanted


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 168 * 144 * 3 - 1), st.integers(1, 255), st.booleans())
def test_a_checksum_changes_with_any_byte(place: int, by: int, low: bool) -> None:
    hr, lr = picture("smooth", (168, 144), 0).copy(), picture("smooth", (16, 16), 1).copy()
    before = pixel_digest(hr, lr)
    changed = (lr if low else hr).reshape(-1)
    changed[place % changed.size] ^= np.uint8(by)
    assert pixel_digest(hr, lr) != before


def test_few_pictures_do_not_load_them_and_a_machine_without_numba_goes_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch)
    compiled.expect(compiled.PAYS_FROM - 1)
    assert not compiled.ready()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    compiled.expect(compiled.PAYS_FROM)
    assert not compiled.ready()


@pytest.mark.parametrize("error", ["ImportError('Numba needs NumPy 2.3 or less')", "OSError('no llvmlite.so')"])
def test_a_numba_that_cannot_be_imported_is_said_once_and_numpy_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str
) -> None:
    said: list[str] = []
    without(monkeypatch)
    monkeypatch.setattr(compiled, "_failed", False)
    monkeypatch.setattr(progress, "say", said.append)
    (tmp_path / "numba").mkdir()
    (tmp_path / "numba" / "__init__.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numba")
    for _ in range(2):
        compiled.expect(compiled.PAYS_FROM)
    assert not compiled.ready()
    assert len(said) == 1
    assert error.split("'")[1] in said[0]
    image = picture("noise", (168, 144), 0)
    assert np.array_equal(reduce_exactly(image, 8), pillow(image, 8))


def test_where_nothing_can_be_kept_they_are_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(lambda number: number)
    monkeypatch.setattr(compiled, "_loaded", compiled._compile())
    words = np.array([[2, 3], [1, 0]], np.uint32)
    assert compiled.sum_products(words, np.array([5, 7], np.uint64)).tolist() == [31, 5]


def test_the_stage_writes_the_same_bytes_with_and_without_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    members = people(6, 3) | {f"set/person{n // 3:02}/j{n}.jpg": photo(90 + n, "JPEG") for n in range(18)}
    write_zip(tmp_path / "source" / "set.zip", members)
    with_them = prepare(tmp_path, params("folder", "set.zip"), "with")
    without(monkeypatch)
    assert tree_digest(prepare(tmp_path, params("folder", "set.zip"), "without")) == tree_digest(with_them)
