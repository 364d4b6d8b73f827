"""Loops over pixels that NumPy has no words for, compiled by Numba: exact integers, so they change no byte.

Resampling goes over pictures that stand on their sides, `Turned`, a few at once: all rows of a column, of all of them,
lie in memory one after the other and are summed together. To load the loops takes a process as long as they save on
some thousands of pictures, so `expect` is told how many will come; without Numba, and for few pictures, callers take
their other way to the same bytes.
"""

import importlib.util
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import cv2
except ImportError:  # NumPy turns pictures on their side as well, more slowly
    cv2 = None  # type: ignore[assignment]

Uint8 = npt.NDArray[np.uint8]
Int32 = npt.NDArray[np.int32]

TOGETHER = 8  # pictures turned at once: with what is made of them, they stay in the cache
PAYS_FROM = 5_000  # pictures: they save 100 us or more each, and loading takes 0.5 s (docs/performance.md)
_BITS = 22  # of Pillow's integer weights
_RED, _GREEN, _BLUE = 19595, 38470, 7471  # of Pillow's grey, in 2^-16

_loaded: SimpleNamespace | None = None
_failed = False  # said already in this process


def expect(pictures: int) -> None:
    """Load the loops into this process if so many pictures are worth it, and Numba is there and can be imported."""
    global _loaded, _failed
    if _loaded is not None or _failed or pictures < PAYS_FROM or importlib.util.find_spec("numba") is None:
        return
    try:
        _loaded = _compile()
    except (ImportError, OSError) as error:  # for another NumPy, or without a library of its own
        from gwainet.progress import say  # here: processes that crop photos need none of it

        _failed = True
        say(f"Numba cannot be imported ({error}): NumPy takes its place, to the same bytes, more slowly")


def ready() -> bool:
    """Whether this process has loaded them."""
    return _loaded is not None


class Turned:
    """Pictures on their sides. Make it only when the loops are `ready`.

    Args:
        pictures: (n, H, W, C).

    Attributes:
        pictures: as given.
        columns: (W, C, n H).
    """

    def __init__(self, pictures: Uint8) -> None:
        self.pictures = pictures
        count, height, width, channels = pictures.shape
        rows = np.ascontiguousarray(pictures).reshape(count * height, width * channels)
        self.columns = _turn(rows).reshape(width, channels, count * height)

    def reduce(self, across: "Taps", down: "Taps") -> Uint8:
        """Resample rows, then columns, as Pillow does. Shapes: across W -> w, down H -> h; -> (n, h, w, C)."""
        return _reduced(self.columns, len(self.pictures), across, down)

    def reduce_grey(self, box: tuple[int, int, int, int], across: "Taps", down: "Taps") -> Uint8:
        """A part in grey (Pillow's mode L), resampled as by Pillow.

        Args:
            box: left, top, right and bottom of the part.
            across: from the part's width to w; of three channels.
            down: from its height to h.

        Returns:
            (n, h, w).
        """
        assert _loaded is not None
        left, top, right, bottom = box
        count, height = self.pictures.shape[:2]
        greys = np.empty((right - left, 1, count * (bottom - top)), np.uint8)
        _loaded.grey(self.columns[left:right], height, top, bottom, greys[:, 0])
        return _reduced(greys, count, across, down)[..., 0]


def sum_products(words: npt.NDArray[np.uint32], factors: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Sums of words times factors, modulo 2^64. Call it only when they are `ready`. Shapes: (n, k), (k) -> (n)."""
    assert _loaded is not None
    totals = np.empty(len(words), np.uint64)
    _loaded.products(words, factors, totals)
    return totals


Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Int32]  # each output's first input, its end, its weights


def taps(first: npt.ArrayLike, ends: npt.ArrayLike, weights: npt.ArrayLike) -> Taps:
    """What a resampling pass sees. Shapes: (n), (n), (n, taps): weights in 2^-22, from the first input on."""
    return np.array(first, np.int64), np.array(ends, np.int64), np.array(weights, np.int32)


def _turn(rows: Uint8) -> Uint8:
    if cv2 is None:
        return rows.T.copy()
    sides = np.empty(rows.shape[::-1], np.uint8)
    cv2.transpose(rows, sides)
    return sides


def _reduced(columns: Uint8, count: int, across: Taps, down: Taps) -> Uint8:
    """Shapes: columns (W, C, n H) of so many pictures -> (n, h, w, C)."""
    assert _loaded is not None
    _, channels, lines = columns.shape
    width = len(across[0])
    sides = np.empty((1, width, channels, lines), np.uint8)
    _loaded.reduce(columns[None], *across, sides)
    rows = _turn(sides.reshape(-1, lines)).reshape(count, -1, 1, width * channels)
    reduced = np.empty((count, len(down[0]), 1, width * channels), np.uint8)
    _loaded.reduce(rows, *down, reduced)
    return reduced.reshape(count, -1, width, channels)


def _compile() -> SimpleNamespace:
    from numba import njit

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            quick: Callable[..., Any] = njit(cache=True)(function)  # kept beside this file, or in the user's cache
        except RuntimeError:  # neither can be written: this process compiles for itself, in 3 s
            quick = njit(function)
        return quick

    half = 1 << (_BITS - 1)

    def reduce(
        pictures: Uint8, first: npt.NDArray[np.int64], ends: npt.NDArray[np.int64], weights: Int32, reduced: Uint8
    ) -> None:
        """One pass. Shapes: (n, inputs, channels, lines) -> (n, outputs, channels, lines)."""
        count, _, channels, lines = pictures.shape
        sums = np.empty(lines, np.int32)  # as wide as Pillow's: weights of a pass sum up to 1.4 at most
        for picture in range(count):
            columns = pictures[picture]
            for output in range(len(first)):
                taps = ends[output] - first[output]
                for channel in range(channels):
                    sums[:] = half
                    tap = 0
                    while tap + 8 <= taps:  # eight at a time: sums are read and written an eighth as often
                        at = first[output] + tap
                        w0, w1 = weights[output, tap], weights[output, tap + 1]
                        w2, w3 = weights[output, tap + 2], weights[output, tap + 3]
                        w4, w5 = weights[output, tap + 4], weights[output, tap + 5]
                        w6, w7 = weights[output, tap + 6], weights[output, tap + 7]
                        c0, c1 = columns[at, channel], columns[at + 1, channel]
                        c2, c3 = columns[at + 2, channel], columns[at + 3, channel]
                        c4, c5 = columns[at + 4, channel], columns[at + 5, channel]
                        c6, c7 = columns[at + 6, channel], columns[at + 7, channel]
                        for line in range(lines):
                            sums[line] += (
                                w0 * np.int32(c0[line])
                                + w1 * np.int32(c1[line])
                                + w2 * np.int32(c2[line])
                                + w3 * np.int32(c3[line])
                                + w4 * np.int32(c4[line])
                                + w5 * np.int32(c5[line])
                                + w6 * np.int32(c6[line])
                                + w7 * np.int32(c7[line])
                            )
                        tap += 8
                    while tap < taps:
                        weight, column = weights[output, tap], columns[first[output] + tap, channel]
                        for line in range(lines):
                            sums[line] += weight * np.int32(column[line])
                        tap += 1
                    side = reduced[picture, output, channel]
                    for line in range(lines):
                        side[line] = min(max(sums[line] >> _BITS, 0), 255)

    def grey(columns: Uint8, height: int, top: int, bottom: int, greys: Uint8) -> None:
        part = bottom - top
        for picture in range(greys.shape[1] // part):
            begin, end = picture * height + top, picture * height + bottom
            for place in range(len(columns)):
                red, green = columns[place, 0, begin:end], columns[place, 1, begin:end]
                blue, line = columns[place, 2, begin:end], greys[place, picture * part : (picture + 1) * part]
                for row in range(part):
                    level = _RED * np.int32(red[row]) + _GREEN * np.int32(green[row]) + _BLUE * np.int32(blue[row])
                    line[row] = (level + 0x8000) >> 16

    def products(
        words: npt.NDArray[np.uint32], factors: npt.NDArray[np.uint64], totals: npt.NDArray[np.uint64]
    ) -> None:
        for row in range(len(words)):
            total, line = np.uint64(0), words[row]
            for place in range(len(line)):
                total += np.uint64(line[place]) * factors[place]
            totals[row] = total

    return SimpleNamespace(reduce=compiled(reduce), grey=compiled(grey), products=compiled(products))
