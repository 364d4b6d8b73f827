"""A folder brought up to date with a bucket: what is unchanged is not fetched, what the user put there is not touched.

Beside the folder lies `.<its name>.s3/`: what is being fetched, and `mirrored.json`, which says of each file from which
content of the bucket it came and what it looked like then. A file that looks otherwise now is the user's own.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gwainet.errors import StorageError
from gwainet.files import write_json
from gwainet.progress import say
from gwainet.storage.client import Bucket, Remote, explained, open_bucket
from gwainet.storage.download import fetch, is_intact

_SHOWN = 3


@dataclass(frozen=True)
class Listing:
    """What a bucket holds under some names.

    Attributes:
        bucket: the place.
        names: relative to it, of objects and folders; those that are there.
        remotes: the objects.
    """

    bucket: Bucket
    names: tuple[str, ...]
    remotes: tuple[Remote, ...]

    @property
    def version(self) -> str:
        """12 hexadecimal digits over names, sizes and ETags: it changes with the photos, and needs none of them."""
        lines = sorted(f"{remote.path}\0{remote.bytes}\0{remote.etag}\n" for remote in self.remotes)
        return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def look(url: str, names: Sequence[str], optional: Sequence[str] = ()) -> Listing:
    """List the objects that names stand for: an object itself, or all below a folder; hidden ones are left out.

    Args:
        url: `s3://bucket/prefix`.
        names: relative to it.
        optional: more of them, which may be missing.

    Raises:
        StorageError: the bucket cannot be listed or lacks a name.
    """
    bucket = open_bucket(url)
    found = {name: [r for r in bucket.list(name) if not _hidden(r.path)] for name in (*names, *optional)}
    for name, remotes in found.items():
        if not remotes and name not in optional:
            raise StorageError(f"{url} holds no {name}: correct its name in the params, or upload it")
        if len(remotes) > 1 and any(remote.path == name for remote in remotes):
            raise StorageError(f"{url}: {name} is an object and a folder at once: rename one of them")
    there = {name: remotes for name, remotes in found.items() if remotes}
    return Listing(bucket, tuple(there), tuple(remote for remotes in there.values() for remote in remotes))


def mirrored_before(folder: Path, url: str, version: str) -> bool:
    """Whether a folder was brought up to date with this version already; the bucket is not asked."""
    state = _read(_beside(folder) / "mirrored.json")
    return (state.get("url"), state.get("version")) == (url, version)


def mirror(listing: Listing, folder: Path) -> int:
    """Bring a folder up to date with what was found in a bucket; complete, or as it was.

    A file that was mirrored before and is gone from the bucket is deleted.

    Returns:
        How many objects were fetched.

    Raises:
        StorageError: the bucket refuses, does not answer or has changed since it was listed; a file that the user put
            there is in the way; the disk is full. The folder is as it was, and the next attempt goes on with what was
            fetched.
    """
    bucket, url = listing.bucket, listing.bucket.url
    remotes = {remote.path: remote for remote in listing.remotes}
    with _alone(folder) as beside:
        known = _read(beside / "mirrored.json").get("files", {})
        wanted = _changed(bucket, remotes, folder, known)
        _check_strangers(listing, remotes, folder, known)
        files = fetch(bucket, wanted, beside)
        with explained(url):
            for path, file in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                file.replace(folder / path)
            mine = {path for path in known if path.startswith(tuple(f"{name}/" for name in listing.names))}
            gone = [path for path in sorted(mine - set(remotes)) if _is_as_fetched(folder / path, known[path])]
            for path in gone:
                (folder / path).unlink()
            others = {path: entry for path, entry in known.items() if path not in mine}
            state = {"url": url, "version": listing.version, "files": {**others, **_entries(remotes, folder)}}
            write_json(beside / "mirrored.json", state)
            for leftover in {*beside.iterdir()} - {beside / "mirrored.json", beside / "lock"}:
                leftover.unlink()
    say(
        f"{url}, version {listing.version}: fetched {len(files):,} of {len(remotes):,} objects "
        f"({sum(remote.bytes for remote in wanted) / 1e6:,.1f} MB)" + (f", removed {len(gone):,}" if gone else "")
    )
    return len(files)


def _changed(bucket: Bucket, remotes: Mapping[str, Remote], folder: Path, known: Mapping[str, Any]) -> list[Remote]:
    """The objects to fetch.

    Raises:
        StorageError: a file of the same name is the user's own, and another one.
    """
    changed = []
    for path, remote in remotes.items():
        file = folder / path
        if _is_as_fetched(file, known.get(path)):
            if (known[path]["etag"], known[path]["bytes"]) != (remote.etag, remote.bytes):
                changed.append(remote)
        elif not (file.exists() or file.is_symlink()):
            changed.append(remote)
        elif not (file.is_file() and is_intact(bucket, remote, file)):
            raise StorageError(
                f"{file} is in the way: it is not what {bucket.url} holds, and was not fetched from there, or was "
                "edited since. Move it away, or set fetch_faces.location to null to use it"
            )
    return changed


def _check_strangers(listing: Listing, remotes: Mapping[str, Remote], folder: Path, known: Mapping[str, Any]) -> None:
    """Refuse photos that the bucket does not hold: they would be used, and nobody else would have them."""
    folders = [folder / name for name in listing.names if (folder / name).is_dir()]
    files = (file for place in folders for file in place.rglob("*") if file.is_file())
    paths = (file.relative_to(folder).as_posix() for file in files)
    strange = sorted(path for path in paths if path not in remotes and path not in known and not _hidden(path))
    if strange:
        shown = ", ".join(strange[:_SHOWN]) + (", ..." if len(strange) > _SHOWN else "")
        raise StorageError(
            f"{folder} holds {len(strange):,} files that are not in {listing.bucket.url} ({shown}): move them away, "
            "upload them, or set fetch_faces.location to null"
        )


def _is_as_fetched(file: Path, known: Mapping[str, Any] | None) -> bool:
    """Whether a file is still the one that was fetched, by its size and time."""
    if known is None or not file.is_file():
        return False
    status = file.stat()
    return (status.st_size, status.st_mtime_ns) == (known["bytes"], known["mtime_ns"])


def _entries(remotes: Mapping[str, Remote], folder: Path) -> dict[str, Any]:
    return {
        path: {"etag": remote.etag, "bytes": remote.bytes, "mtime_ns": (folder / path).stat().st_mtime_ns}
        for path, remote in remotes.items()
    }


def _beside(folder: Path) -> Path:
    real = folder.resolve()  # a link's other end: files move from there to here
    return real.with_name(f".{real.name}.s3")


def _read(path: Path) -> dict[str, Any]:
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: every file is compared with the bucket
        return {}
    return state if isinstance(state, dict) else {}


@contextmanager
def _alone(folder: Path) -> Iterator[Path]:
    """The folder beside, for one process at a time."""
    from filelock import FileLock

    beside = _beside(folder)
    with explained(str(folder)):
        beside.mkdir(parents=True, exist_ok=True)
    with FileLock(beside / "lock"):
        yield beside


def _hidden(path: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in path.split("/"))
