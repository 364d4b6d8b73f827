"""Writing without leaving halves behind, and digests of what was written."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from gwainet.errors import DataError

try:
    import fcntl
except ImportError:  # Windows: nothing keeps two runs apart
    fcntl = None  # type: ignore[assignment]

_NO_ROOM = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota on the disk is used up",
    errno.EFBIG: "a file has become larger than the system allows (ulimit -f)",
}
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


class Resumed:
    """What a block says of the directory that it takes over.

    Attributes:
        begun: the block has begun to change it: from then on an error removes it.
    """

    def __init__(self) -> None:
        self.begun = False


@contextmanager
def staged_directory(target: Path, needed: int | None = None, resume: Resumed | None = None) -> Iterator[Path]:
    """Yield an empty directory beside `target` that takes its place only when the block ends without an error.

    A failed block leaves nothing behind and an earlier `target` untouched. A leftover of a killed process is removed.

    Args:
        target: the directory to write.
        needed: bytes that it will take, where that is known, for the message.
        resume: yield the leftover of a killed process as it is: the block knows what to do with it. Who presses Ctrl-C
            leaves one, too, and so does an error before it has `begun`.

    Raises:
        DataError: there is no room for it on the disk; or another process is at work on a target to `resume`.
    """
    with nullcontext() if resume is None else _alone(target):
        yield from _staged_directory(target, needed, resume)


def _staged_directory(target: Path, needed: int | None, resume: Resumed | None) -> Iterator[Path]:
    partial = target.with_name(f".{target.name}.partial")
    previous = target.with_name(f".{target.name}.previous")
    _recover(target, previous)
    if resume is None or partial.is_symlink() or not partial.is_dir():
        _remove(partial)
    try:
        partial.mkdir(parents=True, exist_ok=resume is not None)
        yield partial
        # two renames, not a removal: whenever the process is killed, one whole directory is there
        if _present(target):
            target.rename(previous)
        partial.rename(target)
    except BaseException as error:
        full = _no_room(error)
        if full is not None:
            written = sum(file.stat().st_size for file in partial.rglob("*") if file.is_file())
        kept = resume is not None and not (resume.begun and isinstance(error, Exception))
        if not kept:
            shutil.rmtree(partial, ignore_errors=True)
        elif isinstance(error, Exception):
            with suppress(OSError):
                partial.rmdir()  # only if there is nothing in it
        _recover(target, previous)
        if full is not None:
            raise DataError(_say_no_room(full, target, written, needed, kept)) from full
        raise
    _remove(previous)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Keep other processes away from `target`'s directories, by a locked file beside them that goes at the end.

    The system lets go of the lock of a killed process. Where it has no such locks, nothing is kept away.

    Raises:
        DataError: another process is at work there.
    """
    if fcntl is None:
        yield
        return
    path = target.with_name(f".{target.name}.lock")
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError as error:
            if _no_room(error) is None:
                raise
            raise DataError(_say_no_room(error, target, 0, None, begun_kept=True)) from error
        try:
            locked = _locked(lock, target)
            if not locked or _is_at(lock, path):  # else its owner has removed it meanwhile
                try:
                    yield
                finally:
                    if locked:
                        path.unlink(missing_ok=True)
                return
        finally:
            os.close(lock)


def _locked(lock: int, target: Path) -> bool:
    """Lock an open file; False where this file system has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise DataError(
            f"another run is at work on {target}: wait until it has ended, or stop it, then run the same command again"
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file lies at this path still."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _no_room(error: BaseException | None) -> OSError | None:
    """The system's error that says that there is no room, if it is that; or what `staged_file` made of it."""
    if isinstance(error, DataError):
        error = error.__cause__
    return error if isinstance(error, OSError) and error.errno in _NO_ROOM else None


def _say_no_room(error: OSError, target: Path, written: int, needed: int | None, begun_kept: bool = False) -> str:
    """What happened, where, how much is needed, and what is left of it."""
    folder = next(parent for parent in target.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    much = f"{say_bytes(written)} of it were written" + ("" if needed is None else f", {say_bytes(needed)} are needed")
    kept = "the earlier one is as it was" if _present(target) else "nothing was left behind"
    if begun_kept and not _present(target):
        kept = "the next run goes on with it"
    begun = "kept" if begun_kept else "removed"
    return (
        f"{target} could not be written, {_NO_ROOM[error.errno or 0]} ({error}): {much}, and {folder} has "
        f"{say_bytes(free)} free now. What was begun is {begun}, {kept}: make room, then run the same command again"
    )


def say_bytes(count: int) -> str:
    """A number of bytes in the unit that people would use."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"


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

    Raises:
        DataError: there is no room for it on the disk.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        yield partial
        partial.replace(target)
    except BaseException as error:
        full = _no_room(error)
        written = partial.stat().st_size if full is not None and partial.is_file() else 0
        partial.unlink(missing_ok=True)
        if full is not None:
            raise DataError(_say_no_room(full, target, written, None)) from full
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
