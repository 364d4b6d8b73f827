"""Pillow's bicubic enlargement of uint8 pictures on a device, bit for bit: I_LRU where the pictures already lie there.

Each pass multiplies pixels by whole numbers (units of 2^-22), adds a half, drops the fraction and clips to 0 .. 255, as
Pillow does. In float64 these products and sums are exact, whatever their order, so the device does not matter.
"""

from functools import cache

import torch
from torch import Tensor

from gwainet.bicubic import BITS, coefficients


def enlarge(pictures: Tensor, scale: int) -> Tensor:
    """Pictures `scale` times larger: what Pillow's BICUBIC gives, to the bit.

    Shapes: (B, h, w, C) uint8 -> (B, scale h, scale w, C) uint8, on the same device.
    """
    height, width = pictures.shape[1:3]
    down, across = (_weights(side, scale * side, pictures.device) for side in (height, width))
    planes = pictures.permute(0, 3, 1, 2).to(torch.float64)
    rows = _rounded(planes @ across.T)  # Pillow begins with the rows
    return _rounded(down @ rows).to(torch.uint8).permute(0, 2, 3, 1)


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(1 << (BITS - 1)).mul_(2.0**-BITS).floor_().clamp_(0, 255)


@cache  # a captured step reads them
def _weights(inputs: int, outputs: int, device: torch.device) -> Tensor:
    """Shapes: -> (outputs, inputs), whole numbers."""
    weights = torch.zeros(outputs, inputs, dtype=torch.float64)
    for output, (start, row) in enumerate(zip(*coefficients(inputs, outputs), strict=True)):
        weights[output, start : start + len(row)] = torch.tensor(row, dtype=torch.float64)
    return weights.to(device)
