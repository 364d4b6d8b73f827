"""From a photo's bytes to the crop and its low-resolution image; runs in worker processes, so it imports little."""

import hashlib
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from gwainet.images import DAMAGE, Uint8, downscale
from gwainet.params import Crop
from gwainet.sources.photo import Rejection
from gwainet.sources.store import Store, open_store
from gwainet.workers import cores, ordered_map

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_CHUNK = 16  # photos sent to a process at a time: about 1 MB of crops comes back


@dataclass(frozen=True, slots=True)
class Face:
    """A usable photo.

    Attributes:
        hr: (H, W, 3), the crop.
        lr: (H/8, W/8, 3).
        sha256: of the photo's bytes.
        height: of the photo as it is looked at (after EXIF orientation), pixels.
        width: of the photo, pixels.
        converted_from: Pillow's name of the mode it had, if not RGB; else None.
        pixels: SHA-256 of `hr` and `lr`.
        sums: per channel over all pixels, of `lr` (row 0) and `hr` (row 1): integers, so that means are exact.
    """

    hr: Uint8
    lr: Uint8
    sha256: str
    height: int
    width: int
    converted_from: str | None
    pixels: str
    sums: npt.NDArray[np.int64]


def pixel_digest(hr: Uint8, lr: Uint8) -> str:
    """SHA-256 of an image and its low-resolution image."""
    digest = hashlib.sha256(np.ascontiguousarray(hr).data)
    digest.update(np.ascontiguousarray(lr).data)
    return digest.hexdigest()


def crop_photo(store: Store, file: str, box: Crop) -> Face | Rejection:
    """Read, decode, turn upright, crop, convert to RGB and downscale a photo (Sec. 4.1; D3 and D4 in docs/paper.md).

    A photo that cannot be used comes back as a `Rejection`: unreadable, not an image, too small, too large or grey.
    """
    try:
        content = store.read(file)
    except (*DAMAGE, BadZipFile) as error:
        return Rejection(file, "unreadable", _say(error))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a dubious but decodable photo is usable; what fails is rejected below
            with Image.open(BytesIO(content), formats=_FORMATS) as image:
                mode = image.mode
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
                width, height = image.size
                right, bottom = box.left + box.width, box.top + box.height
                if width < right or height < bottom:
                    detail = f"{height} x {width} pixels (height x width), the crop needs {bottom} x {right}"
                    return Rejection(file, "too small", detail)
                if mode in _GREY_MODES:
                    return Rejection(file, "grey", f"mode {mode}")
                part = image.crop((box.left, box.top, right, bottom))
                hr = np.asarray(part if mode == "RGB" else part.convert("RGB"))
    except UnidentifiedImageError:
        return Rejection(file, "not an image", f"{len(content)} bytes that are no JPEG, PNG, WebP or BMP")
    except Image.DecompressionBombError as error:
        return Rejection(file, "too large", _say(error))
    except DAMAGE as error:
        return Rejection(file, "unreadable", _say(error))
    if _is_grey(hr):
        return Rejection(file, "grey", "all channels are equal")
    lr = downscale(hr)
    sums = np.stack([_channel_sums(lr), _channel_sums(hr)])
    converted_from = None if mode == "RGB" else mode
    return Face(hr, lr, hashlib.sha256(content).hexdigest(), height, width, converted_from, pixel_digest(hr, lr), sums)


def crop_photos(images: Path, files: Sequence[str], box: Crop, workers: int) -> Generator[Face | Rejection, None, None]:
    """Crop photos in the order given, in `workers` processes (0: one a core); their number does not change the result.

    Raises:
        DataError: a process died.
    """
    workers = min(workers or cores(), -(-len(files) // _CHUNK))
    if workers <= 1:
        store = open_store(images)
        try:
            for file in files:
                yield crop_photo(store, file, box)
        finally:
            store.close()
        return
    chunks = (files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK))
    with closing(ordered_map(_crop_chunk, chunks, workers, _open, (images, box))) as results:
        for faces in results:
            yield from faces


_store: Store
_box: Crop


def _open(images: Path, box: Crop) -> None:
    """Start a worker process: it opens the zip once, for itself."""
    global _store, _box
    _store, _box = open_store(images), box


def _crop_chunk(files: Sequence[str]) -> list[Face | Rejection]:
    return [crop_photo(_store, file, _box) for file in files]


def _channel_sums(image: Uint8) -> npt.NDArray[np.int64]:
    """Sum of each channel; down the rows first, which NumPy does 20 times faster than both axes at once."""
    height, width, channels = image.shape
    rows = image.reshape(height, width * channels).sum(axis=0, dtype=np.uint32)  # exact below 16 million rows
    sums: npt.NDArray[np.int64] = rows.reshape(width, channels).sum(axis=0, dtype=np.int64)
    return sums


def _is_grey(hr: Uint8) -> bool:
    """Whether all channels are equal; a picture of one flat colour is left to `check_faces`."""
    red = hr[..., 0]
    equal = bool((red == hr[..., 1]).all() and (red == hr[..., 2]).all())
    return equal and int(red.min()) != int(red.max())


def _say(error: BaseException) -> str:
    """One line for `rejected.csv`, the same on every machine and run: no addresses of objects in memory."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
