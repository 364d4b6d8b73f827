"""Loops over pixels that NumPy has no words for, compiled by Numba: exact integers, so they change no byte.

Resampling goes over a picture that stands on its side, whose columns lie in memory one after the other: then all rows
of a column are summed at once. To load the loops takes a process as long as they save on some thousands of pictures, so
`expect` is told how many will come; without Numba, and for few pictures, callers take their other way to the same
bytes.
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


def reduce_picture(picture: Uint8, across: "Taps", down: "Taps", reduced: Uint8) -> None:
    """Resample rows, then columns, as Pillow does. Call it only when they are `ready`.

    Shapes: picture (H, W, 3), across W -> w, down H -> h; reduced (h, w, 3) is written.
    """
    assert _loaded is not None
    height, width, channels = picture.shape
    sides = np.empty((width * channels, height), np.uint8)
    _turn(picture.reshape(height, -1), sides)
    _loaded.reduce(sides.reshape(width, channels, height), *across, *down, reduced)


def reduce_grey(picture: Uint8, across: "Taps", down: "Taps", reduced: Uint8) -> None:
    """A picture in grey (Pillow's mode L), resampled as by Pillow. Call it only when they are `ready`.

    Shapes: picture (H, 3 W), its pixels' channels side by side; reduced (h, w) is written.
    """
    assert _loaded is not None
    height, channels = len(picture), 3
    sides = np.empty((picture.shape[1], height), np.uint8)
    _turn(picture, sides)
    greys = np.empty((len(sides) // channels, 1, height), np.uint8)
    _loaded.grey(sides.reshape(-1, channels, height), greys[:, 0])
    _loaded.reduce(greys, *across, *down, reduced[..., None])


def sum_products(words: npt.NDArray[np.uint32], factors: npt.NDArray[np.uint64]) -> int:
    """Sum of words times factors, modulo 2^64. Call it only when they are `ready`. Shapes: (n), (n)."""
    assert _loaded is not None
    return int(_loaded.products(words, factors))


Taps = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Int32]  # each output's first input, its end, its weights


def taps(first: npt.ArrayLike, ends: npt.ArrayLike, weights: npt.ArrayLike) -> Taps:
    """What a resampling pass sees. Shapes: (n), (n), (n, taps): weights in 2^-22, from the first input on."""
    return np.array(first, np.int64), np.array(ends, np.int64), np.array(weights, np.int32)


def _turn(rows: Uint8, sides: Uint8) -> None:
    if cv2 is None:
        np.copyto(sides, rows.T)
    else:
        cv2.transpose(rows, sides)


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
        sides: Uint8,
        first: npt.NDArray[np.int64],
        ends: npt.NDArray[np.int64],
        weights: Int32,
        first_down: npt.NDArray[np.int64],
        ends_down: npt.NDArray[np.int64],
        weights_down: Int32,
        reduced: Uint8,
    ) -> None:
        _, channels, height = sides.shape
        outputs = len(first)
        rows = np.empty((height, outputs, channels), np.uint8)
        sums = np.empty(height, np.int32)  # as wide as Pillow's: weights of a pass sum up to 1.4 at most
        for output in range(outputs):
            count = ends[output] - first[output]
            for channel in range(channels):
                sums[:] = half
                tap = 0
                while tap + 4 <= count:  # four at a time: sums are read and written a fourth as often
                    w0, w1, w2, w3 = (
                        weights[output, tap],
                        weights[output, tap + 1],
                        weights[output, tap + 2],
                        weights[output, tap + 3],
                    )
                    place = first[output] + tap
                    c0, c1, c2, c3 = (
                        sides[place, channel],
                        sides[place + 1, channel],
                        sides[place + 2, channel],
                        sides[place + 3, channel],
                    )
                    for row in range(height):
                        sums[row] += (
                            w0 * np.int32(c0[row])
                            + w1 * np.int32(c1[row])
                            + w2 * np.int32(c2[row])
                            + w3 * np.int32(c3[row])
                        )
                    tap += 4
                while tap < count:
                    weight, column = weights[output, tap], sides[first[output] + tap, channel]
                    for row in range(height):
                        sums[row] += weight * np.int32(column[row])
                    tap += 1
                for row in range(height):
                    rows[row, output, channel] = min(max(sums[row] >> _BITS, 0), 255)
        values = rows.reshape(height, outputs * channels)
        lines = reduced.reshape(len(first_down), outputs * channels)
        sums = np.empty(outputs * channels, np.int32)
        for output in range(len(first_down)):
            sums[:] = half
            for tap in range(ends_down[output] - first_down[output]):
                weight, line = weights_down[output, tap], values[first_down[output] + tap]
                for place in range(outputs * channels):
                    sums[place] += weight * np.int32(line[place])
            for place in range(outputs * channels):
                lines[output, place] = min(max(sums[place] >> _BITS, 0), 255)

    def grey(sides: Uint8, greys: Uint8) -> None:
        for place in range(len(sides)):
            red, green, blue, line = sides[place, 0], sides[place, 1], sides[place, 2], greys[place]
            for row in range(len(line)):
                level = _RED * np.int32(red[row]) + _GREEN * np.int32(green[row]) + _BLUE * np.int32(blue[row])
                line[row] = (level + 0x8000) >> 16

    def products(words: npt.NDArray[np.uint32], factors: npt.NDArray[np.uint64]) -> np.uint64:
        total = np.uint64(0)
        for place in range(len(words)):
            total += np.uint64(words[place]) * factors[place]
        return total

    return SimpleNamespace(reduce=compiled(reduce), grey=compiled(grey), products=compiled(products))
