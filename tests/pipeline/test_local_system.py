"""The compiled graph on this machine, process by process, beside `dvc repro` in the same clone of the project."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML

from tests.test_dvc_system import SOURCE as PROJECT
from tests.test_dvc_system import STAGES as ENTRIES
from tests.test_dvc_system import Clone, _environment, reproduced  # noqa: F401  fixtures
from tests.training_params import PIPELINE

pytestmark = [pytest.mark.system, pytest.mark.timeout(3600)]


def start(folder: Path, log: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    """Start `run-local` with everything that it prints in a file: a pipe that nobody reads would stop it."""
    with log.open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", "run-local", *arguments],
            cwd=folder,
            env=_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def dvc_folder(entry: str) -> str:
    stage, _, variant = entry.partition("@")
    parent = {"fetch_faces": "data/tiny/raw", "prepare_faces": "data/tiny/faces"}.get(stage)
    if parent is None:
        parent = f"{'reports' if stage in ('check_faces', 'benchmark') else 'models'}/tiny/{stage}"
    return f"{parent}/{variant}" if variant else parent


def test_every_file_is_the_one_that_dvc_repro_made(
    reproduced: tuple[Clone, str],  # noqa: F811
    tmp_path: Path,
):
    project, _ = reproduced
    (tmp_path / "data" / "source" / "tiny").mkdir(parents=True)
    code = start(project.root, log := tmp_path / "log", "--root", str(tmp_path)).wait()
    printed = log.read_text()
    assert code == 0, printed
    folders = dict(re.findall(r"^ +(\S+): (/\S+/out)$", printed, re.MULTILINE))
    assert sorted(folders) == sorted(ENTRIES)
    for entry, folder in folders.items():
        made, by_dvc = files(Path(folder)), files(project.root / dvc_folder(entry))
        assert made.keys() == by_dvc.keys(), entry
        timed = {"training.json", "costs.csv"}  # they tell seconds
        different = [name for name, content in made.items() if content != by_dvc[name] and name not in timed]
        assert different == ([] if entry != "register_model" else ["registered.json"]), entry
        for kind in ("metrics", "page"):
            assert (Path(folder).parent / kind).stat().st_size > 0, entry
    registered = [
        json.loads((folder / "registered.json").read_text())
        for folder in (Path(folders["register_model"]), project.root / dvc_folder("register_model"))
    ]
    # another run registered it, in a registry of its own; the report's digest covers costs.csv, which tells seconds
    changed = {key for key in registered[0] if registered[0][key] != registered[1][key]}
    assert changed == {"run_id", "model_id", "report_digest"}
    assert registered[0]["version"] == "1"
    assert re.search(r"benchmark: /\S+/benchmark\.html$", printed, re.MULTILINE)


def test_a_killed_training_is_started_again_and_continues_from_its_checkpoint(
    tmp_path: Path,
):
    """SIGKILL leaves no time to save anything, as when a node goes away: only the checkpoint on the volume counts."""
    (tmp_path / "data" / "source" / "tiny").mkdir(parents=True)
    longer = {"pretrain_wnet": {**PIPELINE["pretrain_wnet"], "epochs": 60.0}}
    often = {"runtime": {**PIPELINE["runtime"], "checkpoint_seconds": 0.5}}
    document = {"profile": "tiny", "base": {}, "profiles": {"tiny": {**PIPELINE, **longer, **often}}}
    YAML(typ="safe").dump(document, tmp_path / "params.yaml")
    checkpoints = tmp_path / ".gwainet" / "checkpoints"
    where = ["--params", str(tmp_path / "params.yaml"), "--root", str(tmp_path)]
    running = start(PROJECT, log := tmp_path / "log", *where, "--retries", "1")
    try:
        training_of(running, log, checkpoints).kill()
        wrote = wait_for(running, log, r"pretrain_wnet: wrote (\S+)")
    finally:
        for process in [*psutil.Process(running.pid).children(recursive=True), running]:
            process.kill()
        running.wait()
    resumed = re.search(r"pretrain_wnet: resumed at step (\d+) of (\d+)", log.read_text())
    assert resumed, log.read_text()
    print(resumed[0])
    assert 0 < int(resumed[1]) < int(resumed[2])
    steps = json.loads((Path(wrote[1]) / "metrics.json").read_text())["steps"]
    assert steps == int(resumed[2])
    assert not list(checkpoints.glob("pretrain_wnet-*"))


def training_of(running: "subprocess.Popen[bytes]", log: Path, checkpoints: Path) -> psutil.Process:
    """The training's own process, once a checkpoint of it is written."""
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline and running.poll() is None:
        if list(checkpoints.glob("pretrain_wnet-*/state.pt")):
            for process in psutil.Process(running.pid).children(recursive=True):
                command = process.cmdline()
                if command[1:3] == ["-m", "kfp.dsl.executor_main"] and "pretrain_wnet" in command:
                    return process
        time.sleep(0.05)
    pytest.fail(f"no checkpoint was written while the training ran:\n{log.read_text()}")


def wait_for(running: "subprocess.Popen[bytes]", log: Path, pattern: str) -> re.Match[str]:
    """The first place in the log that fits."""
    deadline = time.monotonic() + 1200
    while time.monotonic() < deadline:
        ended = running.poll() is not None
        if found := re.search(pattern, log.read_text()):
            return found
        if ended:
            break
        time.sleep(0.5)
    pytest.fail(f"{pattern} was not printed:\n{log.read_text()}")
