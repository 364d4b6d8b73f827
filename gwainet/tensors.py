"""Pictures to tensors and back, as the networks see them (Sec. 4.2, preprocessing)."""

from dataclasses import dataclass

import numpy as np
import torch

from gwainet.enlarge import enlarge
from gwainet.images import Uint8
from gwainet.params import SCALE


@dataclass(frozen=True)
class Means:
    """Per-channel means of the training split, RGB in [0, 1] (Sec. 4.2; D6).

    `lr` is subtracted from I_LR and I_LRU, `hr` from the guide.
    """

    lr: tuple[float, float, float]
    hr: tuple[float, float, float]


def network_inputs(low: Uint8, means: Means, device: torch.device) -> dict[str, torch.Tensor]:
    """I_LR and I_LRU of low-resolution pictures, as the networks take them.

    Shapes: (B, h, w, 3) uint8 -> `i_lr` (B, 3, h, w), `i_lru` (B, 3, 8h, 8w).
    """
    return low_inputs(on_device(low, device), column(means.lr, device))


def low_inputs(low: torch.Tensor, mean: torch.Tensor) -> dict[str, torch.Tensor]:
    """`network_inputs` of pictures that lie on the device; I_LRU is rounded to uint8, as Pillow does (D4).

    Shapes: (B, h, w, 3) uint8, (1, 3, 1, 1) -> `i_lr` (B, 3, h, w), `i_lru` (B, 3, 8h, 8w).
    """
    return {"i_lr": from_pictures(low) - mean, "i_lru": from_pictures(enlarge(low, SCALE)) - mean}


def guide_input(guide: Uint8, means: Means, device: torch.device) -> torch.Tensor:
    """I_GI of guide pictures. Shapes: (B, H, W, 3) uint8 -> (B, 3, H, W)."""
    return to_tensor(guide, device) - column(means.hr, device)


def to_uint8(i_sr: torch.Tensor) -> Uint8:
    """Pictures of the networks' output: round(255 x), x in [0, 1], clamped only here (N5, N14).

    Shapes: (B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8.
    """
    picture: Uint8 = as_pictures(i_sr.detach()).contiguous().cpu().numpy()
    return picture


def as_pictures(i_sr: torch.Tensor) -> torch.Tensor:
    """`to_uint8` as a tensor. Shapes: (B, 3, H, W) in [-1, 1] -> (B, H, W, 3) uint8."""
    scaled = ((i_sr.float() + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)
    return scaled.permute(0, 2, 3, 1)


def to_tensor(images: Uint8, device: torch.device) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float32 (B, 3, H, W) in [0, 1]."""
    return from_pictures(on_device(images, device))


def on_device(images: Uint8, device: torch.device) -> torch.Tensor:
    """Pictures as they are, on a device. Shapes: (B, H, W, 3) uint8 -> the same."""
    # Pillow's arrays are read-only, which torch warns of
    return torch.from_numpy(np.require(images, requirements=("C", "W"))).to(device)


def from_pictures(images: torch.Tensor) -> torch.Tensor:
    """`to_tensor` of a tensor. Shapes: (B, H, W, 3) uint8 -> (B, 3, H, W) in [0, 1]."""
    return images.permute(0, 3, 1, 2).contiguous().float().div_(255)


def column(values: tuple[float, float, float], device: torch.device) -> torch.Tensor:
    """A value per channel, ready to be added to pictures. Shapes: 3 -> (1, 3, 1, 1)."""
    return torch.tensor(values, dtype=torch.float32, device=device).view(1, 3, 1, 1)
