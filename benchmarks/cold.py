"""Random pairs (target, guide) whose pages are not in memory, as in a first epoch: the mapped array and raw LMDB.

Before each turn a form drops its pages, which works on Linux and where temporary files lie on a disk. No page is
dropped that is mapped, here or by another process, so each form has a copy of its store for itself and opens it again
for every turn.
"""

import atexit
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import lmdb
import numpy as np

from benchmarks import pairs
from benchmarks.pairs import BATCH, prepared
from benchmarks.timing import Value, Work
from gwainet.dataset import Faces, Rows
from gwainet.images import Uint8

PAIRS = pairs.FACES  # an epoch: each face is a target once


class _Opened(Protocol):
    """A store that is open, and so keeps its pages in memory."""

    def pairs(self, rows: Rows, guide_rows: Rows) -> tuple[Uint8, Uint8]:
        """Copies of both."""


def reading(name: str, opening: Callable[[Path], AbstractContextManager[_Opened]], _threads: int) -> Work:
    """So many pairs, in batches, read from a copy of `prepared()/name`."""
    own = Path(tempfile.mkdtemp(prefix="gwainet-benchmark-cold-"))
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    store = own / name
    shutil.copytree(prepared() / name, store)
    _check_disk(own)
    faces = Faces(prepared() / "faces")  # for its manifest: none of its pictures is read
    turns = ExitStack()

    def cold() -> _Opened:
        turns.close()
        for file in store.iterdir():
            _drop(file)
        return turns.enter_context(opening(store))

    ready = [cold()]

    def work() -> Callable[[], Value]:
        random, first, opened = np.random.default_rng(0), "", ready.pop()
        for rows in random.permutation(len(faces.hr)).reshape(-1, BATCH):
            both = opened.pairs(rows, pairs.guides(faces, rows, random))
            first = first or hashlib.sha256(np.stack(both).data).hexdigest()
        return partial(again, first)

    def again(first: str) -> Value:
        """When the clock has stopped."""
        ready.append(cold())
        return {"first batch": first}

    return work


def _check_disk(folder: Path) -> None:
    """Write a file, drop its pages and read it.

    Raises:
        RuntimeError: it did not come from a disk.
    """
    probe = folder / "probe"
    probe.write_bytes(bytes(2**20))
    _drop(probe)
    before = bytes_read()
    probe.read_bytes()
    if bytes_read() == before:
        raise RuntimeError(f"{folder} lies in memory: set TMPDIR to a folder on a disk")


def bytes_read() -> int:
    """What this process has read from disks so far."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("read_bytes")).split()[1])


def _drop(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)  # pages that are not written yet stay
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


@dataclass(frozen=True)
class _Lmdb:
    store: lmdb.Environment
    faces: Faces

    def pairs(self, rows: Rows, guide_rows: Rows) -> tuple[Uint8, Uint8]:
        return pairs.copied(self.store, pairs.as_it_is, self.faces, rows, guide_rows)


@contextmanager
def _lmdb(readahead: bool, path: Path) -> Iterator[_Lmdb]:
    with lmdb.open(str(path), readonly=True, lock=False, readahead=readahead) as store:
        yield _Lmdb(store, Faces(prepared() / "faces"))


@contextmanager
def _mapped(path: Path) -> Iterator[Faces]:
    yield Faces(path)  # its maps go with the last reference to it


FORMS: dict[str, Callable[[int], Work]] = {
    "LMDB of raw pictures, as BasicSR opens it": partial(reading, "raw.lmdb", partial(_lmdb, False)),
    "LMDB of raw pictures, readahead": partial(reading, "raw.lmdb", partial(_lmdb, True)),
    "mapped array, as trainings read it": partial(reading, "faces", _mapped),
}
