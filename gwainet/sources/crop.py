"""From photos to the rows of `hr.npy` and `lr.npy`; runs in worker processes, so it imports little."""

import hashlib
import warnings
from collections.abc import Generator, Sequence
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from gwainet import compiled
from gwainet.duplicates import small_faces
from gwainet.images import DAMAGE, Uint8, channel_sums, downscale
from gwainet.params import Crop
from gwainet.sources.checksum import pixel_digests
from gwainet.sources.jpeg import decode_plain
from gwainet.sources.packed import FaceArrays
from gwainet.sources.photo import Rejection
from gwainet.sources.store import UNREADABLE, Place, Reader, Store, TooLargeError, open_store
from gwainet.workers import cores, ordered_map

UNREAD = "unreadable"  # the reason of a rejection that may be a passing one: a disk that fails, rights
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"}
_CHUNK = 64  # photos that a process is asked for at a time: asking costs as much as a decoding
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"),
    "MPO": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
}
_MOST_PIXELS = 2**26  # of a photo: 0.9 GB while the largest JPEG of them is decoded (progressive CMYK)
_MOST_SCANS = 500  # of a JPEG, as libjpeg-turbo's own tests limit it: each goes over all pixels once more
_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"  # the second cannot stand among a JPEG's coded pixels
_ORIENTATION = 0x0112
_PNG_BITS = 24  # where a PNG says how many bits a channel has


class Cropped(NamedTuple):
    """A usable photo, its crop apart.

    Attributes:
        sha256: of the photo's bytes.
        height: of the photo as it is looked at (after EXIF orientation), pixels.
        width: of the photo, pixels.
        converted_from: what it was, if not an upright RGB photo of 8 bits whose name says what it is: Pillow's name of
            its mode, `16 bits`, `turned` (by its EXIF tag), `PNG named .jpg`; else None.
    """

    sha256: str
    height: int
    width: int
    converted_from: str | None


class Face(NamedTuple):
    """A photo that became a row of `hr.npy` and `lr.npy`.

    Attributes:
        photo: what it was made from.
        pixels: checksum of its pictures, `pixel_digest`.
        sums: per channel over all pixels, of LR and of HR: integers, so that means are exact.
    """

    photo: Cropped
    pixels: str
    sums: tuple[list[int], list[int]]


def crop_photo(file: str, content: bytes, box: Crop, hr: Uint8) -> Cropped | Rejection:
    """Decode a photo, turn it upright, convert it to RGB and crop it (Sec. 4.1; D3 and D4 in docs/paper.md).

    A photo that cannot be used comes back as a `Rejection`: unreadable, not an image, animated,
    too small, too large or grey.

    Args:
        file: its name.
        content: its bytes.
        box: what to crop.
        hr: (H, W, 3), gets the crop; what it holds after a rejection means nothing.
    """
    scans = _scans(content) if content.startswith(_JPEG) else 0
    if scans > _MOST_SCANS:
        return Rejection(file, "too large", f"{scans:,} scans, {_MOST_SCANS} are the most")
    pixels = decode_plain(content)
    if pixels is not None:
        height, width = pixels.shape[:2]
        if rejection := _too_small(file, height, width, box):
            return rejection
        hr[...] = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        notes = _wrong_suffix(file, "JPEG")
    else:
        judged = _crop_by_pillow(file, content, box, hr)
        if isinstance(judged, Rejection):
            return judged
        height, width, notes = judged
    if _is_grey(hr):
        return Rejection(file, "grey", "all channels are equal")
    return Cropped(hashlib.sha256(content).hexdigest(), height, width, " and ".join(notes) or None)


def _scans(content: bytes) -> int:
    """How many scans a JPEG has, or, where its last bytes alone say that there are few, no fewer than that."""
    few = content.count(_SCAN[1:])  # one byte is counted in a tenth of the time of two
    return content.count(_SCAN) if few > _MOST_SCANS else few


def _crop_by_pillow(file: str, content: bytes, box: Crop, hr: Uint8) -> tuple[int, int, list[str]] | Rejection:
    """Whatever Pillow reads: the photo's height and width, and what was done to it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a dubious but decodable photo is usable; what fails is rejected below
            with Image.open(BytesIO(content), formats=_FORMATS) as image:
                if rejection := _unfit(file, image):
                    return rejection
                mode, notes = image.mode, _notes(file, content, image)
                ImageOps.exif_transpose(image, in_place=True)
                image.load()
                width, height = image.size
                if rejection := _too_small(file, height, width, box):
                    return rejection
                if mode in _GREY_MODES:
                    return Rejection(file, "grey", f"mode {mode}")
                part = image.crop((box.left, box.top, box.left + box.width, box.top + box.height))
                hr[...] = np.asarray(part if mode == "RGB" else part.convert("RGB"))
                return height, width, notes
    except UnidentifiedImageError:
        return Rejection(file, "not an image", f"{len(content)} bytes that are no JPEG, PNG, WebP or BMP")
    except Image.DecompressionBombError as error:
        return Rejection(file, "too large", _say(error))
    except DAMAGE as error:
        return Rejection(file, UNREAD, _say(error))


def _unfit(file: str, image: Image.Image) -> Rejection | None:
    """What a file's header alone tells against it, before any pixel is decoded."""
    width, height = image.size
    if width * height > _MOST_PIXELS:
        detail = f"{height} x {width} pixels (height x width), {_MOST_PIXELS:,} pixels are the most"
        return Rejection(file, "too large", detail)
    if image.format in ("PNG", "WEBP") and getattr(image, "is_animated", False):
        return Rejection(file, "animated", f"{getattr(image, 'n_frames', 0)} pictures, not one")
    return None


def _notes(file: str, content: bytes, image: Image.Image) -> list[str]:
    """What sets a usable photo apart from a plain one, `Cropped.converted_from`."""
    kind = image.format or ""
    notes = [] if image.mode == "RGB" else [image.mode]
    if kind == "PNG" and content[_PNG_BITS : _PNG_BITS + 1] == b"\x10":
        notes.append("16 bits")
    if image.getexif().get(_ORIENTATION) in range(2, 9):
        notes.append("turned")
    return notes + _wrong_suffix(file, kind)


def _wrong_suffix(file: str, kind: str) -> list[str]:
    """A note on a file whose name says another format than its bytes; a name without a suffix says nothing."""
    name = file[file.rfind("/") + 1 :].lower()
    if "." not in name or name.endswith(_SUFFIXES[kind]):
        return []
    return [f"{kind} named {name[name.rindex('.') :]}"]


def _too_small(file: str, height: int, width: int, box: Crop) -> Rejection | None:
    right, bottom = box.left + box.width, box.top + box.height
    if width >= right and height >= bottom:
        return None
    detail = f"{height} x {width} pixels (height x width), the crop needs {bottom} x {right}"
    return Rejection(file, "too small", detail)


def write_faces(
    store: Store, files: Sequence[str], box: Crop, workers: int, directory: Path, first: int = 0
) -> Generator[Face | Rejection, None, None]:
    """Crop photos and write their pictures: photo i is row `first` + i; a rejected photo's row means nothing.

    The processes write themselves, so that no picture goes from one to another; their number changes no byte.

    Args:
        store: the folder or zip; closed when it has told where the files lie.
        files: names in it.
        box: what to crop.
        workers: processes; 0 is one a core.
        directory: of the files that `FaceArrays` has begun.
        first: row of the first photo.

    Yields:
        what became of each photo, in the order of `files`, when its row is written.

    Raises:
        DataError: a process died.
    """
    with closing(store):
        images, places = store.path, store.places(files)
    starts = range(0, len(files), _CHUNK)
    chunks = ((first + start, files[start : start + _CHUNK], places[start : start + _CHUNK]) for start in starts)
    workers = min(workers or cores(), len(starts))
    if workers <= 1:
        with closing(_Cropping(images, box, directory, len(files))) as cropping:
            for chunk in chunks:
                yield from cropping.write(*chunk)
        return
    with closing(
        ordered_map(_write_chunk, chunks, workers, _begin, (images, box, directory, len(files) // workers))
    ) as results:
        for faces in results:
            yield from faces


class Again:
    """Looks at single photos once more, in this process; what they are read from is opened when the first comes.

    Args:
        images: the folder or zip.
        box: what to crop.
        directory: where `FaceArrays` were begun.
    """

    def __init__(self, images: Path, box: Crop, directory: Path) -> None:
        self._images, self._box, self._directory = images, box, directory
        self._opened: tuple[Store, _Cropping] | None = None

    def write(self, row: int, file: str) -> Face | Rejection:
        """Crop a photo and write its row."""
        if self._opened is None:
            self._opened = open_store(self._images), _Cropping(self._images, self._box, self._directory, 1)
        store, cropping = self._opened
        return cropping.write(row, [file], store.places([file]))[0]

    def close(self) -> None:
        """Close what was opened."""
        for file in self._opened or ():
            file.close()


_Chunk = tuple[int, Sequence[str], Sequence[Place | None]]  # first row, files, where in the zip they lie


class _Cropping:
    """What a process keeps open, and the memory that it works in."""

    def __init__(self, images: Path, box: Crop, directory: Path, photos: int) -> None:
        self._reader, self._box = Reader(images), box
        self._arrays = FaceArrays(directory, box)
        compiled.expect(photos)
        self._crops: Uint8 = np.zeros((compiled.TOGETHER, box.height, box.width, 3), np.uint8)

    def write(self, first: int, files: Sequence[str], places: Sequence[Place | None]) -> list[Face | Rejection]:
        """Crop some photos and write their rows from `first` on."""
        results: list[Face | Rejection] = []
        for start in range(0, len(files), compiled.TOGETHER):
            part = slice(start, start + compiled.TOGETHER)
            results += self._write_few(first + start, files[part], places[part])
        return results

    def _write_few(self, first: int, files: Sequence[str], places: Sequence[Place | None]) -> list[Face | Rejection]:
        crops = self._crops[: len(files)]
        photos = [self._crop(*each) for each in zip(files, places, crops, strict=True)]
        turned = compiled.Turned(crops) if compiled.ready() else None
        low = downscale(crops, turned)
        self._arrays.write(first, crops, low, small_faces(crops, turned))
        sums = zip(channel_sums(low).tolist(), channel_sums(crops).tolist(), strict=True)
        return [
            photo if isinstance(photo, Rejection) else Face(photo, pixels, of)
            for photo, pixels, of in zip(photos, pixel_digests(crops, low), sums, strict=True)
        ]

    def _crop(self, file: str, place: Place | None, hr: Uint8) -> Cropped | Rejection:
        try:
            content = self._reader.read(file, place)
        except TooLargeError as error:
            return Rejection(file, "too large", _say(error))
        except UNREADABLE as error:
            return Rejection(file, UNREAD, _say(error))
        return crop_photo(file, content, self._box, hr)

    def close(self) -> None:
        """Close the files."""
        for file in (self._reader, self._arrays):
            file.close()


_cropping: _Cropping


def _begin(images: Path, box: Crop, directory: Path, photos: int) -> None:
    """Start a worker process: it opens all files once, for itself."""
    global _cropping
    _cropping = _Cropping(images, box, directory, photos)


def _write_chunk(chunk: _Chunk) -> list[Face | Rejection]:
    return _cropping.write(*chunk)


def _is_grey(hr: Uint8) -> bool:
    """Whether all channels are equal; a picture of one flat colour is left to `check_faces`."""
    red = hr[..., 0]
    first = hr[0].tobytes()
    if first[0::3] != first[1::3]:  # a row tells of nearly all photos
        return False
    equal = bool((red == hr[..., 1]).all() and (red == hr[..., 2]).all())
    return equal and int(red.min()) != int(red.max())


def _say(error: BaseException) -> str:
    """One line for `rejected.csv`, the same on every machine and run: no addresses of objects in memory."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()) or type(error).__name__
