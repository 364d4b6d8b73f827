"""How good a super-resolved picture is, and how sure a mean over people is (docs/paper.md, M1, M2, M4, M6).

Pictures are uint8 (H, W, 3) RGB, as written to a file; metrics are floats. `CONVENTIONS` says in words what each is:
figures of different conventions differ by more than methods do (PSNR on Y reads about 1.4 dB above PSNR on RGB).
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from gwainet.images import Uint8, downscale
from gwainet.psnr import PSNR_CAP, decibels, psnr, same_shape

__all__ = [
    "C1",
    "C2",
    "CONVENTIONS",
    "GAUSSIAN",
    "LUMA",
    "METRICS",
    "PSNR_CAP",
    "SMALLEST_SIDE",
    "SSIM_WINDOW",
    "Y_CROP",
    "Interval",
    "all_metrics",
    "bootstrap_interval",
    "lr_psnr",
    "luma",
    "paired_difference",
    "psnr",
    "psnr_y",
    "ssim",
]

Floats = npt.NDArray[np.float64]

Y_CROP = 8  # pixels
SSIM_WINDOW = 11  # pixels
SMALLEST_SIDE = 24  # pixels: the least multiple of 8 that leaves something inside the 8-pixel crop and SSIM's window

_SIGMA = 1.5  # pixels

# what `gwainet.batch_metrics` shares
GAUSSIAN = np.asarray(cv2.getGaussianKernel(SSIM_WINDOW, _SIGMA, cv2.CV_64F), np.float64)  # (SSIM_WINDOW, 1)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2  # (K1 L)^2 and (K2 L)^2
LUMA = np.array([65.481, 128.553, 24.966]) / 255  # of R, G and B

METRICS = ("psnr", "psnr_y", "ssim", "lr_psnr")

CONVENTIONS = {
    "psnr": (
        "dB, higher is better: 10 log10(255^2 / MSE) of uint8 RGB pictures, MSE over all pixels and channels, no "
        f"border cropped; an image's value is at most {PSNR_CAP:g} dB (identical pictures); a mean is the mean of the "
        "images' dB"
    ),
    "psnr_y": (
        "dB, higher is better: as psnr, on the ITU-R BT.601 luma Y = 16 + (65.481 R + 128.553 G + 24.966 B) / 255 "
        f"(16..235, not rounded, peak 255) of the uint8 pictures, {Y_CROP} pixels cropped from each side"
    ),
    "ssim": (
        f"-1 to 1, higher is better: Gaussian window of {SSIM_WINDOW} x {SSIM_WINDOW} pixels, sigma 1.5, K1 0.01, "
        "K2 0.03, range 255, population covariance, windows inside the picture only, mean of the channels R, G and B"
    ),
    "lr_psnr": (
        "dB, higher is better: psnr between the answer, downscaled 8x as the input was made (Pillow bicubic, uint8), "
        "and the input itself: what contradicts the input, such as a shift of colour, costs here"
    ),
}


class Interval(NamedTuple):
    """A mean and its 95 % interval, in the unit of the values."""

    mean: float
    low: float
    high: float


def psnr_y(sr: Uint8, gt: Uint8, crop: int = Y_CROP) -> float:
    """Peak signal-to-noise ratio on luma, without a border of `crop` pixels (M1).

    Shapes: (H, W, 3), (H, W, 3) -> a number.
    Units: dB, peak 255, at most `PSNR_CAP`.

    Raises:
        ValueError: the crop leaves nothing.
    """
    same_shape(sr, gt)
    if min(sr.shape[:2]) <= 2 * crop:
        raise ValueError(f"a crop of {crop} pixels leaves nothing of {sr.shape[0]} x {sr.shape[1]}")
    inside = slice(crop, -crop if crop else None)
    difference = luma(sr[inside, inside]) - luma(gt[inside, inside])
    return decibels(float(np.square(difference).mean()))


def luma(picture: Uint8) -> Floats:
    """Y of ITU-R BT.601 in 16..235, as MATLAB's rgb2ycbcr scales it, not rounded.

    Shapes: (H, W, 3) -> (H, W).
    """
    return picture @ LUMA + 16


def ssim(sr: Uint8, gt: Uint8) -> float:
    """Structural similarity as Wang et al. (2004) define it, mean over R, G and B (M2).

    Shapes: (H, W, 3), (H, W, 3) -> a number in [-1, 1].

    Raises:
        ValueError: a side is shorter than the window.
    """
    same_shape(sr, gt)
    if min(sr.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs {SSIM_WINDOW} pixels a side, not {sr.shape[0]} x {sr.shape[1]}")
    a: Floats = sr.astype(np.float64)
    b: Floats = gt.astype(np.float64)
    mean_a, mean_b, squares, products = (_windowed(of) for of in (a, b, a * a + b * b, a * b))
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    # variances are needed as their sum alone: four maps are filtered, not five
    likeness = (2 * mean_product + C1) / (mean_squares + C1)
    structure = (2 * (products - mean_product) + C2) / (squares - mean_squares + C2)
    return float((likeness * structure).mean())


def _windowed(values: Floats) -> Floats:
    """Gaussian mean of each window that lies inside. Shapes: (H, W, 3) -> (H - 10, W - 10, 3)."""
    inside = slice(SSIM_WINDOW // 2, -(SSIM_WINDOW // 2))
    filtered = cv2.sepFilter2D(values, cv2.CV_64F, GAUSSIAN, GAUSSIAN)
    return np.asarray(filtered[inside, inside], np.float64)


def lr_psnr(sr: Uint8, lr: Uint8) -> float:
    """PSNR of the downscaled answer against the input I_LR (M4).

    Shapes: (H, W, 3), (H/8, W/8, 3) -> a number.
    Units: dB, peak 255, at most `PSNR_CAP`.
    """
    return psnr(downscale(sr), lr)


def all_metrics(sr: Uint8, gt: Uint8, lr: Uint8) -> dict[str, float]:
    """Every metric of `METRICS` for one answer.

    Shapes: (H, W, 3), (H, W, 3), (H/8, W/8, 3) -> a number a metric.
    """
    return {"psnr": psnr(sr, gt), "psnr_y": psnr_y(sr, gt), "ssim": ssim(sr, gt), "lr_psnr": lr_psnr(sr, lr)}


def bootstrap_interval(values: npt.ArrayLike, identities: npt.ArrayLike, samples: int, seed: int) -> Interval:
    """Mean over images and its 95 % percentile interval over identities (M6).

    Images of a person are alike, so people are what is resampled: each of `samples` resamples draws as many identities
    as there are, with replacement, and takes the mean over all images of those drawn. The mean of a single person
    shows no spread: its interval is a point.

    Args:
        values: one an image, (n,).
        identities: whose image it is, (n,), of any type that sorts.
        samples: number of resamples.
        seed: of the resamples; they depend on it and the number of identities alone.

    Raises:
        ValueError: there are no values, they are not finite, or the lengths differ.
    """
    value = np.asarray(values, dtype=np.float64)
    identity = np.asarray(identities)
    if value.ndim != 1 or value.shape != identity.shape or not len(value):
        raise ValueError(f"as many values as identities, and at least one, not {value.shape} and {identity.shape}")
    if not np.isfinite(value).all():
        raise ValueError("a value is not finite")
    _, person = np.unique(identity, return_inverse=True)
    mean = float(value.mean())
    images = np.bincount(person).astype(np.float64)
    # about the mean, so that values without spread give a point to the last digit
    sums = np.bincount(person, weights=value - mean)
    drawn = _resamples(len(images), samples, seed)
    means = mean + (drawn @ sums) / (drawn @ images)
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(mean, float(low), float(high))


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, identities: npt.ArrayLike, samples: int, seed: int
) -> Interval:
    """Mean of a - b over the same images, with its 95 % interval over identities (M6).

    Args:
        a: values of one system, (n,).
        b: values of the other on the same images in the same order, (n,).
        identities: whose image it is, (n,).
        samples: number of resamples.
        seed: of the resamples.

    Raises:
        ValueError: the lengths differ, there are no values, or they are not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"pairs need as many values on both sides, not {first.shape} and {second.shape}")
    return bootstrap_interval(first - second, identities, samples, seed)


@lru_cache(maxsize=4)  # one a split: all systems and metrics of a benchmark share the resamples
def _resamples(identities: int, samples: int, seed: int) -> Floats:
    """How often each identity is drawn. Shapes: -> (samples, identities)."""
    drawn = np.random.default_rng(seed).integers(0, identities, (samples, identities))
    cells = drawn + np.arange(samples)[:, None] * identities
    counts = np.bincount(cells.ravel(), minlength=samples * identities).astype(np.float64)
    counts.setflags(write=False)
    return counts.reshape(samples, identities)
