"""A file of pictures that several processes write."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gwainet.errors import DataError
from gwainet.sources import packed
from gwainet.sources.packed import PackedPictures, picture_bytes


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 2, 3), dtype=np.uint8)


def test_rows_written_in_any_order_by_several_writers_lie_in_theirs(tmp_path: Path) -> None:
    path, wanted = tmp_path / "hr.npy", pictures(10)
    with closing(PackedPictures(path, 3, 2, create=True)) as first, closing(PackedPictures(path, 3, 2)) as second:
        second.write(6, wanted[6:])
        first.write(0, wanted[:2])
        second.write(2, wanted[2:6])
        first.finish(10)
    assert np.array_equal(np.load(path), wanted)
    assert np.array_equal(np.load(path, mmap_mode="r"), wanted)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.booleans(), max_size=6), max_size=6))
def test_an_array_written_in_pieces_holds_what_was_kept(tmp_path_factory, groups: list[list[bool]]) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.npy"
    everything = pictures(sum(map(len, groups)))
    kept: list[int] = []
    with closing(PackedPictures(path, 3, 2, create=True)) as rows:
        rows.write(0, everything)
        first = 0
        for group in groups:
            places = [first + index for index, keep in enumerate(group) if keep]
            rows.move(places, len(kept))
            kept += places
            first += len(group)
        rows.finish(len(kept))
    assert np.array_equal(np.load(path), everything[kept])


def test_a_file_is_numpys_own_to_the_byte(tmp_path: Path) -> None:
    wanted = pictures(4)
    with closing(PackedPictures(tmp_path / "a.npy", 3, 2, create=True)) as rows:
        rows.write(0, np.concatenate([wanted, wanted]))
        rows.finish(4)
    np.save(tmp_path / "b.npy", wanted)
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


def test_rows_are_moved_in_pieces_that_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (50, 2, 3, 3), np.uint8)
    monkeypatch.setattr(packed, "_COPIED_BYTES", 4 * picture_bytes(2, 3))
    path = tmp_path / "hr.npy"
    with closing(PackedPictures(path, 2, 3, create=True)) as made:
        made.write(0, pictures)
        made.move(range(1, 50), 0)
        made.finish(49)
    assert np.array_equal(np.load(path), pictures[1:])


def test_rows_that_are_not_there_are_not_moved_as_nothing(tmp_path: Path) -> None:
    with closing(PackedPictures(tmp_path / "hr.npy", 2, 3, create=True)) as made:
        made.write(0, np.zeros((3, 2, 3, 3), np.uint8))
        with pytest.raises(DataError, match="ends before row 5"):
            made.move(range(1, 5), 0)
