"""Pictures as arrays: resampling as the paper's data were made, conversions, grids.

uint8 arrays are (height, width, 3) RGB; tensors are (B, 3, H, W).
"""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from gwainet import compiled
from gwainet.bicubic import reduce_exactly, reduces_exactly
from gwainet.params import SCALE

try:
    import cv2
except ImportError:  # NumPy adds pixels up as well, more slowly
    cv2 = None  # type: ignore[assignment]

Uint8 = npt.NDArray[np.uint8]

# what Pillow's readers raise on damaged files
DAMAGE = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    struct.error,
    zlib.error,
    ArithmeticError,
)


# what NumPy lets through: of an empty file, a header cut in brackets, numbers beyond 64 bits, a file like a zip, ...
BAD_ARRAY = (EOFError, tokenize.TokenError, OverflowError, SyntaxError, TypeError, zipfile.BadZipFile)


def mapped(path: Path) -> npt.NDArray[Any]:
    """The array of a `.npy` file, read when it is needed.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no whole array.
    """
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except BAD_ARRAY as error:
        raise ValueError(f"{path.name} is no whole array: {error}") from error
    return array


def downscale(image: Uint8, turned: compiled.Turned | None = None) -> Uint8:
    """I_LR of I_GT: 8x down by Pillow's bicubic on uint8 (Sec. 3; D4 in docs/paper.md).

    Shapes: (..., H, W, 3) -> (..., H/8, W/8, 3). `turned` is the same, where somebody has turned it already.
    """
    *batch, height, width, _ = image.shape
    if reduces_exactly(image, SCALE):
        return reduce_exactly(image, SCALE, turned)
    if batch:
        return np.stack([downscale(one) for one in image])
    return np.asarray(Image.fromarray(image).resize((width // SCALE, height // SCALE), Image.Resampling.BICUBIC))


def upscale(image: Uint8) -> Uint8:
    """I_LRU of I_LR: 8x up by Pillow's bicubic on uint8 (Sec. 3.2, Warper; D4 in docs/paper.md).

    Shapes: (h, w, 3) -> (8h, 8w, 3).
    """
    height, width = image.shape[:2]
    return np.asarray(Image.fromarray(image).resize((width * SCALE, height * SCALE), Image.Resampling.BICUBIC))


def channel_sums(image: Uint8) -> npt.NDArray[np.int64]:
    """Sum of each channel, exact. Shapes: (..., H, W, 3) -> (..., 3)."""
    *batch, height, width, channels = image.shape
    if cv2 is not None:
        pictures = image.reshape(-1, height, width, channels)
        found = [cv2.sumElems(picture)[:3] for picture in pictures]  # float64 sums of whole numbers are exact
        return np.array(found, np.int64).reshape(*batch, channels)
    # down the rows first, which NumPy does 20 times faster than both axes at once; exact below 16 million rows
    rows = image.reshape(*batch, height, width * channels).sum(axis=-2, dtype=np.uint32)
    sums: npt.NDArray[np.int64] = rows.reshape(*batch, width, channels).sum(axis=-2, dtype=np.int64)
    return sums


def grid(rows: Sequence[Sequence[Uint8]], titles: Sequence[str] = (), gap: int = 4) -> Image.Image:
    """Lay pictures out in rows and columns, all scaled to the first picture's size, titles above the columns.

    Smaller pictures are enlarged without smoothing, so that a low-resolution input shows its pixels.
    """
    height, width = rows[0][0].shape[:2]
    top = 18 if titles else 0
    columns = max(len(row) for row in rows)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, top + len(rows) * (height + gap) + gap), "white")
    draw = ImageDraw.Draw(sheet)
    for column, title in enumerate(titles):
        draw.text((gap + column * (width + gap) + width // 2, 3), title, fill="black", anchor="ma")
    for line, row in enumerate(rows):
        for column, picture in enumerate(row):
            tile = Image.fromarray(picture)
            if tile.size != (width, height):
                tile = tile.resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(tile, (gap + column * (width + gap), top + gap + line * (height + gap)))
    return sheet


ERROR_SCALE = 4  # so that errors of a few grey levels are seen


def error_picture(made: Uint8, gt: Uint8) -> Uint8:
    """How far an answer is from the truth: the channels' mean absolute difference, `ERROR_SCALE` times, in grey.

    Shapes: (..., 3), (..., 3) -> (..., 3).
    """
    error = np.abs(made.astype(np.int32) - gt).mean(axis=-1, keepdims=True)
    grey = np.clip(np.rint(error * ERROR_SCALE), 0, 255).astype(np.uint8)
    return np.repeat(grey, 3, axis=-1)
