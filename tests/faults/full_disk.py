"""Preparation on disks without room: small file systems of their own, and a limit on the size of files."""

import io
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from gwainet.errors import GwainetError
from gwainet.files import tree_digest

_CONTEXT = get_context("forkserver")

Preparation = partial[None]  # `prepare_faces.run` with all but `out`; goes to another process


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes, in memory.

    Raises:
        PermissionError: this process may not mount one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise PermissionError(done.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a database may still be open


@contextmanager
def filled_up(disk: Path, after: int) -> Iterator[None]:
    """Another program takes all that is free on a disk, once so many bytes of it are in use."""
    stop = threading.Event()

    def fill() -> None:
        while not stop.is_set() and shutil.disk_usage(disk).used < after:
            time.sleep(0.0005)
        with (disk / "ballast").open("wb") as ballast:
            while not stop.is_set():
                try:  # at once, or preparation would win the race
                    held = ballast.seek(0, os.SEEK_END)
                    os.posix_fallocate(ballast.fileno(), held, max(shutil.disk_usage(disk).free, 4096))
                except OSError:
                    time.sleep(0.0005)  # full; and stays so if something is removed

    filling = threading.Thread(target=fill)
    filling.start()
    try:
        yield
    finally:
        stop.set()
        filling.join()


def message_of(work: Callable[[], object]) -> str:
    """The error of some work, as the command line says it; empty if there was none."""
    try:
        work()
    except GwainetError as error:
        return f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 (no other should come out of here, and this says which did)
        return f"NOT EXPECTED {type(error).__name__}: {error}"
    return ""


def limited(prepare: Preparation, out: Path, size: int, log: Path) -> None:
    """Prepare where no file may become larger; the message goes to a file."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    sys.stdout = sys.stderr = io.StringIO()  # of this process alone
    log.write_text(message_of(lambda: prepare(out=out)))


@dataclass
class Full:
    """What happened on disks without room."""

    case: str
    tries: int
    stopped: int
    message: str
    wrong: list[str] = field(default_factory=list)


def fill_disks(root: Path, prepare: Preparation, tries: int, seed: int) -> Iterator[Full]:
    """Prepare on disks that are too small from the start, that fill up meanwhile, and with a limit on files."""
    prepare(out=root / "whole")
    whole = root / "whole"
    digest, size = tree_digest(whole), sum(file.stat().st_size for file in whole.iterdir())
    draws, disk = random.Random(seed), root / "disk"

    def attempt(out: Path) -> str:
        return message_of(lambda: prepare(out=out))

    def judge(result: Full, message: str, allowed: list[str]) -> None:
        result.stopped += message.startswith("DataError")
        result.message = result.message or message
        if not message.startswith("DataError") or not ("is full" in message or "make room" in message):
            result.wrong.append(message or "it went on")
        if (left := sorted(path.name for path in disk.iterdir())) != allowed:
            result.wrong.append(f"left behind: {left}")

    for case in ("too small from the start", "fills up meanwhile", "fills up meanwhile, beside an earlier output"):
        result = Full(case, tries, 0, "")
        beside_old = "earlier" in case
        for _ in range(tries):
            room = round(size * draws.uniform(0.01, 0.95)) if "start" in case else size + 10**6
            with small_disk(disk, room + beside_old * size):
                if beside_old:
                    shutil.copytree(whole, disk / "faces")
                    (disk / "faces" / "old").touch()
                    old = tree_digest(disk / "faces")
                if "start" in case:
                    judge(result, attempt(disk / "faces"), [])
                    continue
                with filled_up(disk, round(size * (beside_old + draws.uniform(0.02, 0.9)))):
                    message = attempt(disk / "faces")
                judge(result, message, ["ballast", *["faces"] * beside_old])
                if beside_old and tree_digest(disk / "faces") != old:
                    result.wrong.append("the earlier output has changed")
                (disk / "ballast").unlink()
                if (again := attempt(disk / "faces")) or tree_digest(disk / "faces") != digest:
                    result.wrong.append(f"the next run, with room: {again or 'other bytes'}")
        yield result

    result = Full("a limit on the size of files", tries, 0, "")
    for number in range(tries):
        out = root / str(number) / "faces"
        limit = round(size * draws.uniform(0.05, 0.9))  # hr.npy has more than 0.95 of it
        process = _CONTEXT.Process(target=limited, args=(prepare, out, limit, root / "message"))
        process.start()
        process.join()
        message = (root / "message").read_text()
        result.stopped += message.startswith("DataError")
        result.message = result.message or message
        if not message.startswith("DataError"):
            result.wrong.append(message or "it went on")
        if left := [path.name for path in out.parent.iterdir()]:
            result.wrong.append(f"left behind: {left}")
    yield result
