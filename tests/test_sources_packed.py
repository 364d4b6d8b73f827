"""A file of pictures that several processes write."""

from contextlib import closing
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gwainet.sources.packed import PackedPictures


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
