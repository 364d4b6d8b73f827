"""Preparations that are killed at random moments, and run again."""

import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import psutil

from gwainet.files import tree_digest
from gwainet.params import Params
from tests.faults.project import params, prepare

_TAKEN_OVER = re.compile(r"goes on: ([\d,]+) of")  # what prepare_faces says
_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["pandas", "pyarrow", "tests.faults.killed"])


@dataclass
class Killed:
    """What became of killed preparations."""

    found: Counter[str] = field(default_factory=Counter)
    leftovers: int = 0
    resumed: list[int] = field(default_factory=list)  # photos that each next run took over, where it did
    orphans: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        """How often a process was killed."""
        return sum(self.found.values())


def quietly(root: Path, settings: Params) -> None:
    """`prepare` in a process of its own."""
    with (root / "log").open("a") as log:
        os.dup2(log.fileno(), 1)  # of this process and its workers
        os.dup2(log.fileno(), 2)
    prepare(root, settings)


def seconds_of(root: Path, settings: Params) -> float:
    """How long an undisturbed run takes in a process."""
    started = time.monotonic()
    process = _CONTEXT.Process(target=quietly, args=(root, settings))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit((root / "log").read_text())
    return time.monotonic() - started


def state(data: Path, digests: Mapping[str, str]) -> str:
    """What a killed run has left for readers: none, a whole output by its name in `digests`, or something else."""
    faces, waiting = data / "faces", data / ".faces.previous"
    if faces.exists():
        return next((name for name, digest in digests.items() if digest == tree_digest(faces)), "half")
    return "none" if not waiting.exists() else "old, set aside" if tree_digest(waiting) == digests["old"] else "half"


def kill_preparations(root: Path, kills: int, seed: int) -> tuple[float, Killed]:
    """Kill preparations of `root`, every other one beside an earlier output; seconds of one, and what became."""
    draws, killed = random.Random(seed), Killed()
    data, kept = root / "data", root / "kept"
    old, new = params(seed=1, workers=2), params(seed=2, workers=2)
    seconds_of(root, old)  # it waits for imports, which later ones find done
    shutil.copytree(data, kept)
    seconds = seconds_of(root, new)
    digests = {"old": tree_digest(kept / "faces"), "new": tree_digest(data / "faces")}
    if digests["old"] == digests["new"]:
        raise SystemExit("the seed must change the output, or nothing could be told apart")
    while killed.kills < kills:
        shutil.rmtree(data)
        beside_old = killed.kills % 2 == 0
        if beside_old:
            shutil.copytree(kept, data)
        process = _CONTEXT.Process(target=quietly, args=(root, new))
        process.start()
        process.join(draws.random() * seconds)
        if not process.is_alive():
            continue
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join()
        _, alive = psutil.wait_procs(children, timeout=10)
        killed.orphans += len(alive)
        for orphan in alive:
            killed.wrong.append(f"kill {killed.kills}: {orphan} went on")
            orphan.kill()
        found = state(data, digests)
        killed.found[found] += 1
        if found == "half" or (beside_old and found == "none"):
            killed.wrong.append(f"kill {killed.kills}: the output is {found}")
        left = [path.name for path in data.iterdir() if path.name not in ("raw", "faces")] if data.exists() else []
        killed.leftovers += bool(left)
        told = (root / "log").stat().st_size
        seconds_of(root, new)
        if taken_over := _TAKEN_OVER.search((root / "log").read_bytes()[told:].decode()):
            killed.resumed.append(int(taken_over[1].replace(",", "")))
        if tree_digest(data / "faces") != digests["new"]:
            killed.wrong.append(f"kill {killed.kills}: the next run wrote other bytes")
        if sorted(path.name for path in data.iterdir()) != ["faces", "raw"]:
            killed.wrong.append(f"kill {killed.kills}: leftovers {[path.name for path in data.iterdir()]}")
    return seconds, killed
