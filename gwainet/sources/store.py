"""Folders and zips of photos behind one small interface; a zip is read in place, never unpacked."""

import bz2
import hashlib
import lzma
import os
import stat
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

from gwainet.collector import uncollected
from gwainet.errors import SourceError
from gwainet.files import file_digest, say_bytes
from gwainet.sources.names import is_hidden, is_photo, is_usual, problem_of
from gwainet.sources.photo import Rejection

_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_UNPACKERS: dict[int, Callable[[], Any]] = {
    zipfile.ZIP_DEFLATED: partial(zlib.decompressobj, -15),
    zipfile.ZIP_BZIP2: bz2.BZ2Decompressor,
}
_PIECE = 4096  # bytes unpacked at a time
_LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")  # signature, flags, method, lengths of name and extra field
_SIGNATURE = b"PK\3\4"
_UTF8, _UNREADABLE_FLAGS = 0x800, 0x1 | 0x20 | 0x40  # encrypted, patched, strongly encrypted
_USUAL_EXTRA = 64  # bytes of a local header's extra field
MOST_BYTES = 2**28  # of a photo's file, or of a list: what says that it has more is never unpacked
UNREADABLE = (  # what reading a member of a damaged zip raises
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
)


class TooLargeError(Exception):
    """A file has more bytes, or says so, than any photo or list should."""


class Place(NamedTuple):
    """Where a member lies in its zip, as the zip's table of contents says.

    Attributes:
        offset: of its local header.
        end: where the next member begins, or the table of contents.
        packed: bytes in the zip.
        size: bytes unpacked.
        crc: CRC-32 unpacked.
        method: of packing.
    """

    offset: int
    end: int
    packed: int
    size: int
    crc: int
    method: int


class Store(Protocol):
    """Files under names with forward slashes; hidden files and macOS's `__MACOSX` are left out."""

    path: Path

    def files(self) -> dict[str, int]:
        """Name -> bytes of all files, sorted by name."""

    def refused(self) -> list[Rejection]:
        """Photos that are not among the files, because of what they are there, not of their pixels."""

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            SourceError: it is damaged, or has more bytes than a photo or a list should.
            KeyError, FileNotFoundError: there is none.
        """

    def places(self, names: Sequence[str]) -> list[Place | None]:
        """Where in a zip files lie; None in a folder."""

    def close(self) -> None:
        """Let go of open files."""


class FolderStore:
    """All files below a folder; folders that are links are followed, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[str, int]:
        """Name -> bytes of all files, sorted by name.

        Raises:
            SourceError: a name is not valid UTF-8, so that no manifest can hold it; or a folder cannot be read.
        """
        return self._looked[0]

    def refused(self) -> list[Rejection]:
        """Photos that are no files: broken links, pipes."""
        return [Rejection(name, "not a file", "a broken link, or no regular file") for name in self._looked[1]]

    @cached_property
    def _looked(self) -> tuple[dict[str, int], list[str]]:
        found: dict[str, int] = {}
        others: list[str] = []
        seen: set[str] = set()
        for folder, folders, names in os.walk(self.path, onerror=_cannot_read, followlinks=True):
            folders.sort()  # which of several links to one folder is followed must not depend on the disk
            real = os.path.realpath(folder)
            if real in seen:  # a link to a folder above would lead round in circles
                folders.clear()
                continue
            seen.add(real)
            for name in names:
                file = Path(folder, name)
                relative = file.relative_to(self.path).as_posix()
                if is_hidden(relative):
                    continue
                try:
                    relative.encode()
                except UnicodeEncodeError:
                    raise SourceError(
                        f"{self.path}: the name {relative!r} is not valid UTF-8: rename the file"
                    ) from None
                if file.is_file():
                    found[relative] = file.stat().st_size
                elif is_photo(relative):
                    others.append(relative)
        return dict(sorted(found.items())), sorted(others)

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return read_list(self.path / name)

    def places(self, names: Sequence[str]) -> list[Place | None]:
        """Files of a folder are read by their names."""
        return [None] * len(names)

    def size_and_digest(self) -> tuple[int, str]:
        """Bytes in all photos, and SHA-256 of names and sizes: reading all photos would take as long as the stage."""
        photos = {name: size for name, size in self.files().items() if is_photo(name)}
        lines = "".join(f"{name}\0{size}\n" for name, size in photos.items())
        return sum(photos.values()), hashlib.sha256(lines.encode()).hexdigest()

    def close(self) -> None:
        """Nothing is open."""


class ZipStore:
    """The members of a zip.

    Raises:
        SourceError: the file is not a zip, is cut short, is encrypted or packed in a way that cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with uncollected():
                self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        except UNREADABLE as error:
            raise SourceError(_what_is_wrong(path, str(error))) from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        self._refused: list[Rejection] = []
        twice: set[str] = set()
        for info in self._zip.infolist():
            name = info.filename
            if info.flag_bits & 1 or info.compress_type not in _READABLE:
                raise SourceError(self._packed_badly(info))
            if not is_usual(info):
                problem = problem_of(info)
                if problem is not None:
                    self._refuse(info.orig_filename, *problem)
                if problem is not None or name.endswith("/") or is_hidden(name):
                    continue
            if name in self._members:
                twice.add(name)
            else:
                self._members[name] = info
        for name in sorted(twice):  # programs differ in which of them they take
            del self._members[name]
            self._refuse(name, "name twice", "several files of this name in the zip")

    def _packed_badly(self, info: zipfile.ZipInfo) -> str:
        if info.flag_bits & 1:
            return f"{self.path} is encrypted ({info.filename}): unpack it with its password, zip it again without"
        return (
            f"{self.path}: {info.filename} is packed by a method that Python cannot read ({info.compress_type}): "
            "unpack it, then name the folder in fetch_faces.images or zip it again"
        )

    def _refuse(self, name: str, reason: str, detail: str) -> None:
        shown = name if name.isprintable() else ascii(name)[1:-1]
        if is_photo(shown):
            self._refused.append(Rejection(shown, reason, detail))

    def files(self) -> dict[str, int]:
        """Name -> bytes of all members, sorted by name."""
        return {name: self._members[name].file_size for name in sorted(self._members)}

    def refused(self) -> list[Rejection]:
        """Members whose name leads out of the zip's folder, links, and those of one name."""
        return self._refused

    def read(self, name: str) -> bytes:
        """A member's bytes."""
        info = self._members[name]
        if info.file_size > MOST_BYTES:
            raise SourceError(f"{self.path}: {name} {_too_large(info.file_size)}")
        try:
            return _unpacked(self._zip, info)
        except UNREADABLE as error:
            raise SourceError(f"{self.path}: {name} cannot be read ({error}): zip it again, or get it again") from error

    @cached_property
    def _starts(self) -> list[int]:
        """Where members begin, and where the last one ends."""
        return sorted({*(info.header_offset for info in self._zip.infolist()), self._zip.start_dir})

    def places(self, names: Sequence[str]) -> list[Place | None]:
        """Where in the zip members lie."""
        starts = self._starts
        found: list[Place | None] = []
        for name in names:
            info = self._members[name]
            end = starts[min(bisect_right(starts, info.header_offset), len(starts) - 1)]
            found.append(
                Place(info.header_offset, end, info.compress_size, info.file_size, info.CRC, info.compress_type)
            )
        return found

    def close(self) -> None:
        """Close the zip, and forget its table, which is large where there are many photos: it holds no file then."""
        self._zip.close()
        self._zip.filelist.clear()
        self._zip.NameToInfo.clear()
        self._members.clear()


def open_store(path: Path) -> Store:
    """Open a folder or a zip of photos.

    Raises:
        SourceError: it cannot be read as either.
    """
    return FolderStore(path) if path.is_dir() else ZipStore(path)


def size_and_digest(path: Path) -> tuple[int, str]:
    """Bytes in all, and SHA-256: of a zip's bytes, whose table is not read, or of a folder's names and sizes.

    Raises:
        SourceError: a folder cannot be read.
    """
    return FolderStore(path).size_and_digest() if path.is_dir() else (path.stat().st_size, file_digest(path))


class Reader:
    """Reads files of a folder or zip, in a process that needs no table of contents of its own.

    That of CelebA's zip takes a second to read and 100 MB to hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._zip: BinaryIO | None = None if path.is_dir() else path.open("rb", buffering=0)
        self._archive: zipfile.ZipFile | None = None
        self._members: dict[tuple[int, str], zipfile.ZipInfo] = {}

    def read(self, name: str, place: Place | None) -> bytes:
        """A file's bytes.

        Raises:
            TooLargeError: it has more than a photo should, or says so.
            UNREADABLE: it cannot be read, as `zipfile` says it.
        """
        if self._zip is None or place is None:
            size = (self.path / name).stat().st_size
            if size > MOST_BYTES:
                raise TooLargeError(_too_large(size))
            return (self.path / name).read_bytes()
        if max(place.size, place.packed) > MOST_BYTES:
            raise TooLargeError(_too_large(max(place.size, place.packed)))
        content = _read_member(self._zip, name, place)
        if content is None:  # packed in a rare way, or damaged
            return self._read_slowly(name, place)
        return content

    def _read_slowly(self, name: str, place: Place) -> bytes:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.path)
            self._members = {(info.header_offset, info.filename): info for info in self._archive.infolist()}
        try:
            return _unpacked(self._archive, self._members[place.offset, name])
        except MemoryError:  # LZMA: a damaged header may ask for 4 GB, however little is packed
            raise zipfile.BadZipFile("unpacking it would take more memory than there is") from None

    def close(self) -> None:
        """Close the zip."""
        for file in (self._zip, self._archive):
            if file is not None:
                file.close()


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes, in pieces: `ZipFile.read` unpacks all that there is, however little it says it is."""
    with archive.open(info) as member:
        return b"".join(iter(partial(member.read, _PIECE), b""))


def _read_member(file: BinaryIO, name: str, place: Place) -> bytes | None:
    """A member's bytes, if all is as the table of contents says; of LZMA None. In a third of `zipfile`'s time.

    Raises:
        BadZipFile: it unpacks to more than it says, and begins otherwise; in `zipfile`'s words.
    """
    encoded = name.encode()
    file.seek(place.offset)
    start = file.read(_LOCAL_HEADER.size + len(encoded) + _USUAL_EXTRA + place.packed)
    if len(start) < _LOCAL_HEADER.size:
        return None
    signature, flags, method, name_bytes, extra_bytes = _LOCAL_HEADER.unpack_from(start)
    begin = _LOCAL_HEADER.size + name_bytes + extra_bytes
    end = begin + place.packed
    if end > len(start):
        start += file.read(end - len(start))
    own_name = start[_LOCAL_HEADER.size : _LOCAL_HEADER.size + name_bytes]
    if (
        signature != _SIGNATURE
        or flags & _UNREADABLE_FLAGS
        or method != place.method
        or own_name != (encoded if flags & _UTF8 or name.isascii() else name.encode("cp437", "replace"))
        or end > len(start)
        or place.offset + end > place.end
    ):
        return None
    content: bytes = start[begin:end]
    if method in _UNPACKERS:
        unpacker = _UNPACKERS[method]()
        try:
            content = unpacker.decompress(content, place.size + 1)
        except (zlib.error, OSError):
            return None
        if len(content) > place.size:  # `zipfile` takes what it says, and so unpacks bzip2 without a bound
            content = content[: place.size]
            if zlib.crc32(content) != place.crc:
                raise zipfile.BadZipFile(f"Bad CRC-32 for file {name!r}")
            return content
        if not unpacker.eof:
            return None
    elif method != zipfile.ZIP_STORED:
        return None
    return content if len(content) == place.size and zlib.crc32(content) == place.crc else None


def read_list(path: Path) -> bytes:
    """The bytes of a file of any kind.

    Raises:
        SourceError: it is no regular file, or has more than a photo or a list should.
        FileNotFoundError: there is none.
    """
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):  # a pipe would be waited for
        raise SourceError(f"{path} is no regular file")
    if facts.st_size > MOST_BYTES:
        raise SourceError(f"{path} {_too_large(facts.st_size)}")
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error


def is_web_page(start: bytes) -> bool:
    """Whether a file's first bytes are those of an HTML page."""
    return start.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


def decode_text(path: Path, content: bytes) -> str:
    """The text of a list that came with the photos.

    Raises:
        SourceError: it is a web page, or not text.
    """
    if is_web_page(content[:1024]):
        raise SourceError(_web_page(path, "a text file"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8 text (byte {error.start}): save it as UTF-8, or get it again") from None


def _too_large(size: int) -> str:
    return f"has {say_bytes(size)}, and {say_bytes(MOST_BYTES)} are the most that are read of a photo or a list"


def _cannot_read(error: OSError) -> None:
    raise SourceError(f"{error.filename} cannot be read ({error.strerror}): its photos would be missed") from error


def _what_is_wrong(path: Path, error: str) -> str:
    with path.open("rb") as file:
        start = file.read(1024)
    size = path.stat().st_size
    if not start:
        return f"{path} is empty: get it again"
    if is_web_page(start):
        return _web_page(path, "a zip")
    if start.startswith((b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"\xfd7zXZ")) or start[257:262] == b"ustar":
        return f"{path} is another kind of archive, not a zip: unpack it and name the folder in fetch_faces.images"
    if start.startswith(b"PK"):
        return (
            f"{path} is cut short or damaged: it has {size:,} bytes and begins like a zip, but the table at its end "
            f"cannot be read ({error}). The download or copy did not finish: get it again"
        )
    return f"{path} is not a zip ({error}): get it again"


def _web_page(path: Path, expected: str) -> str:
    return (
        f"{path} is a web page, not {expected}: the site answered with a page, not the file. Google Drive does so "
        "when a file's daily download quota is used up: wait a day, or sign in, add a copy to your own Drive and "
        "download that one. Then replace this file"
    )
