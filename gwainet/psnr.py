"""Peak signal-to-noise ratio on RGB (docs/paper.md, M1): the metric that trainings validate with.

Apart from the other metrics, so that a new metric trains nothing again: DVC watches this file for the trainings, and
`gwainet/metrics.py` for the benchmark alone.
"""

import numpy as np

from gwainet.images import Uint8

PSNR_CAP = 100.0  # dB


def psnr(sr: Uint8, gt: Uint8) -> float:
    """Peak signal-to-noise ratio on RGB, whole picture (M1).

    Identical pictures have an infinite ratio, which neither a mean nor JSON can hold: no value exceeds `PSNR_CAP`.

    Shapes: (H, W, 3), (H, W, 3) -> a number.
    Units: dB, peak 255.
    """
    same_shape(sr, gt)
    difference = sr.astype(np.int32) - gt
    return decibels(float(np.square(difference).mean()))


def decibels(mean_squared_error: float) -> float:
    """PSNR of a mean squared error of values in 0..255, at most `PSNR_CAP`."""
    if mean_squared_error == 0:
        return PSNR_CAP
    return min(PSNR_CAP, float(10 * np.log10(255**2 / mean_squared_error)))


def same_shape(sr: Uint8, gt: Uint8) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: these are not two uint8 pictures of one size.
    """
    if sr.shape != gt.shape or sr.ndim != 3 or sr.dtype != np.uint8 or gt.dtype != np.uint8:
        raise ValueError(
            f"two uint8 pictures (H, W, 3) of one size, not {sr.shape} {sr.dtype} and {gt.shape} {gt.dtype}"
        )
