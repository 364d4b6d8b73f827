"""Prepared faces: memory-mapped arrays, the manifest, and batches ready for the networks.

Batches are a pure function of (seed, step): a resumed training sees what an uninterrupted one would have seen.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from gwainet.errors import ContractError, DataError
from gwainet.images import Uint8, mapped
from gwainet.params import SCALE
from gwainet.tensors import Means, column, from_pictures, low_inputs, on_device

Split = Literal["train", "validation", "test"]
Rows = npt.NDArray[np.int64]
Places = TypeVar("Places", Rows, torch.Tensor)  # int64, on the host or on a device

POINTS = 5  # landmarks of a face: both eyes, nose, both corners of the mouth
_AGAIN = "run prepare_faces again"


class Batch(NamedTuple):
    """A batch for the networks, float32 tensors on one device.

    Attributes:
        i_lr: (B, 3, h, w), [0, 1] minus the LR mean.
        i_lru: (B, 3, H, W), [0, 1] minus the LR mean: bicubic 8x of I_LR, rounded to uint8 before (D4).
        i_gi: (B, 3, H, W), [0, 1] minus the HR mean.
        i_gt: (B, 3, H, W), [-1, 1].
    """

    i_lr: torch.Tensor
    i_lru: torch.Tensor
    i_gi: torch.Tensor
    i_gt: torch.Tensor


def another_photo(rows: Places, first: Places, size: Places, word: Places) -> Places:
    """A guide for each row: uniformly any other image of the identity, never the row itself (Sec. 4.1; D8).

    Shapes: (...) each -> (...).

    Args:
        rows: of the targets.
        first: the first row of each one's identity.
        size: images of each one's identity, two or more.
        word: random, in [0, 2^32).
    """
    shift: Places = 1 + ((word * (size - 1)) >> 32)
    return first + (rows - first + shift) % size


def another_person(first: Places, size: Places, bounds: tuple[int, int], word: Places) -> Places:
    """For each row: uniformly any photo of another person.

    Shapes: (...) each -> (...).

    Args:
        first: the first row of each one's identity.
        size: images of each one's identity.
        bounds: the rows [start, end) to choose from, in which the identity's lie.
        word: random, in [0, 2^32).
    """
    start, end = bounds
    place: Places = start + ((word * ((end - start) - size)) >> 32)
    return place + size * (place >= first)  # without the person's own rows, which are one run


def assemble(
    target: torch.Tensor,
    guide: torch.Tensor,
    low: torch.Tensor,
    mean: Mapping[str, torch.Tensor],
    flip: torch.Tensor | None = None,
    flip_guide: torch.Tensor | None = None,
    drop_guide: torch.Tensor | None = None,
) -> Batch:
    """Mirror, upscale, scale and centre pictures on the device where they lie (Sec. 4.2, preprocessing).

    Shapes: (B, H, W, 3), (B, H, W, 3), (B, h, w, 3), all uint8, and (B) bool each -> `Batch`.

    Args:
        target: I_GT.
        guide: I_GI.
        low: I_LR.
        mean: `lr` and `hr`, (1, 3, 1, 1), to be subtracted.
        flip: which targets to mirror, with their low-resolution images (D10).
        flip_guide: which guides to mirror.
        drop_guide: which guides to take away: 0, the mean colour, everywhere.
    """
    if flip is not None:
        target, low = _mirrored(target, flip), _mirrored(low, flip)
    if flip_guide is not None:
        guide = _mirrored(guide, flip_guide)
    i_gi = from_pictures(guide) - mean["hr"]
    if drop_guide is not None:
        i_gi = i_gi * ~drop_guide.view(-1, 1, 1, 1)
    return Batch(**low_inputs(low, mean["lr"]), i_gi=i_gi, i_gt=from_pictures(target) * 2 - 1)


def _mirrored(pictures: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
    return torch.where(which.view(-1, 1, 1, 1), pictures.flip(2), pictures)


class Faces:
    """What `prepare_faces` wrote, opened for reading.

    Rows are sorted by split, then identity: a person's images lie together, and a guide lies near its target.

    Attributes:
        info: `faces.json`.
        manifest: one row an image.
        hr: (N, H, W, 3), mapped: pages are read as they are needed.
        lr: (N, h, w, 3), mapped.
        landmarks: (N, 5, 2), float32, mapped: x, y of both eyes, nose and both corners of the mouth in pixels of the
            crop, NaN where one is not known or outside; None where the source brings none.
        offsets: (people + 1): the rows of person p of a split are offsets[p] up to offsets[p + 1].
        first_row: (N), first row of the row's person.
        identity_size: (N), images of the row's person in the split.

    Raises:
        DataError: a file is missing, or the files do not fit together.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self.info = json.loads((directory / "faces.json").read_text(encoding="utf-8"))
            self.manifest = pd.read_parquet(directory / "manifest.parquet")
            self.hr: Uint8 = mapped(directory / "hr.npy")
            self.lr: Uint8 = mapped(directory / "lr.npy")
            has_landmarks = "landmarks" in self.info
            self.landmarks: npt.NDArray[np.float32] | None = (
                mapped(directory / "landmarks.npy") if has_landmarks else None
            )
            self.height, self.width = int(self.info["height"]), int(self.info["width"])
            means = self.info["means"]
            self.means = Means(lr=_colour(means["lr"]), hr=_colour(means["hr"]))
            self.digest: str = self.info["digest"]
            self.fixed_guides: bool = self.info["guides"] == "fixed"
            self.guide_row: Rows = self.manifest["guide_row"].to_numpy(np.int64, copy=True)
            self.other_guide_row: Rows = self.manifest["other_guide_row"].to_numpy(np.int64)
            identity: Rows = self.manifest["identity_index"].to_numpy(np.int64)
            split = self.manifest["split"].to_numpy()
            self._is_target = self.manifest["is_target"].to_numpy(np.bool_)
        except KeyError as error:
            raise DataError(f"{directory} has no {error} in faces.json or the manifest: {_AGAIN}") from error
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{directory} holds no complete prepared faces ({error}): {_AGAIN}") from error
        count, height, width = len(self.manifest), self.height, self.width
        self._fits("hr.npy", self.hr, (count, height, width, 3), directory)
        self._fits("lr.npy", self.lr, (count, height // SCALE, width // SCALE, 3), directory)
        if self.landmarks is not None:
            self._fits("landmarks.npy", self.landmarks, (count, POINTS, 2), directory, np.float32)
        changes = np.r_[True, (identity[1:] != identity[:-1]) | (split[1:] != split[:-1]), True]
        self.offsets: Rows = np.flatnonzero(changes[: count + 1]).astype(np.int64)
        counts = np.diff(self.offsets)
        self.identity = identity
        self.first_row: Rows = np.repeat(self.offsets[:-1], counts)
        self.identity_size: Rows = np.repeat(counts, counts)
        # plain views of the same maps: indexing np.memmap itself costs some microseconds more
        self._hr: Uint8 = np.asarray(self.hr)
        self._lr: Uint8 = np.asarray(self.lr)
        alone = np.flatnonzero(self.identity_size < 2)
        if len(alone) and not self.fixed_guides:
            raise DataError(
                f"{directory}: row {alone[0]} of the manifest has no other image of its identity beside it that could "
                f"guide it: {_AGAIN}"
            )

    @staticmethod
    def _fits(
        name: str, array: object, shape: tuple[int, ...], directory: Path, kind: type[np.generic] = np.uint8
    ) -> None:
        found = (array.shape, array.dtype) if isinstance(array, np.ndarray) else type(array).__name__
        if found != (shape, kind):
            raise DataError(
                f"{directory}: {name} holds {found}, but faces.json and the manifest tell of {shape}, "
                f"{kind.__name__}: {_AGAIN}"
            )

    @property
    def has_landmarks(self) -> bool:
        """Whether there are landmarks, and a face of which all are known."""
        return self.landmarks is not None and self.info["landmarks"] > 0

    def targets(self, split: Split) -> Rows:
        """Rows of a split that are to be super-resolved."""
        chosen = (self.manifest["split"] == split).to_numpy() & self._is_target
        return np.flatnonzero(chosen).astype(np.int64)

    def pairs(self, rows: Rows, guide_rows: Rows) -> tuple[Uint8, Uint8]:
        """Copies of the targets and of the guides. Shapes: (B), (B) -> (B, H, W, 3), (B, H, W, 3)."""
        return self._hr[rows], self._hr[guide_rows]

    def batch(
        self,
        rows: Rows,
        guide_rows: Rows,
        device: torch.device,
        flip: torch.Tensor | None = None,
        flip_guide: torch.Tensor | None = None,
        drop_guide: torch.Tensor | None = None,
    ) -> Batch:
        """Read pictures and make a batch of them.

        Args:
            rows: of the targets.
            guide_rows: of the guides, as many.
            device: where the tensors go, and where they are made.
            flip: as `assemble` takes it, and so are the others.
            flip_guide: which guides to mirror.
            drop_guide: which guides to take away.
        """
        target, guide, low = (on_device(part, device) for part in (*self.pairs(rows, guide_rows), self._lr[rows]))
        return assemble(target, guide, low, self.columns(device), flip, flip_guide, drop_guide)

    def columns(self, device: torch.device) -> dict[str, torch.Tensor]:
        """The means `lr` and `hr`, (1, 3, 1, 1) each, on a device."""
        return {name: column(values, device) for name, values in asdict(self.means).items()}


def _colour(values: object) -> tuple[float, float, float]:
    """Three numbers, one a channel."""
    red, green, blue = np.asarray(values, np.float64).tolist()
    return red, green, blue


def open_checked(directory: Path, passed: Path) -> Faces:
    """Prepared faces that the data contract holds for.

    Args:
        directory: what `prepare_faces` wrote.
        passed: `passed.json` of `check_faces`.

    Raises:
        DataError: the faces are not complete.
        ContractError: they were not checked, or changed since.
    """
    faces = Faces(directory)
    try:
        digest = json.loads(passed.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ContractError(f"{passed} does not say that these faces were checked: run check_faces first") from None
    if digest != faces.digest:
        raise ContractError(f"{directory} changed after it was checked: run check_faces again")
    return faces
