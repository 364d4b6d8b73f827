"""Prepared faces as `check_faces` sees them: opened without trust, and measured in one pass over the arrays."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gwainet import distributions, duplicates
from gwainet.errors import DataError
from gwainet.images import Uint8, channel_sums, mapped
from gwainet.progress import progress

CHUNK_BYTES = 32 * 2**20  # of an array in memory at a time, however large the array is

Numbers = npt.NDArray[np.int64]


class Listed(BaseModel):
    """What the source's lists hold; splits only where it brings them."""

    photos: int
    identities: int
    splits: dict[str, int]


class InfoMeans(BaseModel):
    """Means of the training split, in [0, 1], of the low-resolution images and of the crops."""

    lr: tuple[float, float, float]
    hr: tuple[float, float, float]


class Info(BaseModel):
    """What the contract reads of faces.json."""

    model_config = ConfigDict(frozen=True)

    format: Literal[1]
    source: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    means: InfoMeans
    images: dict[str, int]
    identities: dict[str, int]
    found: int
    listed: Listed | None = None  # absent from faces that were prepared before it was recorded
    rejected: dict[str, int]
    dropped: dict[str, int]
    digest: str
    source_digest: str
    landmarks: int | None = None  # faces with all of them; None where the source brings none


@dataclass(frozen=True)
class Prepared:
    """Prepared faces as they lie there: nothing is taken for granted yet."""

    info: Info
    manifest: pd.DataFrame
    hr: Uint8
    lr: Uint8
    landmarks: npt.NDArray[np.float32] | None = None  # (N, 5, 2), pixels of the crop, NaN where not known


@dataclass(frozen=True)
class Pixels:
    """What one pass over the arrays gives.

    Attributes:
        brightest: (N,) largest value of a crop, 0 to 255.
        hr: (N, 3) sum of a crop's values per channel.
        lr: (N, 3) the same of the low-resolution image.
        statistics: (N, S) `distributions.measure` of a crop.
        faces: (N, s, s) `duplicates.small_face` of a crop.
        hashes: (N, 4) `duplicates.perceptual_hash` of a crop.
    """

    brightest: Numbers
    hr: Numbers
    lr: Numbers
    statistics: npt.NDArray[np.float64]
    faces: Uint8
    hashes: duplicates.Hashes

    @classmethod
    def empty(cls, count: int) -> Self:
        """To be filled in."""
        return cls(
            np.empty(count, np.int64),
            np.empty((count, 3), np.int64),
            np.empty((count, 3), np.int64),
            np.empty((count, len(distributions.STATISTICS))),
            np.empty((count, duplicates.SIDE, duplicates.SIDE), np.uint8),
            np.empty((count, duplicates.WORDS), np.uint64),
        )


def open_prepared(faces: Path) -> Prepared:
    """Open what `prepare_faces` wrote, as far as it can be opened at all.

    Raises:
        DataError: a file is missing or damaged, or there are no images.
    """
    again = "run prepare_faces again"
    try:
        info = Info.model_validate(json.loads((faces / "faces.json").read_text(encoding="utf-8")))
        manifest = pd.read_parquet(faces / "manifest.parquet")
        hr, lr = (mapped(faces / name) for name in ("hr.npy", "lr.npy"))
        landmarks = None if info.landmarks is None else mapped(faces / "landmarks.npy")
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise DataError(f"{faces / 'faces.json'} is not what docs/formats.md promises ({problems}): {again}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{faces} holds no complete prepared faces ({error}): {again}") from error
    if manifest.empty:
        raise DataError(f"{faces} has no images at all: see rejected.csv there for the reasons, then {again}")
    return Prepared(info, manifest.reset_index(drop=True), hr, lr, landmarks)


def measure(prepared: Prepared) -> Pixels:
    """Read the arrays once, in chunks, so that memory does not grow with their length."""
    count = len(prepared.hr)
    pixels = Pixels.empty(count)
    step = max(1, CHUNK_BYTES // prepared.hr[0].nbytes)
    with progress("Reading the prepared faces", count, "images") as bar:
        for start in range(0, count, step):
            part = slice(start, start + step)
            crops = np.ascontiguousarray(prepared.hr[part])
            pixels.brightest[part] = crops.reshape(len(crops), -1).max(axis=1)
            pixels.hr[part] = channel_sums(crops)
            pixels.lr[part] = channel_sums(np.ascontiguousarray(prepared.lr[part]))
            for row, crop in enumerate(crops, start):
                pixels.statistics[row] = distributions.measure(crop)
                pixels.faces[row] = duplicates.small_face(crop)
                pixels.hashes[row] = duplicates.perceptual_hash(crop)
            bar.advance(len(crops))
    return pixels
