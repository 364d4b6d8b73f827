"""Photos that are not what they should be, each made of a good JPEG, and what preparation must make of them."""

import io
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.photos import encoded, write_folder, write_zip

Photos = Mapping[str, bytes]  # name -> JPEG


@dataclass(frozen=True)
class Kind:
    """A kind of damaged or strange file.

    Attributes:
        name: in words.
        outcome: the reason of `rejected.csv`, or what `converted.csv` says.
        make: a good JPEG -> the file.
        suffix: of its name.
        used: whether the photo becomes a face nevertheless.
    """

    name: str
    outcome: str
    make: Callable[[bytes], bytes]
    suffix: str = ".jpg"
    used: bool = False


@dataclass(frozen=True)
class Trick:
    """Something wrong with the place of a file, not with its bytes.

    Attributes:
        name: in words.
        outcome: the reason of `rejected.csv`; empty where the photos are used as they are.
        write: (path of the source, good photos, names of the bad ones) -> names under which they are to be listed.
    """

    name: str
    outcome: str
    write: Callable[[Path, Photos, list[str]], list[str]]


# --- files -----------------------------------------------------------------------------------------------------------


def _image(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _sixteen_bits(content: bytes) -> bytes:
    pixels = np.asarray(_image(content)).astype(np.uint16) * 257
    _, buffer = cv2.imencode(".png", pixels[..., ::-1])
    return bytes(buffer)


def _turned(content: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be looked at turned by 90 degrees clockwise
    return encoded(_image(content).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def _moving(kind: str) -> Callable[[bytes], bytes]:
    def make(content: bytes) -> bytes:
        image = _image(content)
        return encoded(image, kind, save_all=True, append_images=[image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)])

    return make


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@cache
def png_of(width: int, height: int) -> bytes:
    """A whole PNG of so many black pixels: a hundred kilobytes for a gigapixel of one bit."""
    packer = zlib.compressobj(9)
    line = bytes(1 + (width + 7) // 8)
    packed = b"".join(packer.compress(line * 100) for _ in range(height // 100))
    packed += packer.compress(line * (height % 100)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _huge_jpeg(content: bytes) -> bytes:
    """A JPEG whose header claims 65,500 x 65,500 pixels."""
    frame = re.search(rb"\xff[\xc0-\xc2]\x00\x11\x08", content)
    assert frame
    return content[: frame.end()] + struct.pack(">HH", 65500, 65500) + content[frame.end() + 4 :]


def many_scans(content: bytes) -> bytes:
    """A progressive JPEG of 2,000 scans: small in bytes, and each scan goes over all pixels."""
    progressive = encoded(_image(content), "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    return progressive[:-2] + progressive[last:-2] * 2000 + b"\xff\xd9"


KINDS = (
    Kind("cut short at 60 %", "unreadable", lambda c: c[: len(c) * 6 // 10]),
    Kind("cut short at 150 bytes", "unreadable", lambda c: c[:150]),
    Kind("no bytes at all", "not an image", lambda _: b""),
    Kind("zeros instead of its bytes", "not an image", lambda c: bytes(len(c))),
    Kind("a text named .jpg", "not an image", lambda _: b"404 Not Found\n"),
    Kind("a GIF named .jpg", "not an image", lambda c: encoded(_image(c), "GIF")),
    Kind("a PNG named .jpg", "PNG named .jpg", lambda c: encoded(_image(c), "PNG"), used=True),
    Kind("a JPEG named .png", "JPEG named .png", lambda c: c, ".png", used=True),
    Kind("CMYK", "CMYK", lambda c: encoded(_image(c).convert("CMYK"), "JPEG", quality=95), used=True),
    Kind("16 bits, colour", "16 bits", _sixteen_bits, ".png", used=True),
    Kind(
        "16 bits, grey", "grey", lambda c: encoded(np.asarray(_image(c).convert("L")).astype(np.uint16) * 257), ".png"
    ),
    Kind("grey", "grey", lambda c: encoded(_image(c).convert("L"), "JPEG")),
    Kind("palette", "P", lambda c: encoded(_image(c).convert("P")), ".png", used=True),
    Kind("transparent", "RGBA", lambda c: encoded(_image(c).convert("RGBA")), ".png", used=True),
    Kind("animated PNG", "animated", _moving("PNG"), ".png"),
    Kind("animated WebP", "animated", _moving("WEBP"), ".webp"),
    Kind("turned by EXIF", "turned", _turned, used=True),
    Kind("1 x 1 pixel", "too small", lambda _: encoded(np.zeros((1, 1, 3), np.uint8)), ".png"),
    Kind("bomb: a gigapixel, whole", "too large", lambda _: png_of(32_000, 32_000), ".png"),
    Kind("bomb: 170 megapixels, whole", "too large", lambda _: png_of(13_000, 13_000), ".png"),
    Kind("bomb: 4 gigapixels in a JPEG's header", "too large", _huge_jpeg),
    Kind("bomb: 2,000 scans in a JPEG", "too large", many_scans),
)


def with_kind(photos: Photos, bad: list[str], kind: Kind) -> tuple[dict[str, bytes], list[str]]:
    """The photos with some of them damaged, and the names of those."""
    made = {name: content for name, content in photos.items() if name not in bad}
    named = {name: name.removesuffix(".jpg") + kind.suffix for name in bad}
    return made | {named[name]: kind.make(photos[name]) for name in bad}, list(named.values())


# --- zips ------------------------------------------------------------------------------------------------------------


def _renamed(name_of: Callable[[str], str], shown_of: Callable[[str], str] | None = None) -> Callable[..., list[str]]:
    """Entries under other names than they should have."""

    def write(path: Path, photos: Photos, bad: list[str]) -> list[str]:
        write_zip(path, {name_of(name) if name in bad else name: content for name, content in photos.items()})
        return [(shown_of or name_of)(name) for name in bad]

    return write


def _nul(path: Path, photos: Photos, bad: list[str]) -> list[str]:
    """Names with a NUL, which Python's own writer would cut off."""
    write_zip(path, {name.replace(".jpg", "@.jpg") if name in bad else name: c for name, c in photos.items()})
    content = path.read_bytes()
    for name in bad:
        content = content.replace(name.replace(".jpg", "@.jpg").encode(), name.replace(".jpg", "\0.jpg").encode())
    path.write_bytes(content)
    return [name.replace(".jpg", "\\x00.jpg") for name in bad]


def _not_utf8(path: Path, photos: Photos, bad: list[str]) -> list[str]:
    """Names in another encoding than the zip says, of a program that knew neither."""
    write_zip(path, {name.replace(".jpg", "@@.jpg") if name in bad else name: c for name, c in photos.items()})
    path.write_bytes(path.read_bytes().replace(b"@@.jpg", "\u00e9".encode("cp1252") + b"@.jpg"))
    return []  # read as the zip's own code page has it, and used


def _links(path: Path, photos: Photos, bad: list[str]) -> list[str]:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in photos.items():
            info = zipfile.ZipInfo(name)
            if name in bad:
                info.create_system, info.external_attr = 3, 0o120777 << 16
                content = b"/etc/hostname"
            archive.writestr(info, content)
    return bad


def _twice(path: Path, photos: Photos, bad: list[str]) -> list[str]:
    write_zip(path, photos)
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in bad:
            archive.writestr(name, photos[next(iter(photos))])
    return bad


def _declared(size: int, packed: int | None = None) -> Callable[..., list[str]]:
    """Entries whose headers claim another size than they have."""

    def write(path: Path, photos: Photos, bad: list[str]) -> list[str]:
        write_zip(path, photos, zipfile.ZIP_DEFLATED)
        content = bytearray(path.read_bytes())
        for name in bad:
            at = content.rindex(name.encode()) - 46  # its entry in the table of contents
            content[at + 24 : at + 28] = struct.pack("<I", size)
            if packed is not None:
                content[at + 20 : at + 24] = struct.pack("<I", packed)
        path.write_bytes(content)
        return bad

    return write


def _zip_bombs(path: Path, photos: Photos, bad: list[str]) -> list[str]:
    """Entries that unpack to 300 MiB of zeros, and say so."""
    write_zip(path, {name: c for name, c in photos.items() if name not in bad})
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in bad:
            with archive.open(name, "w", force_zip64=True) as member:
                for _ in range(300):
                    member.write(bytes(2**20))
    return bad


def _changed(edit: Callable[[bytearray, zipfile.ZipInfo], None]) -> Callable[..., list[str]]:
    """A whole zip, then changed bytes at each entry's place."""

    def write(path: Path, photos: Photos, bad: list[str]) -> list[str]:
        write_zip(path, photos)
        content = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            for name in bad:
                edit(content, archive.getinfo(name))
        path.write_bytes(content)
        return bad

    return write


def _flip(content: bytearray, info: zipfile.ZipInfo) -> None:
    content[info.header_offset + 30 + len(info.filename) + info.file_size // 2] ^= 1


def _remove_header(content: bytearray, info: zipfile.ZipInfo) -> None:
    content[info.header_offset : info.header_offset + 30] = bytes(30)


def _lying(method: int) -> Callable[..., list[str]]:
    """Entries that unpack to 300 MiB of zeros, and say 1,000 bytes."""

    def write(path: Path, photos: Photos, bad: list[str]) -> list[str]:
        write_zip(path, {name: c for name, c in photos.items() if name not in bad})
        with zipfile.ZipFile(path, "a") as archive:
            for name in bad:
                info = zipfile.ZipInfo(name)
                info.compress_type = method
                with archive.open(info, "w", force_zip64=True) as member:
                    for _ in range(300):
                        member.write(bytes(2**20))
        content = bytearray(path.read_bytes())
        for name in bad:
            at = content.rindex(name.encode()) - 46
            content[at + 24 : at + 28] = struct.pack("<I", 1000)
        path.write_bytes(content)
        return bad

    return write


ZIP_TRICKS = (
    Trick("name `../x.jpg`", "unsafe name", _renamed(lambda n: f"../{n}")),
    Trick("name `a/../../x.jpg`", "unsafe name", _renamed(lambda n: f"a/../../{n}")),
    Trick("name `/photos/x.jpg`", "unsafe name", _renamed(lambda n: f"/photos/{n}")),
    Trick("name `C:/x.jpg`", "unsafe name", _renamed(lambda n: f"C:/{n}")),
    Trick(
        "name with backslashes",
        "unsafe name",
        _renamed(lambda n: "..\\" + n.replace("/", "\\"), lambda n: "..\\" + n.replace("/", "\\")),
    ),
    Trick("name with a line feed", "unsafe name", _renamed(lambda n: f"{n}\n.jpg", lambda n: f"{n}\\n.jpg")),
    Trick("name with a NUL", "unsafe name", _nul),
    Trick("name in another encoding", "", _not_utf8),
    Trick("an entry that is a symbolic link", "link", _links),
    Trick("two entries of one name", "name twice", _twice),
    Trick("a bit flipped in the zip", "unreadable", _changed(_flip)),
    Trick("an entry's own header gone", "unreadable", _changed(_remove_header)),
    Trick("bomb: unpacks to 300 MiB, and says so", "too large", _zip_bombs),
    Trick("says that it unpacks to 4 GB", "too large", _declared(2**32 - 2)),
    Trick("says that it unpacks to 10 bytes", "unreadable", _declared(10)),
    Trick("bomb: unpacks to 300 MiB, and says 1,000 bytes", "unreadable", _lying(zipfile.ZIP_DEFLATED)),
    Trick("the same, packed by bzip2", "unreadable", _lying(zipfile.ZIP_BZIP2)),
    Trick("the same, packed by LZMA", "unreadable", _lying(zipfile.ZIP_LZMA)),
    Trick("says that it has 4 GB in the zip", "too large", _declared(2**32 - 2, 2**32 - 2)),
)


# --- folders ---------------------------------------------------------------------------------------------------------


def _instead(put: Callable[[Path], object]) -> Callable[..., list[str]]:
    def write(path: Path, photos: Photos, bad: list[str]) -> list[str]:
        write_folder(path, photos)
        for name in bad:
            (path / name).unlink()
            put(path / name)
        return bad

    return write


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


FOLDER_TRICKS = (
    Trick("a broken link", "not a file", _instead(lambda p: p.symlink_to("gone.jpg"))),
    Trick("a link to itself", "not a file", _instead(lambda p: p.symlink_to(p.name))),
    Trick("a link to a text elsewhere", "not an image", _instead(lambda p: p.symlink_to("/etc/passwd"))),
    Trick("a pipe", "not a file", _instead(os.mkfifo)),
    Trick("bomb: a file of a terabyte of nothing", "too large", _instead(_sparse)),
)
