"""Against MLflow's own server, over HTTP: nobody waits for a slow one, and what it says of runs."""

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from PIL import Image

from gwainet.params import Params, check_params
from gwainet.recorder import Recorder
from gwainet.tracking import execution, open_execution, outbox
from gwainet.tracking.lineage import lineage
from gwainet.tracking.registry import Registered
from gwainet.tracking.unsent import send_unsent
from gwainet.training.checkpoint import Checkpoints
from gwainet.training.loop import Plan, fit
from gwainet.training.sampling import BatchSampler
from tests.tracking.server import Gate, serve_mlflow
from tests.tracking.stages import PARAMS, children, parents, stage, wait_for

STEPS = 40


@pytest.fixture
def gate(root: Path) -> Iterator[Gate]:
    with serve_mlflow(root) as gate:
        yield gate


@pytest.fixture
def client(gate: Gate) -> MlflowClient:
    return MlflowClient(gate.address)


class Phase:
    """One weight, one picture."""

    modules: dict[str, torch.nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    samplers: list[BatchSampler]

    def __init__(self) -> None:
        self.modules, self.optimisers, self.samplers = {}, {}, []
        self.steps = 0

    def step(self, step: int) -> dict[str, torch.Tensor]:
        self.steps += 1
        return {"loss": torch.tensor(float(step))}

    def validate(self) -> dict[str, float]:
        return {"psnr": float(self.steps)}

    def samples(self) -> Image.Image:
        return Image.new("RGB", (8, 8))

    def gains(self) -> None:
        return None


def train(root: Path, recorder: Recorder) -> None:
    """As `gwainet.training.session.Session` does."""
    recorder.params({"device.type": "cpu"})
    recorder.dataset("demo", "abc", {"images": 3}, "training")
    recorder.tags({"device": "cpu"})
    fit(Phase(), Plan("x", STEPS, validate_every=10), Checkpoints(root, "x", {}), recorder, torch.device("cpu"))


def test_no_step_waits_for_a_server_that_holds_every_request_and_all_arrives_when_it_lets_go(
    root: Path, gate: Gate, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(outbox, "BLOCK", 4)  # a block is full every fourth step
    with stage(root) as recorder:
        wait_for(lambda: client.get_run(recorder.run_id).data.params)
        gate.hold()
        train(root, recorder)  # a step that waited would hang here
        wait_for(lambda: gate.held)
        assert gate.answered == []
        gate.open()
    run = client.get_run(recorder.run_id)
    assert run.info.status == "FINISHED"
    assert [m.step for m in client.get_metric_history(recorder.run_id, "loss")] == list(range(1, STEPS + 1))
    assert (run.data.params["device.type"], run.data.tags["device"]) == ("cpu", "cpu")
    pictures = [file.path for file in client.list_artifacts(recorder.run_id, "images") if file.path.endswith(".png")]
    assert len(pictures) == 5


@pytest.mark.parametrize("ending", [None, KeyboardInterrupt])
def test_a_stage_does_not_wait_for_ever_for_a_server_that_hangs_and_loses_nothing(
    root: Path,
    gate: Gate,
    client: MlflowClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: type[BaseException] | None,
):
    monkeypatch.setattr(outbox, "PATIENCE_AT_END", 0.3)
    try:
        with stage(root) as recorder:
            wait_for(lambda: client.get_run(recorder.run_id).data.params)
            gate.hold()
            train(root, recorder)
            if ending:
                raise ending
    except KeyboardInterrupt:
        pass
    assert gate.answered == []
    assert "does not answer" in capsys.readouterr().err
    content = json.loads((root / ".gwainet" / "unsent" / f"{recorder.run_id}.json").read_text())
    status = "KILLED" if ending else "FINISHED"
    assert content["status"] == content["unsent"][-1]["status"] == status
    gate.open()
    send_unsent(root)
    run = client.get_run(recorder.run_id)
    assert run.info.status == status
    assert len(client.get_metric_history(recorder.run_id, "loss")) == STEPS


def test_metrics_reported_while_a_slow_request_is_under_way_arrive_before_the_run_is_closed(
    root: Path, gate: Gate, client: MlflowClient
):
    with stage(root) as recorder:
        wait_for(lambda: client.get_run(recorder.run_id).data.params)
        gate.hold("log-batch")
        recorder.tags({"device": "cpu"})
        wait_for(lambda: gate.held)
        recorder.metrics({"psnr": 20.5}, 1)
        threading.Timer(0.5, gate.open).start()  # by then the end of the run waits too
    assert parents(client)[0].data.metrics == {"train_psnr.guided.psnr": 20.5}


def test_two_executions_that_differ_in_one_param_differ_in_one_row_of_mlflows_comparison(
    root: Path, client: MlflowClient
):
    for rate in (1e-4, 2e-4):
        params = check_params({"profile": "demo", "train_psnr": {"learning_rate": rate}})
        with stage(root, params=params), stage(root, "benchmark", None, params):
            pass
    for runs, count in ((parents(client), 2), (children(client), 4)):
        assert len(runs) == count
    first, second = (run.data.params for run in parents(client))
    assert first.keys() == second.keys()
    assert len(first) > 90, "all of the profile's params, whatever stages ran"
    assert {key for key in first if first[key] != second[key]} == {"train_psnr.learning_rate"}
    of_training = [run.data.params for run in children(client) if run.info.run_name == "train_psnr@guided"]
    assert {key for key in of_training[0] if of_training[0][key] != of_training[1][key]} == {"train_psnr.learning_rate"}


def test_the_walk_from_a_model_is_the_same_over_http(root: Path, chain: tuple[Path, Registered]):
    shutil.copy(chain[0] / "mlflow.db", root / "mlflow.db")
    with serve_mlflow(root):
        over_http = lineage(root, "models:/faces@challenger")
    assert over_http == lineage(root, "models:/faces@challenger")
    assert over_http.gaps == []


# ---------------------------------------------------------------- an execution that somebody else announced


def test_the_stages_of_a_submitted_run_find_the_run_that_its_submitter_made(
    root: Path, client: MlflowClient, gate: Gate, monkeypatch: pytest.MonkeyPatch
):
    params = check_params({"profile": "demo", "train_psnr": {"learning_rate": 2e-4}})
    page = open_execution(
        root, execution.kubeflow_key("run-0"), "demo-1", {"gwainet.kubeflow_run": "https://k"}, params
    )
    (made,) = parents(client)
    address = f"{gate.address}/#/experiments/{made.info.experiment_id}/runs/{made.info.run_id}"
    assert page == f"{address}?workflowType=machine_learning"
    assert (made.info.run_name, made.info.status) == ("demo-1", "SCHEDULED")
    assert made.data.tags["gwainet.params_digest"] == params.digest()
    assert made.data.params["train_psnr.learning_rate"] == "0.0002"
    # a pod knows its own sections alone, and what the digest over all is
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "kfp/run-0")
    monkeypatch.setenv("GWAINET_PARAMS_DIGEST", params.digest())
    with stage(root, "benchmark", None, Params(profile="demo")):
        assert client.get_run(made.info.run_id).info.status == "RUNNING"
    (parent,), (child,) = parents(client), children(client)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id == made.info.run_id
    assert parent.info.status == "FINISHED"
    assert parent.data.params["train_psnr.learning_rate"] == "0.0002"
    assert parent.data.tags["gwainet.kubeflow_run"] == "https://k"
    assert parent.data.tags["gwainet.commit"] == child.data.tags["gwainet.commit"]


def test_a_stage_that_was_faster_than_the_submitter_keeps_its_run_which_gets_the_submitters_facts(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "kfp/run-0")
    with stage(root):
        open_execution(root, "kfp/run-0", "demo-1", {"gwainet.kubeflow_run": "https://k"}, PARAMS)
        (parent,) = parents(client)
        assert parent.info.status == "RUNNING"
        assert parent.data.tags["gwainet.kubeflow_run"] == "https://k"
    open_execution(root, "kfp/run-0", "demo-1", {}, PARAMS)
    assert [run.info.status for run in parents(client)] == ["FINISHED"]


def test_two_runs_of_one_execution_made_by_clocks_that_differ_become_one_with_all_stages(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    """Each of two pods may take its own run for the oldest, if the one that came second has the slower clock."""
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "kfp/run-0")
    with stage(root, variant="banet"):
        pass
    (first,) = parents(client)
    tags = {"gwainet.kind": "pipeline", "gwainet.pipeline_key": "kfp/run-0"}
    older = client.create_run(first.info.experiment_id, start_time=first.info.start_time - 60_000, tags=tags)
    with stage(root):
        pass
    (parent,) = parents(client)
    assert parent.info.run_id == older.info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in children(client)} == {parent.info.run_id}
    assert len(children(client)) == 2
