"""The metrics of many answers at once, on whatever device their models answer (docs/paper.md, M1, M2, M4).

Figures are those of `gwainet.metrics`, which measures pictures one by one on a CPU, within 1e-9. All is float64, which
neither TF32 nor a lower precision of the networks touches. PSNR and LR-PSNR are equal to the last bit: their squared
errors are sums of whole numbers, exact in any order, and the decibels of both are computed by the same line.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
from torch import Tensor

from gwainet.bicubic import BITS, coefficients
from gwainet.images import Uint8
from gwainet.metrics import C1, C2, GAUSSIAN, LUMA, METRICS, SMALLEST_SIDE, SSIM_WINDOW, Y_CROP
from gwainet.params import SCALE
from gwainet.psnr import decibels
from gwainet.tensors import on_device

AT_ONCE = 2**20  # pixels of pictures that are measured together: their maps take 0.4 GB, however large a batch is


@torch.inference_mode()
def batch_metrics(
    answers: Mapping[str, Uint8], gt: Uint8, lr: Uint8, device: torch.device, at_once: int = AT_ONCE
) -> dict[str, dict[str, list[float]]]:
    """Every metric of `METRICS` for a batch of every system's answers.

    The device is waited for once, when all figures come back together.

    Args:
        answers: system -> (B, H, W, 3).
        gt: the ground truth, (B, H, W, 3).
        lr: the inputs, (B, H/8, W/8, 3).
        device: to measure on.
        at_once: pixels of pictures that are measured together; bounds memory, changes nothing.

    Returns:
        System -> metric -> B values, in decibels (at most `PSNR_CAP`) or, of SSIM, in [-1, 1].

    Raises:
        ValueError: pictures are not uint8, their sizes do not fit together, or they are too small for a metric.
    """
    for made in answers.values():
        _check(made, gt, lr)
    # all pictures first: a copy from pageable memory would wait for what is computed before it
    truth, low = on_device(gt, device), on_device(lr, device)
    there = [on_device(made, device) for made in answers.values()]
    parts = []
    for part in _parts(gt, at_once):
        b = truth[part].to(torch.float64)
        mean_b = _windowed(b)  # one for all systems
        parts.append(torch.stack([_measure(sr[part], b, mean_b, low[part]) for sr in there]))
    figures = torch.cat(parts, dim=1).cpu().numpy()
    return {
        name: {
            metric: [float(v) if metric == "ssim" else decibels(float(v)) for v in of_answer[:, column]]
            for column, metric in enumerate(METRICS)
        }
        for name, of_answer in zip(answers, figures, strict=True)
    }


def squared_error(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error of each picture, over all pixels and channels (M1).

    Shapes: (B, H, W, 3), (B, H, W, 3) float64 -> (B,).
    """
    return (a - b).square_().sum(dim=(1, 2, 3)) / a[0].numel()  # a sum of whole numbers is exact, a mean need not be


def similarity(a: Tensor, b: Tensor, mean_b: Tensor | None = None) -> Tensor:
    """SSIM of each picture, as `gwainet.metrics.ssim` defines it (M2).

    Shapes: (B, H, W, 3), (B, H, W, 3) float64, means of the windows of `b` where they are known -> (B,).
    """
    mean_a, mean_b = _windowed(a), _windowed(b) if mean_b is None else mean_b
    squares, products = _windowed(a * a + b * b), _windowed(a * b)
    mean_product, mean_squares = mean_a * mean_b, mean_a * mean_a + mean_b * mean_b
    likeness = (2 * mean_product + C1) / (mean_squares + C1)
    structure = (2 * (products - mean_product) + C2) / (squares - mean_squares + C2)
    return (likeness * structure).mean(dim=(1, 2, 3))


def reduced(pictures: Tensor) -> Tensor:
    """`gwainet.images.downscale` on a device, to the bit.

    Shapes: (B, H, W, 3) uint8 -> (B, H/8, W/8, 3), float64 whole numbers.
    """
    # not a part of `enlarge.py`, which trainings depend on: what measures must not train anything again
    height, width = pictures.shape[1:3]
    down, across = (_weights(side, side // SCALE, pictures.device) for side in (height, width))
    planes = pictures.permute(0, 3, 1, 2).to(torch.float64)
    if height > 2 * width:  # Pillow begins with the columns of tall pictures, which rounds otherwise
        return _rounded(_rounded(down @ planes) @ across.T).permute(0, 2, 3, 1)
    return _rounded(down @ _rounded(planes @ across.T)).permute(0, 2, 3, 1)


def _measure(sr: Tensor, b: Tensor, mean_b: Tensor, lr: Tensor) -> Tensor:
    """Mean squared errors, and SSIM, in the order of `METRICS`. Shapes: -> (B, 4)."""
    a = sr.to(torch.float64)
    inside = slice(Y_CROP, -Y_CROP)
    # luma is linear: that of the difference is the difference of both, whose 16 goes away
    luma = (a - b)[:, inside, inside] @ _luma(a.device)
    found = {
        "psnr": squared_error(a, b),
        "psnr_y": luma.square_().mean(dim=(1, 2)),
        "ssim": similarity(a, b, mean_b),
        "lr_psnr": squared_error(reduced(sr), lr.to(torch.float64)),
    }
    return torch.stack([found[metric] for metric in METRICS], dim=1)


def _windowed(values: Tensor) -> Tensor:
    """Gaussian mean of each window that lies inside. Shapes: (B, H, W, 3) -> (B, H - 10, W - 10, 3)."""
    # shifted maps are added up, in one order for every pixel and batch: how a convolution of float64 sums is its
    # library's choice, and on a CPU it takes 3 times as long or more
    for axis in (1, 2):
        size = values.shape[axis] - SSIM_WINDOW + 1
        first, *others = GAUSSIAN[:, 0].tolist()
        mean = values.narrow(axis, 0, size) * first
        for tap, weight in enumerate(others, 1):
            mean.add_(values.narrow(axis, tap, size), alpha=weight)
        values = mean
    return values


def _rounded(sums: Tensor) -> Tensor:
    return sums.add_(1 << (BITS - 1)).mul_(2.0**-BITS).floor_().clamp_(0, 255)


@cache
def _weights(inputs: int, outputs: int, device: torch.device) -> Tensor:
    """Shapes: -> (outputs, inputs), whole numbers: in float64 their sums with pixels are exact."""
    weights = torch.zeros(outputs, inputs, dtype=torch.float64)
    for output, (start, row) in enumerate(zip(*coefficients(inputs, outputs), strict=True)):
        weights[output, start : start + len(row)] = torch.tensor(row, dtype=torch.float64)
    return weights.to(device)


@cache
def _luma(device: torch.device) -> Tensor:
    return torch.from_numpy(LUMA).to(device)


def _parts(pictures: Uint8, at_once: int) -> Iterator[slice]:
    """Of a batch: those that are measured together, one at the least."""
    count, height, width = pictures.shape[:3]
    together = max(1, at_once // (height * width))
    for start in range(0, count, together):
        yield slice(start, start + together)


def _check(sr: Uint8, gt: Uint8, lr: Uint8) -> None:
    """Refuse what cannot be compared.

    Raises:
        ValueError: says what was given and what is needed.
    """
    if sr.shape != gt.shape or gt.ndim != 4 or gt.shape[3] != 3 or any(p.dtype != np.uint8 for p in (sr, gt, lr)):
        raise ValueError(
            f"two batches of uint8 pictures (B, H, W, 3) of one size, not {sr.shape} {sr.dtype} and {gt.shape} "
            f"{gt.dtype}, and uint8 inputs, not {lr.dtype}"
        )
    count, height, width, channels = gt.shape
    if min(height, width) < SMALLEST_SIDE:
        raise ValueError(f"the metrics need {SMALLEST_SIDE} pixels a side, not {height} x {width}")
    if height % SCALE or width % SCALE or lr.shape != (count, height // SCALE, width // SCALE, channels):
        raise ValueError(f"inputs must be {SCALE} times smaller than pictures {gt.shape}, not {lr.shape}")
