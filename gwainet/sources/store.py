"""Folders and zips of photos behind one small interface; a zip is read in place, never unpacked."""

import hashlib
import os
import posixpath
import zipfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from gwainet.errors import SourceError
from gwainet.files import file_digest
from gwainet.sources.photo import IMAGE_SUFFIXES

_READABLE = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}


class Store(Protocol):
    """Files under names with forward slashes; hidden files and macOS's `__MACOSX` are left out."""

    path: Path

    def files(self) -> dict[str, int]:
        """Name -> bytes of all files, sorted by name."""

    def read(self, name: str) -> bytes:
        """A file's bytes."""

    def size_and_digest(self) -> tuple[int, str]:
        """Bytes in all, and SHA-256: of a zip's bytes, or of a folder's names and sizes."""

    def close(self) -> None:
        """Let go of open files."""


class FolderStore:
    """All files below a folder; folders that are links are followed, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def files(self) -> dict[str, int]:
        """Name -> bytes of all files, sorted by name.

        Raises:
            SourceError: a name is not valid UTF-8, so that no manifest can hold it.
        """
        found: dict[str, int] = {}
        seen: set[str] = set()
        for folder, folders, names in os.walk(self.path, followlinks=True):
            folders.sort()  # which of several links to one folder is followed must not depend on the disk
            real = os.path.realpath(folder)
            if real in seen:  # a link to a folder above would lead round in circles
                folders.clear()
                continue
            seen.add(real)
            for name in names:
                file = Path(folder, name)
                relative = file.relative_to(self.path).as_posix()
                if _hidden(relative) or not file.is_file():
                    continue
                try:
                    relative.encode()
                except UnicodeEncodeError:
                    raise SourceError(
                        f"{self.path}: the name {relative!r} is not valid UTF-8: rename the file"
                    ) from None
                found[relative] = file.stat().st_size
        return dict(sorted(found.items()))

    def read(self, name: str) -> bytes:
        """A file's bytes."""
        return (self.path / name).read_bytes()

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
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError, ValueError) as error:
            raise SourceError(_what_is_wrong(path, str(error))) from error
        for info in self._zip.infolist():
            if info.flag_bits & 1:
                raise SourceError(
                    f"{path} is encrypted ({info.filename}): unpack it with its password, zip it again without"
                )
            if info.compress_type not in _READABLE:
                raise SourceError(
                    f"{path}: {info.filename} is packed by a method that Python cannot read ({info.compress_type}): "
                    "unpack it, then name the folder in fetch_faces.images or zip it again"
                )

    def files(self) -> dict[str, int]:
        """Name -> bytes of all members, sorted by name."""
        members = {i.filename: i.file_size for i in self._zip.infolist() if not i.is_dir() and not _hidden(i.filename)}
        return dict(sorted(members.items()))

    def read(self, name: str) -> bytes:
        """A member's bytes."""
        return self._zip.read(name)

    def size_and_digest(self) -> tuple[int, str]:
        """Bytes and SHA-256 of the zip itself."""
        return self.path.stat().st_size, file_digest(self.path)

    def close(self) -> None:
        """Close the zip."""
        self._zip.close()


def open_store(path: Path) -> Store:
    """Open a folder or a zip of photos.

    Raises:
        SourceError: it cannot be read as either.
    """
    return FolderStore(path) if path.is_dir() else ZipStore(path)


def is_photo(name: str) -> bool:
    """Whether a name bears the suffix of a photo."""
    return posixpath.splitext(name)[1].lower() in IMAGE_SUFFIXES  # a path object for each of 200,000 takes seconds


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


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


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
