"""Change the code where the paper speaks, one place at a time, and see the tests named in docs/paper.md fail.

    python -m tests.mutations             # all of tests/mutations.toml, some minutes on one core
    python -m tests.mutations "Eq. 8" L7  # those of some rows of docs/paper.md

Each mutation is a plausible error of somebody who read the paper carelessly: a sign, an axis, a norm a pixel, a missing
detach. A test that does not notice it proves nothing about its row. (mutmut and cosmic-ray change every operator they
find, by rules: thousands of mutants, most of no interest to the paper, and none can be chosen, told in words or tied to
a row and its tests. That is all this program does.)
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
NEEDED = ("gwainet", "tests", "params.yaml", "pyproject.toml", "dvc.yaml")  # by the tests, in the copy
# imported once, before the processes fork: seconds less for each mutation. Never gwainet, which each imports mutated.
HEAVY = ("torch", "pandas", "pyarrow.parquet", "scipy.stats", "skimage.metrics", "hypothesis", "safetensors.torch")
OUTPUT = "pytest.txt"  # in the copy: what the last run said
SECONDS = 300  # for the tests of one mutation; most need one


@dataclass(frozen=True)
class Mutation:
    """One wrong version of the code.

    Attributes:
        rows: beginnings of rows of docs/paper.md, or numbers of its decisions.
        wrong: what is wrong about it.
        file: of the project.
        old: text that stands in the file once.
        new: what replaces it.
        tests: that must fail, each as `nets/test_wnet.py::test_name`, below `tests`.
    """

    rows: tuple[str, ...]
    wrong: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def load() -> list[Mutation]:
    """The mutations of `mutations.toml`, in its order."""
    text = (PROJECT / "tests" / "mutations.toml").read_text(encoding="utf-8")
    entries: list[dict[str, Any]] = tomllib.loads(text)["mutation"]
    return [Mutation(**{**e, "rows": tuple(e["rows"]), "tests": tuple(e["tests"])}) for e in entries]


@dataclass(eq=False)  # pytest hashes its plugins
class Outcomes:
    """A pytest plugin: tests that passed and failed, all their parameters together, without `tests/`."""

    passed: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one test's setup, call or teardown."""
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        if report.failed:
            self.failed.add(name)
        elif report.when == "call" and report.passed:
            self.passed.add(name)


def _run(tree: Path, tests: Sequence[str], answer: Connection) -> None:
    """In a process of its own: run the tests of the copy and send the outcomes."""
    with (tree / OUTPUT).open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True  # a mutation of the same length in the same second would run stale bytecode
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "gwainet")]:
        del sys.modules[name]
    outcomes = Outcomes()
    pytest.main(["-p", "no:cacheprovider", *(f"tests/{test}" for test in tests)], plugins=[outcomes])
    answer.send((outcomes.passed, outcomes.failed))


def outcomes_of(tree: Path, tests: Sequence[str], seconds: float) -> Outcomes | None:
    """Run tests of a copy of the project; None where they do not end in time."""
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe(duplex=False)
    process = fork.Process(target=_run, args=(tree, tests, theirs))
    process.start()
    theirs.close()
    try:
        return Outcomes(*ours.recv()) if ours.poll(seconds) else None
    except EOFError:  # it died
        return None
    finally:
        process.kill()
        process.join()


def judge(tree: Path, mutation: Mutation) -> tuple[str, list[str]]:
    """Mutate the copy, run the tests and take it back; returns what came of it and the tests that did not notice."""
    path = tree / mutation.file
    original = path.read_text(encoding="utf-8")
    if original.count(mutation.old) != 1:
        return "text not found", []
    path.write_text(original.replace(mutation.old, mutation.new), encoding="utf-8")
    outcomes = outcomes_of(tree, mutation.tests, SECONDS)
    path.write_text(original, encoding="utf-8")
    if outcomes is None:
        return "no end", []
    unmoved = [test for test in mutation.tests if test not in outcomes.failed]
    return ("SURVIVED" if unmoved else "killed"), unmoved


def main(chosen: Sequence[str]) -> int:
    """Run the mutations of the chosen rows, or all; returns 1 where one survives or cannot be tried."""
    mutations = [m for m in load() if not chosen or any(row.startswith(tuple(chosen)) for row in m.rows)]
    tests = list(dict.fromkeys(test for mutation in mutations for test in mutation.tests))
    for module in HEAVY:
        import_module(module)
    with tempfile.TemporaryDirectory() as directory:
        tree = Path(directory)
        for name in NEEDED:
            copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
            copy(PROJECT / name, tree / name)
        plain = outcomes_of(tree, tests, 10 * SECONDS) or Outcomes()
        wrong = [test for test in tests if test not in plain.passed - plain.failed]
        if wrong or not tests:
            print((tree / OUTPUT).read_text(encoding="utf-8") if tests else "no mutation was chosen")
            print("These tests do not pass as the code is:", *wrong, sep="\n  ")
            return 1
        print(f"{len(tests)} tests pass as the code is; {len(mutations)} mutations of it:", flush=True)
        killed = 0
        for mutation in mutations:
            started = time.monotonic()
            state, unmoved = judge(tree, mutation)
            killed += state == "killed"
            seconds = time.monotonic() - started
            print(f"{state:8} {seconds:5.1f} s  {', '.join(mutation.rows)}: {mutation.wrong}", flush=True)
            for test in unmoved:
                print(f"           did not notice: {test}", flush=True)
    print(f"{killed} of {len(mutations)} mutations killed")
    return int(killed < len(mutations))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
