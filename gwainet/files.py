"""Writing without leaving halves behind, and digests of what was written."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged_directory(target: Path) -> Iterator[Path]:
    """Yield an empty directory beside `target` that takes its place only when the block ends without an error.

    A failed block leaves nothing behind and an earlier `target` untouched. A leftover of a killed process is removed.
    """
    partial = target.with_name(f".{target.name}.partial")
    previous = target.with_name(f".{target.name}.previous")
    _recover(target, previous)
    _remove(partial)
    partial.mkdir(parents=True)
    try:
        yield partial
        # two renames, not a removal: whenever the process is killed, one whole directory is there
        if _present(target):
            target.rename(previous)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _recover(target, previous)
        raise
    _remove(previous)


def _recover(target: Path, previous: Path) -> None:
    """Put the earlier target back where a process ended between the two renames, and remove it where it did not."""
    if _present(previous) and not _present(target):
        previous.rename(target)
    _remove(previous)


def _present(path: Path) -> bool:
    return path.exists() or path.is_symlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def staged_file(target: Path) -> Iterator[Path]:
    """Yield a path beside `target` that is renamed onto it only when the block ends without an error.

    A failed block leaves nothing behind and an earlier `target` untouched. A leftover of a killed process is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_json(path: Path, value: object) -> None:
    """Write `value` as readable JSON, the same bytes for the same value, in one piece."""
    with staged_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(path: Path) -> str:
    """SHA-256 over the names and bytes of a file, or of all files below a directory, in sorted order."""
    if path.is_file():
        return file_digest(path)
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file)}\n".encode())
    return digest.hexdigest()


def code_digest(root: Path, names: Sequence[str]) -> str:
    """SHA-256 over names and bytes of the Python files and templates at `names` below `root`, files or directories."""
    places = [root / name for name in names]
    files = {file for place in places for file in (place.rglob("*") if place.is_dir() else [place])}
    lines = [
        f"{file.relative_to(root).as_posix()}\0{file_digest(file)}\n"
        for file in sorted(files)
        if file.suffix in {".py", ".html"}
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()
