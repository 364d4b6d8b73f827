"""Pillow's bicubic reduction of uint8 pictures, bit for bit, as small float32 matrix products.

Pillow resamples rows, then columns. Each pass sums pixels times integer weights (units of 2^-22), adds a half, drops
the fraction and clips to 0 .. 255. A float32 product is off that sum by 6e-4 grey levels at most, a bound that holds
for any order of summation: what it rounds to is Pillow's pixel wherever the fraction is not that near to a half, and
the few others are summed again in integers. Where `gwainet.compiled` is ready, its integers do it all, in a third of
the time.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from gwainet import compiled

try:
    import cv2
except ImportError:  # NumPy takes channels apart as well, more slowly
    cv2 = None  # type: ignore[assignment]

Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]

BITS = 22  # of the weights' fraction (PRECISION_BITS in Pillow's Resample.c)
_SUPPORT, _A = 2.0, -0.5  # Pillow's bicubic
_PRODUCTS = 2**18  # OpenBLAS starts threads above: they would only stand in the other processes' way
_UNIT = 2.0**-24  # relative rounding of float32
_TOGETHER = 4  # pictures rounded at a time: they stay in the cache


@dataclass(frozen=True)
class _Block:
    """Neighbouring outputs, and the inputs that any of them sees."""

    outputs: slice
    inputs: slice
    weights: Float32  # (inputs, outputs)


@dataclass(frozen=True)
class _Pass:
    """One of the two passes.

    Attributes:
        blocks: together all outputs.
        first: each output's first input.
        weights: (outputs, taps), integers; zero past an output's last input.
        error: bound of a float32 product's error, grey levels.
        taps: the same for `gwainet.compiled`.
    """

    blocks: tuple[_Block, ...]
    first: npt.NDArray[np.intp]
    weights: npt.NDArray[np.int64]
    error: float
    taps: compiled.Taps


def reduces_exactly(images: Uint8, scale: int) -> bool:
    """Whether `reduce_exactly` gives Pillow's pixels: Pillow begins with the columns of pictures of another shape."""
    *_, height, width, channels = images.shape
    whole = height % scale == 0 and width % scale == 0 and 0 < height <= 2 * width
    return images.dtype == np.uint8 and channels == 3 and whole and images.size > 0


def reduce_exactly(images: Uint8, scale: int, turned: compiled.Turned | None = None) -> Uint8:
    """Pictures `scale` times smaller: what Pillow's BICUBIC gives, to the bit.

    Shapes: (..., H, W, 3) -> (..., H/scale, W/scale, 3); of a shape that `reduces_exactly`. `turned` are the
    same pictures, (n, H, W, 3), where somebody has turned them already.
    """
    *batch, height, width, channels = images.shape
    across, down = _pass(width, width // scale, height * channels), _pass(height, height // scale, width // scale)
    if turned is not None:
        assert turned.pictures is images
        return turned.reduce(across.taps, down.taps)
    pictures = images.reshape(-1, height, width, channels)
    reduced = np.empty((len(pictures), height // scale, width // scale, channels), np.uint8)
    if compiled.ready():
        for start in range(0, len(pictures), compiled.TOGETHER):
            few = slice(start, start + compiled.TOGETHER)
            reduced[few] = compiled.Turned(pictures[few]).reduce(across.taps, down.taps)
        return reduced.reshape(*batch, *reduced.shape[1:])
    for start in range(0, len(pictures), _TOGETHER):
        part = pictures[start : start + _TOGETHER]
        rows = _rows(part, across)
        columns = _columns(rows, down)
        reduced[start : start + _TOGETHER] = columns.transpose(0, 2, 3, 1)
    return reduced.reshape(*batch, *reduced.shape[1:])


def _rows(pictures: Uint8, across: _Pass) -> Float32:
    """The pass along rows. Shapes: (B, H, W, C) -> (B, C, H, w), whole numbers."""
    count, height, width, channels = pictures.shape
    planes, values = np.empty((channels, height, width), np.uint8), np.empty((channels * height, width), np.float32)
    sums = np.empty((count, channels * height, len(across.first)), np.float32)
    for picture, target in zip(pictures, sums, strict=True):
        if cv2 is None:
            np.copyto(values.reshape(planes.shape), picture.transpose(2, 0, 1))
        else:
            cv2.split(np.ascontiguousarray(picture), list(planes))
            np.copyto(values, planes.reshape(values.shape))
        for block in across.blocks:
            np.matmul(values[:, block.inputs], block.weights, out=target[:, block.outputs])
    sums = sums.reshape(count, channels, height, -1)
    pixels, unsure = _round(sums, across.error)
    if len(unsure):
        image, channel, row, output = np.unravel_index(unsure, sums.shape)
        taps = _taps(across, output, width)
        seen = pictures[image[:, None], row[:, None], taps, channel[:, None]]
        pixels.reshape(-1)[unsure] = _exact(seen, across.weights[output])
    return pixels


def _columns(rows: Float32, down: _Pass) -> Uint8:
    """The pass down columns. Shapes: (B, C, H, w) -> (B, C, h, w)."""
    count, channels, height, width = rows.shape
    sums = np.empty((count, channels, len(down.first), width), np.float32)
    for block in down.blocks:
        np.matmul(block.weights.T, rows[:, :, block.inputs], out=sums[:, :, block.outputs])
    pixels, unsure = _round(sums, down.error)
    if len(unsure):
        image, channel, output, column = np.unravel_index(unsure, sums.shape)
        taps = _taps(down, output, height)
        seen = rows[image[:, None], channel[:, None], taps, column[:, None]]
        pixels.reshape(-1)[unsure] = _exact(seen, down.weights[output])
    return pixels.astype(np.uint8)


def _round(sums: Float32, error: float) -> tuple[Float32, npt.NDArray[np.intp]]:
    """Nearest grey levels, and the flat places of those that are too near to a half to be sure of. Changes `sums`."""
    pixels = np.rint(sums)
    np.subtract(sums, pixels, out=sums)
    np.abs(sums, out=sums)
    unsure = np.flatnonzero(sums > 0.5 - error)
    np.clip(pixels, 0, 255, out=pixels)
    return pixels, unsure


def _taps(of: _Pass, outputs: npt.NDArray[np.intp], inputs: int) -> npt.NDArray[np.intp]:
    """The inputs of each output; those past the end have no weight. Shapes: (n) -> (n, taps)."""
    taps: npt.NDArray[np.intp] = np.minimum(of.first[outputs, None] + np.arange(of.weights.shape[1]), inputs - 1)
    return taps


def _exact(seen: npt.NDArray[np.generic], weights: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Pillow's sums. Shapes: (n, taps), (n, taps) -> (n)."""
    total: npt.NDArray[np.int64] = (seen.astype(np.int64) * weights).sum(axis=1) + (1 << (BITS - 1))
    return (total >> BITS).clip(0, 255)


def coefficients(inputs: int, outputs: int) -> tuple[list[int], list[list[int]]]:
    """Pillow's bicubic weights from so many pixels to so many, more or fewer.

    Returns:
        each output's first input, and its weights from there on, whole numbers in units of 2^-`BITS`.
    """
    # in the order and precision of Pillow's precompute_coeffs, whose float64 sums decide the last bit
    scale = inputs / outputs
    widening = max(scale, 1.0)  # of the kernel, where pixels become fewer
    reach = _SUPPORT * widening
    first, rows = [], []
    for output in range(outputs):
        center = (output + 0.5) * scale
        start, end = max(int(center - reach + 0.5), 0), min(int(center + reach + 0.5), inputs)
        weights = [_bicubic((x + start - center + 0.5) * (1.0 / widening)) for x in range(end - start)]
        total = 0.0
        for weight in weights:
            total += weight
        whole = [weight / total * (1 << BITS) for weight in weights]
        first.append(start)
        rows.append([int(weight - 0.5 if weight < 0 else weight + 0.5) for weight in whole])
    return first, rows


@lru_cache(maxsize=16)
def _pass(inputs: int, outputs: int, lines: int) -> _Pass:
    """The weights of a pass from so many pixels to so many, over so many lines at once."""
    first, rows = coefficients(inputs, outputs)
    taps = max(map(len, rows))
    integers = np.array([row + [0] * (taps - len(row)) for row in rows], np.int64)
    largest = float(np.abs(integers).sum(axis=1).max()) / (1 << BITS)
    error = (taps + 1) * _UNIT / (1 - (taps + 1) * _UNIT) * 255 * largest  # Higham, Accuracy and Stability, (3.5)
    dense = np.zeros((inputs, outputs), np.float32)
    for output, (start, row) in enumerate(zip(first, rows, strict=True)):
        dense[start : start + len(row), output] = np.array(row) / (1 << BITS)
    ends = [start + len(row) for start, row in zip(first, rows, strict=True)]
    width = _block_width(taps, outputs, math.ceil(inputs / outputs), lines)
    blocks = []
    for start in range(0, outputs, width):
        block, seen = slice(start, start + width), slice(first[start], max(ends[start : start + width]))
        blocks.append(_Block(block, seen, np.ascontiguousarray(dense[seen, block])))
    return _Pass(tuple(blocks), np.array(first, np.intp), integers, error, compiled.taps(first, ends, integers))


def _block_width(taps: int, outputs: int, scale: int, lines: int) -> int:
    """Outputs of a block: as many as keep a product on one thread."""
    fitting = [n for n in range(1, outputs + 1) if n * (taps + scale * (n - 1)) * lines <= _PRODUCTS]
    return max(fitting, default=1)


def _bicubic(x: float) -> float:
    x = abs(x)
    if x < 1.0:
        return ((_A + 2.0) * x - (_A + 3.0)) * x * x + 1
    if x < 2.0:
        return (((x - 5) * x + 8) * x - 4) * _A
    return 0.0
