"""A `.npy` file of pictures that several processes write at once; how many it holds is known only at the end."""

import math
import re
from collections.abc import Sequence
from io import BytesIO, RawIOBase
from itertools import groupby
from pathlib import Path

import numpy as np

from gwainet.duplicates import SIDE
from gwainet.errors import DataError
from gwainet.images import BAD_ARRAY, Uint8
from gwainet.params import SCALE, Crop

_HEADER = {"descr": "|u1", "fortran_order": False}
_COUNT = re.compile(rb"'shape': \((\d{1,18}), ")
_COPIED_BYTES = 16 << 20  # of another file in memory at a time


class PackedPictures:
    """(N, height, width, 3) uint8, or (N, height, width) if `grey`, opened for writing.

    Args:
        path: of the file.
        height: of a picture, pixels.
        width: of a picture, pixels.
        create: begin a new file; otherwise another process has begun it.
        grey: pictures have no channels.

    Raises:
        DataError: what has been begun is no such file.
    """

    def __init__(self, path: Path, height: int, width: int, create: bool = False, grey: bool = False) -> None:
        self.shape: tuple[int, ...] = (height, width) if grey else (height, width, 3)
        self.size = math.prod(self.shape)
        self._file = path.open("w+b" if create else "r+b", buffering=0)
        if create:
            self._put(memoryview(self._header(0)))
        elif not self._begun():
            self._file.close()
            raise DataError(f"{path} does not begin as an array of pictures of {self.shape}: run prepare_faces again")
        self._head = len(self._header(0))

    def write(self, row: int, pictures: Uint8) -> None:
        """Write pictures from a row on; rows may be written in any order. Shapes: pictures (n, *shape)."""
        self._file.seek(self._head + row * self.size)
        self._put(np.ascontiguousarray(pictures).reshape(-1).data)

    def read(self, row: int, count: int) -> Uint8:
        """Pictures from a row on, fewer where the file ends. Shapes: -> (n, *shape)."""
        self._file.seek(self._head + row * self.size)
        content = self._file.read(count * self.size)
        found = len(content) // self.size
        return np.frombuffer(content, np.uint8, found * self.size).reshape(found, *self.shape)

    def move(self, rows: Sequence[int], start: int) -> None:
        """Move rows, sorted and none before its new place, to `start` and after; neighbours go together.

        Raises:
            DataError: the file is shorter than these rows.
        """
        piece = max(1, _COPIED_BYTES // self.size)
        steps = [(row, place) for place, row in enumerate(rows, start) if row != place]
        for _, together in groupby(steps, lambda step: step[0] - step[1]):
            run = list(together)
            for first in range(0, len(run), piece):  # ascending, as a run may lie over its own new place
                (row, place), count = run[first], len(run[first : first + piece])
                self._file.seek(self._head + row * self.size)
                pictures = self._file.read(count * self.size)
                if len(pictures) != count * self.size:
                    raise DataError(f"{self._file.name} ends before row {row + count}: run prepare_faces again")
                self._file.seek(self._head + place * self.size)
                self._put(memoryview(pictures))

    def append(self, start: int, path: Path) -> int:
        """Copy all pictures of another file to row `start` and after; how many they are.

        Raises:
            DataError: it holds other pictures than these, or fewer than its header says.
        """
        with path.open("rb", buffering=0) as source:
            try:
                np.lib.format.read_magic(source)
                (count, *shape), _, kind = np.lib.format.read_array_header_1_0(source)
            except (ValueError, *BAD_ARRAY) as error:
                raise DataError(f"{path} is no array of pictures ({error}): prepare its part again") from error
            self._file.seek(self._head + start * self.size)
            copied = 0
            while content := source.read(_COPIED_BYTES):
                self._put(memoryview(content))
                copied += len(content)
        if (*shape, kind) != (*self.shape, np.uint8) or copied != count * self.size:
            raise DataError(
                f"{path} holds {copied:,} bytes of {count:,} pictures of {shape}, {kind}, and {count:,} pictures of "
                f"{list(self.shape)}, uint8, have {count * self.size:,}: prepare its part again"
            )
        return int(count)

    def finish(self, count: int) -> None:
        """Cut the file after so many rows, and say in its header that these are all.

        Raises:
            RuntimeError: NumPy writes headers of another length by now.
        """
        self._file.truncate(self._head + count * self.size)
        self._file.seek(0)
        header = self._header(count)
        if len(header) != self._head:  # NumPy pads it for a growing first axis
            raise RuntimeError("the .npy header changed its length: report this, with NumPy's version")
        self._put(memoryview(header))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _header(self, count: int) -> bytes:
        """What the file of so many pictures begins with."""
        header = BytesIO()
        np.lib.format.write_array_header_1_0(header, {**_HEADER, "shape": (count, *self.shape)})
        return header.getvalue()

    def _begun(self) -> bool:
        """Whether the file begins as one of such pictures, however many of them."""
        found = self._file.read(len(self._header(0)))
        count = _COUNT.search(found)
        return count is not None and found == self._header(int(count[1]))

    def _put(self, content: memoryview) -> None:
        put(self._file, content)


def put(file: RawIOBase, content: bytes | memoryview) -> None:
    """Write all of it: an unbuffered file may take a part."""
    left = memoryview(content)
    while len(left):
        left = left[file.write(left) or 0 :]


class FaceArrays:
    """The arrays that preparation writes row by row.

    Raises:
        DataError: they are to go on from, and a file does not begin as it should.

    Attributes:
        hr: crops.
        lr: low-resolution images.
        small: `duplicates.small_faces`, which choosing guides needs, and nobody after that.
    """

    NAMES = ("hr.npy", "lr.npy", "small.npy")

    def __init__(self, directory: Path, box: Crop, create: bool = False) -> None:
        self.directory = directory
        hr, lr, small = (directory / name for name in self.NAMES)
        self.hr = PackedPictures(hr, box.height, box.width, create)
        self.lr = PackedPictures(lr, box.height // SCALE, box.width // SCALE, create)
        self.small = PackedPictures(small, SIDE, SIDE, create, grey=True)
        self.all = (self.hr, self.lr, self.small)

    def write(self, row: int, hr: Uint8, lr: Uint8, small: Uint8) -> None:
        """Write rows from `row` on. Shapes: (n, H, W, 3), (n, h, w, 3), (n, SIDE, SIDE)."""
        for pictures, content in zip(self.all, (hr, lr, small), strict=True):
            pictures.write(row, content)

    def move(self, rows: Sequence[int], start: int) -> None:
        """Move rows as `PackedPictures.move` does.

        Raises:
            DataError: a file is shorter than these rows.
        """
        for pictures in self.all:
            pictures.move(rows, start)

    def finish(self, count: int) -> None:
        """Cut all files after so many rows, and say in their headers that these are all."""
        for pictures in self.all:
            pictures.finish(count)

    def close(self) -> None:
        """Close the files."""
        for pictures in self.all:
            pictures.close()


def picture_bytes(height: int, width: int) -> int:
    """Bytes of a picture."""
    return height * width * 3
