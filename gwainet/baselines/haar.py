"""The Haar wavelet packet of three levels, and its inverse: pictures as 64 bands of an eighth of the size.

One level of Haar's transform turns each square of 2 x 2 pixels into four numbers: their sum and three differences, each
over 2. The packet does that to every band again, so that three levels turn each square of 8 x 8 pixels into 64 numbers.
As a matrix that is the Walsh-Hadamard transform over 8: symmetric under the right order, orthonormal, its own transpose
the inverse. Squares of pixels and of bands have the same sum.
"""

from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

LEVELS = 3
SIDE = 2**LEVELS
BANDS = SIDE * SIDE
GROUPS = (1, 3, 12, 48)  # bands that are low at all levels, at the first two, at the first, at none
ENDS = (1, 4, 16, 64)


@cache
def _matrix() -> npt.NDArray[np.float64]:
    """Band x place in a square; a band's number has a digit of base 4 for each level, the first level's foremost."""
    band, place = np.arange(BANDS)[:, None], np.arange(BANDS)
    row, column = place // SIDE, place % SIDE
    odd = np.zeros((BANDS, BANDS), np.int64)
    for level in range(LEVELS):
        digit = band // 4 ** (LEVELS - 1 - level) % 4
        odd += digit // 2 * (row >> level & 1) + digit % 2 * (column >> level & 1)
    matrix: npt.NDArray[np.float64] = (1.0 - 2.0 * (odd % 2)) / SIDE
    return matrix


def _like(x: Tensor) -> Tensor:
    """The matrix where a tensor is; made anew, as one that is kept could be one without values (`gwainet.macs`)."""
    return torch.from_numpy(_matrix()).to(x)


def packet(image: Tensor) -> Tensor:
    """The packet of pictures, the lowest band first.

    Shapes: (B, C, 8h, 8w) -> (B, 64, C, h, w).
    """
    batch, channels = image.shape[:2]
    squares = F.pixel_unshuffle(image, SIDE)  # (B, 64 C, h, w), a channel's places next to each other
    squares = squares.view(batch, channels, BANDS, *squares.shape[2:])
    return torch.einsum("np,bcphw->bnchw", _like(image), squares)


def inverse(bands: Tensor) -> Tensor:
    """The pictures of a packet.

    Shapes: (B, 64, C, h, w) -> (B, C, 8h, 8w).
    """
    squares = torch.einsum("np,bnchw->bcphw", _like(bands), bands)
    return F.pixel_shuffle(squares.reshape(len(bands), -1, *bands.shape[3:]), SIDE)
