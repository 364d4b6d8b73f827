"""Painting on a picture that is a multiple of the photo's size: shapes with soft edges, lines, strands."""

from collections.abc import Sequence

import cv2
import numpy as np

from gwainet.people.head import HEIGHT, WIDTH
from gwainet.people.traits import Floats

Bytes = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Fixed = np.ndarray[tuple[int, ...], np.dtype[np.int32]]
Window = tuple[slice, slice]
FRACTION_BITS = 4  # OpenCV's sub-pixel coordinates: 1/16 pixel


class Canvas:
    """A picture (218 S, 178 S, 3) uint8 in sRGB, addressed in pixels of the photo."""

    def __init__(self, supersampling: int, picture: Bytes | None = None) -> None:
        self.scale = supersampling
        self.size = (HEIGHT * supersampling, WIDTH * supersampling)
        self.picture: Bytes = np.zeros((*self.size, 3), np.uint8) if picture is None else picture

    def place(self, points: Floats) -> Fixed:
        """Pixels of the photo to OpenCV's fixed-point coordinates on this canvas."""
        unit = 1 << FRACTION_BITS
        placed: Fixed = np.rint(
            points * np.float32(self.scale * unit) + np.float32((self.scale - 1) / 2 * unit)
        ).astype(np.int32)
        return placed

    def width(self, width: float) -> int:
        """A line's width in the photo to whole pixels here."""
        return max(1, round(width * self.scale))

    def window(self, points: Floats, margin: float) -> Window:
        """The part of the canvas around some points."""
        flat = points.reshape(-1, 2)
        (left, top), (right, bottom) = flat.min(0).tolist(), flat.max(0).tolist()

        def part(low: float, high: float, size: int) -> slice:
            start, stop = int((low - margin) * self.scale), int((high + margin + 1) * self.scale) + 1
            return slice(min(max(start, 0), size), min(max(stop, 0), size))

        y, x = part(top, bottom, self.size[0]), part(left, right, self.size[1])
        return y, x

    def mask(self, polygons: Sequence[Floats], window: Window | None = None) -> Bytes:
        """Coverage of filled polygons, 0 .. 255, of the whole canvas or of a window."""
        window = window or (slice(0, self.size[0]), slice(0, self.size[1]))
        result = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
        if result.size:
            shift = np.array([window[1].start, window[0].start], np.int32) << FRACTION_BITS
            for polygon in polygons:
                cv2.fillPoly(result, [self.place(polygon) - shift], 255, cv2.LINE_AA, FRACTION_BITS)
        return result

    def lines(self, lines: Sequence[Floats] | Floats, width: float, window: Window | None = None) -> Bytes:
        """Coverage of lines, 0 .. 255."""
        window = window or (slice(0, self.size[0]), slice(0, self.size[1]))
        result = np.zeros((window[0].stop - window[0].start, window[1].stop - window[1].start), np.uint8)
        if result.size:
            shift = np.array([window[1].start, window[0].start], np.int32) << FRACTION_BITS
            # one call for an array: strands are many
            placed = (
                list(self.place(lines) - shift)
                if isinstance(lines, np.ndarray)
                else [self.place(x) - shift for x in lines]
            )
            cv2.polylines(result, placed, False, 255, self.width(width), cv2.LINE_AA, FRACTION_BITS)
        return result

    def blend(self, window: Window, coverage: Bytes | Floats, colour: Floats, opacity: float = 1.0) -> None:
        """Lay a colour (3,) or (h, w, 3) over a window, as far as it is covered (0 .. 255)."""
        if coverage.size == 0:
            return
        alpha = coverage.astype(np.float32)[..., None] * np.float32(opacity / 255)
        below = self.picture[window].astype(np.float32)
        self.picture[window] = np.clip(below + (colour - below) * alpha + 0.5, 0, 255).astype(np.uint8)

    def darken(self, window: Window, coverage: Bytes | Floats, factor: Floats, opacity: float = 1.0) -> None:
        """Multiply a window by a colour's factors (3,), as far as it is covered (0 .. 255)."""
        if coverage.size == 0:
            return
        alpha = coverage.astype(np.float32)[..., None] * np.float32(opacity / 255)
        below = self.picture[window].astype(np.float32)
        self.picture[window] = np.clip(below * (1 + (factor - 1) * alpha) + 0.5, 0, 255).astype(np.uint8)

    def soft(self, polygons: Sequence[Floats], blur: float) -> tuple[Window, Bytes]:
        """Coverage of polygons with soft edges, and where it lies."""
        window = self.window(np.concatenate([p.reshape(-1, 2) for p in polygons]), 3 * blur + 1)
        return window, smooth(self.mask(polygons, window), blur * self.scale)

    def soft_lines(self, lines: Sequence[Floats], width: float, blur: float) -> tuple[Window, Bytes]:
        """Coverage of lines with soft edges, and where it lies."""
        window = self.window(np.concatenate([p.reshape(-1, 2) for p in lines]), 3 * blur + width + 1)
        return window, smooth(self.lines(lines, width, window), blur * self.scale)

    def strands(self, lines: Floats, colours: Floats, width: float) -> None:
        """Draw strands (n, points, 2) one over the other, each in its colour (n, 3)."""
        placed = self.place(lines)
        thickness = self.width(width)
        for line, colour in zip(placed, colours.tolist(), strict=True):
            cv2.polylines(self.picture, [line], False, colour, thickness, cv2.LINE_AA, FRACTION_BITS)


def smooth(coverage: Bytes, sigma: float) -> Bytes:
    """Gaussian blur that leaves small or unblurred pictures as they are."""
    if sigma < 0.2 or coverage.size == 0:
        return coverage
    return np.asarray(cv2.GaussianBlur(coverage, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
