"""What a preparation has done so far, so that the next run goes on where a killed one ended.

A file beside the arrays: a line that says what the rows are made of, then a line whenever some more photos are done.
Each line begins with its own CRC-32, so that one that was cut short, and all after it, count as never written. Rows are
read back and compared with their checksum before they are taken over: after a loss of power the disk may hold the line
and not the row.
"""

import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from gwainet.duplicates import small_faces
from gwainet.sources.checksum import pixel_digest
from gwainet.sources.crop import Cropped, Face
from gwainet.sources.packed import FaceArrays, put
from gwainet.sources.photo import Rejection

_NAME = "journal"
_FORMAT = "1"


class Journal:
    """The journal of a directory of `FaceArrays`.

    Args:
        directory: where the arrays lie.
        fingerprint: facts that must be equal for its rows to be taken over: params, digests of photos and code.

    Attributes:
        done: photos whose rows are there.
        differs: names of the facts that differ from those of a journal that lies there; it is of no use then.
        found: whether there is one of these facts.
    """

    def __init__(self, directory: Path, fingerprint: Mapping[str, str]) -> None:
        self.path = directory / _NAME
        self._fingerprint = {**fingerprint, "format": _FORMAT}
        self._file: FileIO | None = None
        self.done, self.found, self._end = 0, False, 0
        self.differs: list[str] = []
        if self.path.is_file():
            self._look()

    def _look(self) -> None:
        with self.path.open("rb") as file:
            first = _content(file.readline())
            if not isinstance(first, dict):
                return
            facts = {*first, *self._fingerprint}
            self.differs = sorted(name for name in facts if first.get(name) != self._fingerprint.get(name))
            self.found = not self.differs
            if self.found:
                self._end = file.tell()
                for line in file:
                    lines = _content(line)
                    if not isinstance(lines, list):
                        break
                    self.done += len(lines)
                    self._end += len(line)

    def open(self) -> None:
        """Begin to write: after what was `found`, or anew."""
        if self.found:
            self._file = FileIO(self.path, "r+")
            self._file.truncate(self._end)
            self._file.seek(self._end)
        else:
            self._file = FileIO(self.path, "w")
            put(self._file, _line(self._fingerprint))

    def add(self, results: Sequence[Face | Rejection]) -> None:
        """Note what became of the next photos, whose rows are written."""
        assert self._file is not None
        put(self._file, _line([_note(result) for result in results]))
        self.done += len(results)

    def finished(self, arrays: FaceArrays) -> Iterator[Face | Rejection]:
        """What became of the photos that are `done`, to be read to its end before anything is added.

        Ends before the first whose row is not as it was written, and forgets what comes after it.
        """
        assert self._file is not None
        with self.path.open("rb") as file:
            file.readline()
            row = 0
            while file.tell() < self._end:
                begin = file.tell()
                results = [_result(note) for note in _content(file.readline())]
                if not _as_written(arrays, row, results):
                    self.done, self._end = row, begin
                    self._file.truncate(begin)
                    self._file.seek(begin)
                    return
                row += len(results)
                yield from results

    def forget(self) -> None:
        """Remove the file: the rows are about to change their places, or are all done."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _line(value: object) -> bytes:
    text = json.dumps(value).encode()
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _content(line: bytes) -> Any:  # noqa: ANN401  whatever JSON is
    """What a line holds; None if it was not written whole."""
    crc, _, text = line.rstrip(b"\n").partition(b" ")
    whole = line.endswith(b"\n") and crc == b"%08x" % zlib.crc32(text)
    return json.loads(text) if whole else None


def _note(result: Face | Rejection) -> list[Any]:
    if isinstance(result, Rejection):
        return [result.file, result.reason, result.detail]
    return [*result.photo, result.pixels, result.sums]


def _result(note: list[Any]) -> Face | Rejection:
    if len(note) == 3:
        return Rejection(*note)
    *photo, pixels, (lr, hr) = note
    return Face(Cropped(*photo), pixels, (lr, hr))


def _as_written(arrays: FaceArrays, first: int, results: Sequence[Face | Rejection]) -> bool:
    """Whether rows are those that the results tell of, and small faces those of their crops."""
    hr, lr, small = (pictures.read(first, len(results)) for pictures in arrays.all)
    if min(len(hr), len(lr), len(small)) < len(results):
        return False
    faces = [place for place, result in enumerate(results) if isinstance(result, Face)]
    if not np.array_equal(small[faces], small_faces(hr[faces])):
        return False
    return all(
        result.pixels == pixel_digest(crop, low)
        for result, crop, low in zip(results, hr, lr, strict=True)
        if isinstance(result, Face)
    )
