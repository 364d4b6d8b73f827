"""The quick way to the pixels of a plain JPEG: simplejpeg, which decodes as Pillow does, bit for bit, in less time.

Plain is what needs no judgement: JFIF, 8 bits, three components, no EXIF, nothing unusual before the pixels, an end in
its place, and not a single warning of the decoder. Pillow looks at everything else, and says what is wrong with it.
"""

from functools import lru_cache
from importlib.metadata import version

import numpy as np
import numpy.typing as npt
from PIL import features

try:
    import simplejpeg
except ImportError:  # Pillow decodes all photos, to the same bytes
    simplejpeg = None

VERSION = "absent" if simplejpeg is None else version("simplejpeg")
_START, _SCAN, _END = b"\xff\xd8\xff\xe0", b"\xff\xda", b"\xff\xd9"
_JFIF = b"JFIF\0"
_APP0, _START_OF_SCAN = 0xE0, 0xDA
_FRAMES = {0xC0, 0xC1, 0xC2}  # baseline, extended, progressive; Huffman coded
_HARMLESS = {0xDB, 0xC4, 0xDD, 0xFE}  # tables, restart interval, comment
_MOST_HEAD = 4096  # bytes before the pixels that are remembered: a program writes nearly the same before all its photos
_MOST_PIXELS = 2**24  # far below what Pillow refuses as a bomb

_as_pillow = simplejpeg is not None and bool(features.check_feature("libjpeg_turbo"))  # both by the same library


def decode_plain(content: bytes) -> npt.NDArray[np.uint8] | None:
    """The pixels of a plain JPEG; None where Pillow must look at it. Shapes: -> (H, W, 3), RGB."""
    if not _as_pillow or not is_plain(content):
        return None
    try:
        pixels: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB")
    except ValueError:  # damaged, if only a little
        return None
    return pixels


def is_plain(content: bytes) -> bool:
    """Whether the markers before the pixels are those of a plain JPEG."""
    if not content.startswith(_START) or not content.endswith(_END) or content[6:11] != _JFIF:
        return False
    pixels = content.find(_SCAN) + 4  # nearly always: the two bytes may also stand in a table, where the walk ends
    return (pixels <= _MOST_HEAD and _plain_again(content[:pixels])) or _leads_to_pixels(content)


def _leads_to_pixels(content: bytes) -> bool:
    place, framed = 2, False
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker, length = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == _START_OF_SCAN:
            return framed
        if marker in _FRAMES:
            if framed or not _is_rgb(content[place + 4 : place + 2 + length]):
                return False
            framed = True
        elif marker not in _HARMLESS and not (marker == _APP0 and place == 2):
            return False
        if length < 2:
            return False
        place += 2 + length
    return False


_plain_again = lru_cache(maxsize=64)(_leads_to_pixels)


def _is_rgb(frame: bytes) -> bool:
    """Whether a frame header tells of a picture of 8 bits and three components, of a usual size."""
    if len(frame) != 6 + 3 * 3 or frame[0] != 8 or frame[5] != 3:
        return False
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return 0 < height * width <= _MOST_PIXELS
