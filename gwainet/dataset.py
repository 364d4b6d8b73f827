"""Prepared faces: memory-mapped arrays, the manifest, and batches ready for the networks.

Batches are a pure function of (seed, step): a resumed training sees what an uninterrupted one would have seen.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from gwainet.errors import DataError
from gwainet.images import Uint8, upscale

Split = Literal["train", "validation", "test"]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Means:
    """Per-channel means of the training split, RGB in [0, 1] (Sec. 4.2; D6).

    `lr` is subtracted from I_LR and I_LRU, `hr` from the guide.
    """

    lr: tuple[float, float, float]
    hr: tuple[float, float, float]


@dataclass(frozen=True)
class Batch:
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


class Faces:
    """What `prepare_faces` wrote, opened for reading.

    Raises:
        DataError: a file is missing, or the files do not fit together.
    """

    def __init__(self, directory: Path) -> None:
        try:
            self.info = json.loads((directory / "faces.json").read_text(encoding="utf-8"))
            self.manifest = pd.read_parquet(directory / "manifest.parquet")
            self.hr: Uint8 = np.load(directory / "hr.npy", mmap_mode="r")
            self.lr: Uint8 = np.load(directory / "lr.npy", mmap_mode="r")
        except (FileNotFoundError, json.JSONDecodeError, ValueError, OSError) as error:
            raise DataError(f"{directory} holds no complete prepared faces ({error}): run prepare_faces again") from error
        if not len(self.manifest) == len(self.hr) == len(self.lr):
            raise DataError(
                f"{directory}: the manifest has {len(self.manifest)} rows, hr.npy {len(self.hr)} and lr.npy "
                f"{len(self.lr)} images: run prepare_faces again"
            )
        means = self.info["means"]
        self.means = Means(lr=tuple(means["lr"]), hr=tuple(means["hr"]))
        self.digest: str = self.info["digest"]
        self.height, self.width = int(self.hr.shape[1]), int(self.hr.shape[2])
        self.fixed_guides: bool = self.info["guides"] == "fixed"
        self.guide_row: Rows = self.manifest["guide_row"].to_numpy(np.int64)
        self.other_guide_row: Rows = self.manifest["other_guide_row"].to_numpy(np.int64)
        identity: Rows = self.manifest["identity_index"].to_numpy(np.int64)
        # rows are sorted by identity within a split, so an identity is one run of rows
        starts = np.flatnonzero(np.r_[True, identity[1:] != identity[:-1]])
        counts = np.diff(np.r_[starts, len(identity)])
        run = np.repeat(np.arange(len(starts)), counts)
        self.identity = identity
        self.first_row: Rows = starts[run].astype(np.int64)
        self.identity_size: Rows = counts[run].astype(np.int64)

    def targets(self, split: Split) -> Rows:
        """Rows of a split that are to be super-resolved."""
        chosen = (self.manifest["split"] == split) & self.manifest["is_target"]
        return np.flatnonzero(chosen.to_numpy()).astype(np.int64)

    def draw_guides(self, rows: Rows, random: np.random.Generator) -> Rows:
        """A guide for each row: uniformly any other image of the identity, never the target itself (Sec. 4.1; D8)."""
        if self.fixed_guides:
            return self.guide_row[rows]
        size, first = self.identity_size[rows], self.first_row[rows]
        shift = 1 + (random.random(len(rows)) * (size - 1)).astype(np.int64)
        return first + (rows - first + shift) % size

    def batch(
        self,
        rows: Rows,
        guide_rows: Rows,
        device: torch.device,
        flip: npt.NDArray[np.bool_] | None = None,
        flip_guide: npt.NDArray[np.bool_] | None = None,
    ) -> Batch:
        """Read, upscale, scale and centre (Sec. 4.2, preprocessing).

        Args:
            rows: of the targets.
            guide_rows: of the guides, as many.
            device: where the tensors go.
            flip: which targets to mirror, with their low-resolution images (D10).
            flip_guide: which guides to mirror.
        """
        target, low, guide = self.hr[rows], self.lr[rows], self.hr[guide_rows]
        if flip is not None:
            target[flip], low[flip] = target[flip, :, ::-1], low[flip, :, ::-1]
        if flip_guide is not None:
            guide[flip_guide] = guide[flip_guide, :, ::-1]
        i_gt, guide_tensor = _to_tensor(target, device), _to_tensor(guide, device)
        return Batch(
            **network_inputs(low, self.means, device),
            i_gi=guide_tensor - _column(self.means.hr, device),
            i_gt=i_gt * 2 - 1,
        )


def network_inputs(low: Uint8, means: Means, device: torch.device) -> dict[str, torch.Tensor]:
    """I_LR and I_LRU of low-resolution pictures, as the networks take them.

    Shapes: (B, h, w, 3) uint8 -> `i_lr` (B, 3, h, w), `i_lru` (B, 3, 8h, 8w).
    """
    mean = _column(means.lr, device)
    upscaled = np.stack([upscale(image) for image in low])
    return {"i_lr": _to_tensor(low, device) - mean, "i_lru": _to_tensor(upscaled, device) - mean}


def guide_input(guide: Uint8, means: Means, device: torch.device) -> torch.Tensor:
    """I_GI of guide pictures. Shapes: (B, H, W, 3) uint8 -> (B, 3, H, W)."""
    return _to_tensor(guide, device) - _column(means.hr, device)


def to_uint8(i_sr: torch.Tensor) -> Uint8:
    """Pictures of the networks' output: round(255 x), x in [0, 1], clamped only here (N5, N14).

    Shapes: (B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8.
    """
    scaled = ((i_sr.detach().float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
    picture: Uint8 = scaled.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return picture


def _to_tensor(images: Uint8, device: torch.device) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1]."""
    tensor = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    return tensor.permute(0, 3, 1, 2).contiguous().float().div_(255)


def _column(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
