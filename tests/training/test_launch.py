"""How many processes train, and what becomes of a stage that several of them run."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from mlflow import MlflowClient

from gwainet.errors import CheckpointError, ParamsError
from gwainet.nets.model import read_weights
from gwainet.params import Runtime
from gwainet.stages import STAGES
from gwainet.training.launch import Request, check_share, launch, processes
from tests.training_params import Interrupting, Project, make_project

TWO = {"processes": 2}
FILE = "weights.safetensors"


@pytest.fixture(name="project")
def _project(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    return make_project(tmp_path)


def request(project: Project, stage: str, variant: str | None = None, **settings) -> Request:
    paths = project.paths(stage, variant)
    params = project.params(stage, **settings).model_dump(mode="json")
    return Request(stage=stage, variant=variant, params=params, paths=paths, store=project.root)


@pytest.mark.parametrize(
    ("gpus", "batch_size", "expected"), [(0, 4, 1), (1, 4, 1), (2, 4, 2), (3, 4, 2), (8, 4, 4), (8, 16, 8), (4, 7, 1)]
)
def test_auto_takes_as_many_gpus_as_divide_the_batch(monkeypatch, gpus, batch_size, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert processes(Runtime(), batch_size) == expected
    assert processes(Runtime(device="cpu"), batch_size) == 1


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ParamsError, match="has 2 GPUs"):
        processes(Runtime(processes=4), 4)
    assert processes(Runtime(processes=4, device="cpu"), 4) == 4


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_batch_that_cannot_be_shared_equally_is_refused(count):
    with pytest.raises(ParamsError, match=f"{count} processes cannot share a batch of 7 equally"):
        check_share(7, count)
    with pytest.raises(ParamsError, match="cannot share"):
        processes(Runtime(processes=count, device="cpu"), 7)


def test_a_stage_in_two_processes_writes_once_what_one_process_writes(project):
    one, two = (
        STAGES["pretrain_wnet"].execute(
            project.params("pretrain_wnet", runtime={"processes": count}),
            None,
            {**project.paths("pretrain_wnet"), "out": project.root / f"out{count}"},
            project.root,
        )
        for count in (1, 2)
    )
    assert one == two  # where to look at the run
    expected, _ = read_weights(project.root / "out1" / "weights.safetensors", "wnet")
    weights, _ = read_weights(project.root / "out2" / "weights.safetensors", "wnet")
    for name, tensor in expected.items():
        torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)
    of_one, of_two = (pd.read_csv(project.root / f"out{count}" / "curves.csv") for count in (1, 2))
    pd.testing.assert_frame_equal(of_two, of_one, rtol=1e-5)
    client = MlflowClient(f"sqlite:///{project.root / 'mlflow.db'}")
    runs = client.search_runs(["1"], "tags.`gwainet.kind` = 'stage'", order_by=["attributes.start_time"])
    assert [(run.info.status, run.data.params["device.processes"]) for run in runs] == [
        ("FINISHED", "1"),
        ("FINISHED", "2"),
    ]
    assert not project.checkpoints


def test_two_processes_train_more_seeds_and_none_again_that_is_finished(project, capfd):
    stage, variant, settings = "train_psnr", "banet", {"more_seeds": [3, 1]}
    single = {seed: project.run(stage, variant, seed=seed, out=f"alone-{seed}") for seed in (0, 3, 1)}
    with pytest.raises(KeyboardInterrupt):  # while seed 0 trains, after the others
        project.run(stage, variant, Interrupting(5), **settings)
    kept = {(folder / FILE).read_bytes(): folder for folder in (project.root / ".gwainet/seeds").iterdir()}
    assert len(kept) == 2
    shutil.rmtree(kept[(single[1] / FILE).read_bytes()])  # as if it had been killed while that one trained
    capfd.readouterr()
    paths = project.paths(stage, variant)
    STAGES[stage].execute(project.params(stage, runtime=TWO, **settings), variant, paths, project.root)
    shown = " ".join(capfd.readouterr().err.split())
    assert shown.count("is trained already") == shown.count("seed 3 is trained already") == 1
    assert (paths["out"] / "seeds/3" / FILE).read_bytes() == (single[3] / FILE).read_bytes()
    for seed, folder in {0: paths["out"], 1: paths["out"] / "seeds/1"}.items():
        expected, _ = read_weights(single[seed] / FILE, "generator")
        weights, _ = read_weights(folder / FILE, "generator")
        for name, tensor in expected.items():
            torch.testing.assert_close(weights[name], tensor, rtol=1e-4, atol=1e-5)
    assert not list((project.root / ".gwainet/seeds").iterdir())
    assert not project.checkpoints


def test_an_error_of_the_processes_is_raised_once_as_what_it_was(project):
    asked = request(project, "train_psnr", "guided", runtime=TWO)  # pretrain_wnet has written nothing
    with pytest.raises(CheckpointError, match=r"weights\.safetensors does not exist: run the stage that writes it"):
        launch(asked, 2)
    assert not asked.paths["out"].exists()


def test_a_request_that_is_none_is_refused(project):
    asked = request(project, "pretrain_wnet").model_copy(update={"params": {"profile": "tiny", "nonsense": {}}})
    with pytest.raises(ParamsError, match="unknown param `nonsense`"):
        launch(asked, 2)


STAGE = """
import json, sys
from pathlib import Path
from gwainet.params import check_params
from gwainet.stages import STAGES
asked = json.loads(Path(sys.argv[1]).read_text())
paths = {name: Path(path) for name, path in asked["paths"].items()}
STAGES[asked["stage"]].execute(check_params(asked["params"]), None, paths, Path(asked["store"]))
"""


@pytest.mark.system
@pytest.mark.parametrize(
    ("number", "whom"),
    [(signal.SIGTERM, "all"), (signal.SIGINT, "all"), (signal.SIGKILL, "parent"), (signal.SIGKILL, "worker")],
)
def test_processes_that_are_stopped_leave_nothing_running_and_are_continued(project, number, whom):
    asked = request(project, "pretrain_wnet", epochs=200.0, validate_every=10_000, runtime=TWO)
    file = project.root / "asked.json"
    file.write_text(asked.model_dump_json())
    parent = psutil.Popen([sys.executable, "-c", STAGE, str(file)], stderr=subprocess.PIPE, text=True, cwd=Path.cwd())
    deadline = time.monotonic() + 120
    while not project.checkpoints and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [child for child in parent.children(recursive=True) if "gwainet.worker" in child.cmdline()]
    assert len(workers) == 2
    (workers[1] if whom == "worker" else parent).send_signal(number)
    _, messages = parent.communicate(timeout=60)
    assert parent.returncode == {"worker": 1}.get(whom, -number)
    if whom == "worker":
        assert "process 1 of 2 that trained together ended (SIGKILL)" in messages
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert not asked.paths["out"].exists()

    state = torch.load(project.checkpoints[0], weights_only=True)
    done = state["outcome"]["steps"]
    assert 0 < done < 1500
    again = subprocess.run([sys.executable, "-c", STAGE, str(file)], capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"resumed at step {done} of" in again.stderr
    assert (asked.paths["out"] / "weights.safetensors").exists()
    assert not project.checkpoints
