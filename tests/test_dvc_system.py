"""`dvc repro` in a clone of the project: what runs, what is skipped, and what a killed training comes to."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from ruamel.yaml import YAML

from tests.training_params import PIPELINE

pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

SOURCE = Path(__file__).parents[1]
STARTED = re.compile(r"Running stage '([^']+)'")
STAGES = [
    "fetch_faces",
    "prepare_faces",
    "check_faces",
    "pretrain_inet",
    "pretrain_wnet",
    "train_psnr@guided",
    "train_psnr@banet",
    "train_adversarial@gwainet",
    "train_adversarial@gwanet",
    "train_adversarial@banet",
    "train_baselines@srcnn",
    "train_baselines@vdsr",
    "train_baselines@edsr",
    "train_baselines@srresnet",
    "train_baselines@srgan",
    "train_baselines@waveletsrnet",
    "train_baselines@cascade",
    "train_baselines@tdae_style",
    "train_baselines@gfrnet",
    "train_baselines@gfrnet_landmarks",
    "benchmark",
    "register_model",
]


def _environment() -> dict[str, str]:
    """The caller's, without its tracking server and pipeline; `python` and `dvc` are the tests' own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GWAINET_", "DVC_"))}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"}


@dataclass
class Clone:
    """A clone of the project, with what is not committed yet, and a profile `tiny`."""

    root: Path

    def write_params(self, **sections: dict[str, Any]) -> None:
        """The project's params with a profile `tiny`; `sections` over the profile's own."""
        yaml = YAML(typ="safe")
        document = yaml.load(SOURCE / "params.yaml")
        tiny = {name: {**PIPELINE.get(name, {}), **sections.get(name, {})} for name in document["base"]}
        document["profile"], document["profiles"]["tiny"] = "tiny", tiny
        yaml.dump(document, self.root / "params.yaml")

    def dvc(self, *arguments: str) -> str:
        """What DVC and the stages print; fails where DVC does."""
        done = subprocess.run(
            [shutil.which("dvc", path=_environment()["PATH"]) or "dvc", *arguments],
            cwd=self.root,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"dvc {' '.join(arguments)} ended {done.returncode}:\n{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """A clone after its first `dvc repro`, and what that printed."""
    if shutil.which("git") is None or not (SOURCE / ".git").exists():
        pytest.skip("needs git and a git checkout of the project: dvc repro works in a clone of it")
    clone = Clone(tmp_path_factory.mktemp("clone") / "project")
    subprocess.run(["git", "clone", "--quiet", str(SOURCE), str(clone.root)], check=True)
    listed = ["git", "ls-files", "-z", "--modified", "--others", "--exclude-standard"]
    changed = subprocess.run(listed, cwd=SOURCE, check=True, capture_output=True, text=True).stdout
    for name in filter(None, changed.split("\0")):
        (clone.root / name).unlink(missing_ok=True)
        if (SOURCE / name).is_file():  # one that was deleted is listed too
            (clone.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(SOURCE / name, clone.root / name)
    (clone.root / "data" / "source" / "tiny").mkdir()
    (clone.root / "data" / "source" / "tiny" / "README.md").write_text("Drawn: nothing is needed.\n")
    clone.write_params()
    return clone, clone.dvc("repro")


@pytest.fixture
def clone(reproduced: tuple[Clone, str]) -> Iterator[Clone]:
    """The clone with everything up to date."""
    yield reproduced[0]
    reproduced[0].write_params()
    reproduced[0].dvc("repro")  # what ran before comes out of DVC's cache


def test_dvc_repro_runs_every_stage_and_again_none(reproduced: tuple[Clone, str]):
    project, printed = reproduced
    assert sorted(STARTED.findall(printed)) == sorted(STAGES)
    again = project.dvc("repro")
    assert STARTED.findall(again) == []
    assert "Data and pipelines are up to date" in again
    registered = json.loads((project.root / "models/tiny/register_model/registered.json").read_text())
    assert registered["name"] == "tiny-faces"


def test_a_param_of_the_adversarial_phase_reruns_it_and_what_follows_and_nothing_before(clone: Clone):
    clone.write_params(train_adversarial={**PIPELINE["train_adversarial"], "lambda_adv": 0.002})
    ran = set(STARTED.findall(clone.dvc("repro")))
    assert ran == {name for name in STAGES if name.startswith("train_adversarial@")} | {"benchmark", "register_model"}


def test_numbers_plots_and_graph_are_shown(reproduced: tuple[Clone, str]):
    project, _ = reproduced
    shown = json.loads(project.dvc("metrics", "show", "--json"))[""]["data"]
    for stage in ("pretrain_inet", "train_psnr/guided", "train_adversarial/gwainet"):
        assert shown[f"models/tiny/{stage}/metrics.json"]["data"]["steps"] > 0
    assert "reports/tiny/benchmark/metrics.json" in shown
    project.dvc("plots", "show")
    page = (project.root / "dvc_plots" / "index.html").read_text(encoding="utf-8")
    assert "train_psnr@guided: validation PSNR (dB)" in page
    assert "train_adversarial@gwainet" in project.dvc("dag", "--mermaid")


def test_plots_are_shown_where_a_training_was_left_out(clone: Clone):
    clone.write_params(pretrain_inet={"epochs": 0.0})
    assert STARTED.findall(clone.dvc("repro", "pretrain_inet")) == ["pretrain_inet"]
    clone.dvc("plots", "show")
    clone.dvc("metrics", "show")


def test_a_killed_training_is_continued_by_the_next_dvc_repro(clone: Clone):
    """SIGKILL leaves no time to save anything: only the checkpoint that was there before counts."""
    clone.write_params(
        train_psnr={**PIPELINE["train_psnr"], "epochs": 40.0, "patience": 1000},
        runtime={**PIPELINE["runtime"], "checkpoint_seconds": 0.5},
    )
    checkpoints = clone.root / ".gwainet" / "checkpoints"
    with subprocess.Popen(
        ["dvc", "repro", "train_psnr@guided"],
        executable=shutil.which("dvc", path=_environment()["PATH"]),
        cwd=clone.root,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        training = _wait_for_checkpoint(running, checkpoints)
        training.kill()
        printed = running.communicate(timeout=120)[0]
    assert running.returncode != 0, printed
    weights = clone.root / "models/tiny/train_psnr/guided/weights.safetensors"
    assert not weights.exists()
    assert list(checkpoints.glob("train_psnr@guided-*/state.pt"))

    again = clone.dvc("repro", "train_psnr@guided")
    resumed = re.search(r"train_psnr@guided: resumed at step (\d+) of (\d+)", again)
    assert resumed, again
    assert 0 < int(resumed[1]) < int(resumed[2])
    print(resumed[0])
    assert weights.exists()
    steps = json.loads(weights.with_name("metrics.json").read_text())["steps"]
    assert steps == int(resumed[2])
    assert not list(checkpoints.glob("train_psnr@guided-*"))


def _wait_for_checkpoint(running: "subprocess.Popen[str]", checkpoints: Path) -> psutil.Process:
    """The training's own process, once a checkpoint of it is written."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        if list(checkpoints.glob("train_psnr@guided-*/state.pt")):
            for process in psutil.Process(running.pid).children(recursive=True):
                command = process.cmdline()
                if command[1:4] == ["-m", "gwainet", "train_psnr"]:
                    return process
        if running.poll() is not None:
            break
        time.sleep(0.05)
    running.kill()
    pytest.fail(f"no checkpoint was written while the training ran:\n{running.communicate()[0]}")
