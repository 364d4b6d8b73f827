"""Where photos come from: one file a source, all of them yielding the same records.

`locate` finds what the params name, `Files.listing` reads the lists and joins them with the photos, and
`Files.describe` pins it all for `source.json`, from which `reopen` starts in a later stage. Nothing here writes.
"""

import hashlib
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict

from gwainet.errors import SourceError
from gwainet.params import FetchFaces
from gwainet.sources import celeba, folder, pairs
from gwainet.sources.photo import SPLITS, Listing, Photo, Rejection
from gwainet.sources.store import Store, ZipStore, decode_text, open_store, read_list, size_and_digest

__all__ = [
    "DRAWN_FILES",
    "SPLITS",
    "FileEntry",
    "Files",
    "Listing",
    "Photo",
    "Rejection",
    "Store",
    "licence",
    "locate",
    "names_of",
    "open_store",
    "reopen",
]

DRAWN_FILES = {
    "images": "img_align_celeba.zip",
    "identities": "identity_CelebA.txt",
    "partition": "list_eval_partition.txt",
    "landmarks": "list_landmarks_align_celeba.txt",
}


class FileEntry(TypedDict):
    """A file as `source.json` pins it."""

    role: str
    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class _Origin:
    where: str
    licence: str


_CELEBA = _Origin(
    "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html (Align&Cropped Images; Identities; Train/Val/Test Partitions; "
    "Landmarks, Aligned & Cropped)",
    "CelebA: non-commercial research only, no redistribution of the photos",
)
_LFW = _Origin(
    "http://vis-www.cs.umass.edu/lfw ('All images aligned with deep funneling')",
    "LFW: research only; the photos belong to news agencies, do not republish",
)
_OWN = _Origin("your own photos: see the README.md in this folder", "the photos' own: ask whoever gave them to you")
_DRAWN = _Origin("drawn by the project", "the project's own (Apache-2.0): no real person is shown")


def _origin(source: str, images: str) -> _Origin:
    if source == "folder":
        return _LFW if PurePosixPath(images).name.lower().startswith("lfw") else _OWN
    return {"drawn": _DRAWN, "celeba": _CELEBA, "pairs": _OWN}[source]


def licence(source: str, images: str) -> str:
    """Under which terms the photos may be used."""
    return _origin(source, images).licence


@dataclass(frozen=True)
class Files:
    """A source's files.

    Attributes:
        source: drawn, celeba, folder or pairs.
        root: the directory that the paths are relative to.
        paths: role -> path; a list that lies inside a zip has the zip's path before its own; without `landmarks` where
            there are none.
    """

    source: str
    root: Path
    paths: Mapping[str, str]

    @property
    def images(self) -> Path:
        """The folder or zip of the photos."""
        return self.root / self.paths["images"]

    def listing(self, store: Store | None = None) -> Listing:
        """Read the lists and join them with the photos; no photo is opened.

        Args:
            store: `images`, opened already, which it stays.

        Raises:
            SourceError: a list or the zip is damaged, or they do not fit together.
        """
        if store is None:
            with closing(open_store(self.images)) as store:
                return self.listing(store)
        if self.source in ("drawn", "celeba"):
            landmarks = self._text("landmarks") if "landmarks" in self.paths else None
            return celeba.list_photos(store, self._text("identities"), self._text("partition"), landmarks)
        if self.source == "folder":
            return folder.list_photos(store)
        return pairs.list_photos(store, self._text("pairs"))

    def describe(self) -> list[FileEntry]:
        """The files with sizes and digests, as `source.json` holds them."""
        return [self._entry(role) for role in self.paths]

    def _entry(self, role: str) -> FileEntry:
        if role == "images":
            size, digest = size_and_digest(self.images)
        else:
            content = self._bytes(role)
            size, digest = len(content), hashlib.sha256(content).hexdigest()
        return {"role": role, "path": self.paths[role], "bytes": size, "sha256": digest}

    def _text(self, role: str) -> tuple[Path, str]:
        path = self.root / self.paths[role]
        return path, decode_text(path, self._bytes(role))

    def _bytes(self, role: str) -> bytes:
        path = self.root / self.paths[role]
        if not (path.is_relative_to(self.images) and self.images.is_file()):
            return read_list(path)
        store = ZipStore(self.images)
        try:
            return store.read(path.relative_to(self.images).as_posix())
        finally:
            store.close()


def locate(settings: FetchFaces, root: Path) -> Files:
    """Find the files that the params name, below `data/source/<profile>/`.

    Raises:
        SourceError: a file is missing: the message says which, where it should lie, where to get it and its licence.
    """
    if settings.source == "drawn":
        return Files("drawn", root, DRAWN_FILES)
    names, inside = names_of(settings, root), None
    if names.get("landmarks") == DRAWN_FILES["landmarks"] and not (root / names["landmarks"]).exists():
        del names["landmarks"]  # by its usual name it may be absent; who gives it another means a file that is there
    missing = {role: name for role, name in names.items() if not (root / name).exists()}
    if "pairs" in missing and "images" not in missing:
        store = open_store(root / names["images"])
        try:
            inside = pairs.find_list(store, names["pairs"])
        finally:
            store.close()
        if inside is not None:
            del missing["pairs"]
            names["pairs"] = f"{names['images']}/{inside}"
    if missing:
        origin = _origin(settings.source, settings.images)
        lines = "\n".join(f"  {root / name}   (fetch_faces.{role})" for role, name in missing.items())
        raise SourceError(
            f"missing for the source `{settings.source}`:\n{lines}\n"
            f"Where to get it: {origin.where}\nLicence: {origin.licence}\n"
            f"An unpacked folder does as well as a zip: set fetch_faces.images to its name. See {root / 'README.md'}"
        )
    for role, name in names.items():
        if role != "images" and (root / name).is_dir():
            raise SourceError(f"{root / name} is a folder; fetch_faces.{role} must be a text file")
    return Files(settings.source, root, names)


def names_of(settings: FetchFaces, root: Path) -> dict[str, str]:
    """Role -> name, below `root`, of the files that the params name.

    Raises:
        SourceError: one would lie elsewhere.
    """
    names = {"images": settings.images}
    if settings.source == "celeba":
        names |= {"identities": settings.identities, "partition": settings.partition, "landmarks": settings.landmarks}
    if settings.source == "pairs":
        names["pairs"] = settings.pairs
    for role, name in names.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not name:
            raise SourceError(
                f"fetch_faces.{role} is {name!r}: it must lie in {root}, or its changes would go unseen "
                "(a link in that folder to a place elsewhere is fine)"
            )
    return names


def reopen(info: Mapping[str, Any], root: Path) -> Files:
    """The files that `source.json` pins, checked to be the same still.

    Raises:
        SourceError: one is gone or has changed.
    """
    files = Files(info["source"], root, {entry["role"]: entry["path"] for entry in info["files"]})
    for entry in info["files"]:
        try:
            now = files._entry(entry["role"])
        except (FileNotFoundError, KeyError):
            raise SourceError(
                f"{root / entry['path']} is gone since fetch_faces saw it: put it back, or run fetch_faces again"
            ) from None
        if now != entry:
            raise SourceError(f"{root / entry['path']} has changed since fetch_faces saw it: run fetch_faces again")
    return files
