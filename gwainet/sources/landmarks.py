"""Five places of each face, as CelebA's list tells them, and where they lie in its crop.

They lead the warp of one system of other papers alone (docs/baselines.md). So they are no part of a photo: what is
decoded, and how, does not depend on them.
"""

import math
from array import array
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gwainet.errors import SourceError
from gwainet.params import Crop
from gwainet.sources.names import is_photo

Places = npt.NDArray[np.float32]  # (N, 5, 2): x, y; whole numbers are centres of pixels, from 0

POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")  # left and right as one looks at the photo
COLUMNS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
_REMEDY = "the file is damaged or not complete, get it again"


@dataclass(frozen=True, eq=False)
class Landmarks:
    """What a list tells of all photos.

    Attributes:
        path: of the list, for messages.
        rows: photo -> its row of `places`.
        places: (N, 5, 2), pixels of the photo.
    """

    path: Path
    rows: Mapping[str, int]
    places: Places

    def renamed(self, names: Mapping[str, str]) -> "Landmarks":
        """Of some photos alone, under other names. Args: names: the list's name -> another."""
        return Landmarks(self.path, {names[name]: row for name, row in self.rows.items() if name in names}, self.places)

    def check(self, box: Crop) -> None:
        """Stop before any photo is decoded where the list is hardly that of photos that are to be cropped so.

        Raises:
            SourceError: most of the places lie outside the crop.
        """
        inside = float(_inside(self.places[list(self.rows.values())], box).mean())
        if inside < 0.5:  # of the right list and an aligned face's crop nearly all are inside
            raise SourceError(
                f"{self.path}: {inside:.0%} of the landmarks lie in the crop of {box.height} x {box.width} pixels from "
                f"({box.top}, {box.left}) on (rows, columns): is the list that of these photos? CelebA's for its "
                "aligned photos is list_landmarks_align_celeba.txt. Without any list, all but "
                "train_baselines@gfrnet_landmarks is trained"
            )

    def in_crops(self, files: Sequence[str], box: Crop, turned: Container[str] = ()) -> Places:
        """Where the landmarks of photos lie in their crops. Crops are cut out, never scaled.

        Shapes: N -> (N, 5, 2), pixels of the crop; NaN: not known, or outside the crop, as is
        all that lies outside the photo.

        Args:
            files: the photos.
            box: the crop.
            turned: photos that do not lie as their list's places do: none of theirs is known.
        """
        places = self.places[np.array([self.rows[file] for file in files], np.int64)]
        known = _inside(places, box) & ~np.array([file in turned for file in files], np.bool_)[:, None]
        places -= np.array([box.left, box.top], np.float32)
        places[~known] = np.nan
        return places


def _inside(places: Places, box: Crop) -> npt.NDArray[np.bool_]:
    """Which places of a photo lie in its crop. Shapes: (N, 5, 2) -> (N, 5)."""
    first = np.array([box.left, box.top], np.float32)
    last = first + np.array([box.width - 1, box.height - 1], np.float32)
    inside: npt.NDArray[np.bool_] = np.all((places >= first) & (places <= last), axis=2)
    return inside


def read_landmarks(path: Path, text: str) -> Landmarks:
    """Read `list_landmarks_align_celeba.txt`.

    Its first line is the number of photos, its second names the columns (either may be left out), then lines
    `000001.jpg 69 109 106 113 77 142 73 152 108 154`, or with commas.

    Args:
        path: for messages.
        text: of the file.

    Raises:
        SourceError: a line does not fit, or there are more or fewer than the first line says.
    """
    rows: dict[str, int] = {}
    values = array("f")
    count: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.replace(",", " ").split()
        if not fields:
            continue
        where = f"{path}, line {number}"
        if not rows and not is_photo(fields[0]):
            if len(fields) == 1 and count is None and fields[0].isdecimal() and len(fields[0]) < 12:
                count = int(fields[0])
            elif tuple(fields[-len(COLUMNS) :]) != COLUMNS or len(fields) > len(COLUMNS) + 1:
                raise SourceError(f"{where}: expected the columns {' '.join(COLUMNS)}, found {line[:200]!r}: {_REMEDY}")
            continue
        places = _places(fields)
        if places is None:
            raise SourceError(
                f"{where}: expected a photo's name and {len(COLUMNS)} places in it, in pixels, found {line[:200]!r}: "
                f"{_REMEDY}"
            )
        if fields[0] in rows:
            raise SourceError(f"{where}: {fields[0]} has a row already: {_REMEDY}")
        rows[fields[0]] = len(rows)
        values.extend(places)
    if not rows:
        raise SourceError(f"{path} has no rows: each line must hold a photo's name and five places: {_REMEDY}")
    if count is not None and count != len(rows):
        raise SourceError(f"{path} has {len(rows):,} rows, and its first line says {count:,}: {_REMEDY}")
    return Landmarks(path, rows, np.array(values, np.float32).reshape(-1, len(POINTS), 2))


def _places(fields: Sequence[str]) -> list[float] | None:
    """The numbers of a row; None where they are no places."""
    if len(fields) != 1 + len(COLUMNS) or not is_photo(fields[0]):
        return None
    try:
        places = [float(field) for field in fields[1:]]
    except ValueError:
        return None
    return places if all(map(math.isfinite, places)) else None
