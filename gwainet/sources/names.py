"""Which names of files are photos, which are left alone, and which are refused."""

import re
import zipfile
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|^/|^[A-Za-z]:|(^|/)\.\.(/|$)")  # would lie elsewhere, or be another name there
_LINK = 0xA  # of a Unix file's type, in the highest bits of a member's attributes


def is_photo(name: str) -> bool:
    """Whether a name bears the suffix of a photo."""
    dot = name.rfind(".")  # by hand: what `posixpath` takes for 200,000 names is a second, a path object ten
    return name[dot:].lower() in IMAGE_SUFFIXES and bool(name[:dot].rpartition("/")[2].strip("."))


def is_hidden(name: str) -> bool:
    """Whether a file is hidden, or macOS's own."""
    if "." not in name[:1] and "/." not in name and "__MACOSX" not in name:
        return False  # nearly all of 200,000
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def is_usual(info: zipfile.ZipInfo) -> bool:
    """Whether nothing is special about a zip's member, told in a moment: CelebA's has 200,000."""
    name = info.filename
    return (
        name == info.orig_filename
        and info.external_attr >> 28 != _LINK
        and name[:1] not in ("", "/", ".")
        and name[-1] != "/"
        and "/." not in name
        and "__MACOSX" not in name
        and ":" not in name
        and "\\" not in name
        and name.isprintable()
    )


def problem_of(info: zipfile.ZipInfo) -> tuple[str, str] | None:
    """Why a member is not taken for a file, in reason and detail; None where it may be."""
    if info.filename != info.orig_filename or _UNSAFE.search(info.filename):
        return "unsafe name", "its path would lead out of its folder, or holds characters that no path should"
    if info.external_attr >> 28 == _LINK:
        return "link", "a symbolic link, not a file"
    return None
