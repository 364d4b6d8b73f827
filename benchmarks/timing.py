"""Forms of one computation, each in a process of its own, timed in turns.

In a process of its own each form has its own allocator settings and its own peak of memory; in turns, each has the same
share of whatever else the machine does meanwhile. The CPU time of a form is compared with that of the first one in the
same round, so that a ratio's spread shows what the turns did not even out.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from rich.table import Table

FEWEST, MOST = 3, 21  # rounds
Value = float | dict[str, str]  # a number that every form must agree on, or digests, equal where two forms have one
Work = Callable[[], Value | Callable[[], Value]]  # does it once; a function is called when the clock has stopped


@dataclass(frozen=True)
class Prepared:
    """Work that needs something done right before its clock starts.

    Attributes:
        begin: does that.
        work: what is timed.
    """

    begin: Callable[[], None]
    work: Work

    def __call__(self) -> Value | Callable[[], Value]:
        """Do the work."""
        return self.work()


@dataclass(frozen=True)
class Turns:
    """What was measured of a form.

    Attributes:
        cpu: seconds of all threads and of the processes that it started, of each turn.
        wall: seconds, of each turn.
        memory: the process's peak in MB, above what it had before the form was built.
        value: of the first turn.
    """

    cpu: list[float]
    wall: list[float]
    memory: float
    value: Value


class Form:
    """A form's process: it does its work once whenever it is asked to."""

    def __init__(self, name: str, module: str, arguments: Sequence[str]) -> None:
        self.name = name
        command = [sys.executable, "-m", module, *arguments]
        self.process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.turns: list[dict[str, Any]] = []

    def turn(self) -> None:
        """Ask, and wait for the answer.

        Raises:
            RuntimeError: the process died.
        """
        requests, answers = self.process.stdin, self.process.stdout
        assert requests is not None
        assert answers is not None
        requests.write("\n")
        requests.flush()
        line = answers.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with {self.process.wait()}: see its message above")
        self.turns.append(json.loads(line))

    def close(self) -> None:
        """End the process; it may tidy up."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def measured(self) -> Turns:
        """What the turns took."""
        first, *rest = self.turns  # the first also allocates, chooses algorithms and composes decoders
        checked = isinstance(first["value"], dict)  # finding digests takes memory too, once the first turn is over
        memory = (first if checked else self.turns[-1])["memory"]
        return Turns([t["cpu"] for t in rest], [t["wall"] for t in rest], memory, first["value"])


def interleave(forms: Sequence[Form], seconds: float) -> dict[str, Turns]:
    """Rounds in which every form has its turn, for about so many seconds, after one that is not counted.

    Raises:
        RuntimeError: a process died, or the forms' first numbers differ by more than rounding.
    """
    try:
        for form in forms:
            form.turn()
        end, rounds = time.perf_counter() + seconds, 0
        while rounds < FEWEST or (rounds < MOST and time.perf_counter() < end):
            for form in forms:
                form.turn()
            rounds += 1
    finally:
        for form in forms:
            form.close()
    turns = {form.name: form.measured() for form in forms}
    values = {name: each.value for name, each in turns.items()}
    if not _agree(list(values.values())):
        raise RuntimeError(f"the forms do not compute the same: {values}")
    return turns


def _agree(values: Sequence[Value]) -> bool:
    """Numbers within rounding, digests to the letter."""
    digests = [value for value in values if isinstance(value, dict)]
    numbers = [value for value in values if not isinstance(value, dict)]
    known: dict[str, str] = {}
    if any(known.setdefault(name, digest) != digest for each in digests for name, digest in each.items()):
        return False
    return not numbers or np.allclose(numbers, numbers[0], rtol=1e-3)


def serve(make: Callable[[], Work]) -> None:
    """Be a form's process: build the work, then do it at every line of standard input and answer with what it took."""
    answers: IO[str] = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the work itself prints is no answer
    before = _peak()
    work = make()
    for _ in sys.stdin:
        if isinstance(work, Prepared):
            work.begin()
        cpu, wall = _cpu(), time.perf_counter()
        value = work()
        turn = {"cpu": _cpu() - cpu, "wall": time.perf_counter() - wall}
        memory = _peak() - before
        answers.write(json.dumps({**turn, "memory": memory, "value": value() if callable(value) else value}) + "\n")
        answers.flush()


def _cpu() -> float:
    """Seconds of this process and of those that it started and that ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def table(title: str, turns: dict[str, Turns], images: int) -> Table:
    """A line a form: times of a turn, and how many times as fast as the first form; medians and quartiles."""
    shown = Table(title=title, title_justify="left")
    for name in ("form", "CPU ms", "wall ms", "times as fast", "quartiles", "peak MB an image", "rounds"):
        shown.add_column(name, justify="left" if name == "form" else "right")
    first = np.array(next(iter(turns.values())).cpu)
    for name, each in turns.items():
        low, ratio, high = np.quantile(first / np.array(each.cpu), (0.25, 0.5, 0.75))
        shown.add_row(
            name,
            f"{1e3 * np.median(each.cpu):.0f}",
            f"{1e3 * np.median(each.wall):.0f}",
            f"{ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{each.memory / images:.0f}",
            str(len(each.cpu)),
        )
    return shown


def rates(title: str, turns: dict[str, Turns], counts: Mapping[str, int], unit: str) -> Table:
    """A line a form: time of one of the things that its turn works on, and by how much faster than the first form."""
    shown = Table(title=title, title_justify="left")
    names = ("form", "of", f"CPU us a {unit}", f"{unit}s/s a core", "wall us", "times as fast", "quartiles", "peak MB")
    for name in (*names, "rounds"):
        shown.add_column(name, justify="left" if name == "form" else "right")
    first = np.array(next(iter(turns.values())).cpu) / next(iter(counts.values()))
    for name, each in turns.items():
        cpu = np.array(each.cpu) / counts[name]
        low, ratio, high = np.quantile(first / cpu, (0.25, 0.5, 0.75))
        shown.add_row(
            name,
            f"{counts[name]:,}",
            f"{1e6 * np.median(cpu):.1f}",
            f"{1 / np.median(cpu):,.0f}",
            f"{1e6 * np.median(each.wall) / counts[name]:.1f}",
            f"{ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{each.memory:.0f}",
            str(len(each.cpu)),
        )
    return shown


def machine(threads: int) -> str:
    """What the figures belong to: processor, threads, load, versions, commit."""
    import torch

    from gwainet.tracking.execution import code_version

    version = code_version(Path(__file__).parent)
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    load = os.getloadavg()[0]
    return (
        f"{processor}, {os.cpu_count()} cores, {threads} thread(s) used, load average before {load:.1f}; "
        f"torch {torch.__version__}; commit {version.commit[:12]}{' and changes' if version.changes else ''}"
    )
