"""What a store could not take is sent when it is back."""

import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from gwainet.errors import TrackingError
from gwainet.tracking.unsent import send_unsent
from tests.tracking.stages import children, parents, stage, store_away


def a_stage_without_its_store(root: Path) -> Path:
    """A stage whose store goes away while it runs; the file of what is unsent."""
    with stage(root) as recorder:
        away = store_away(root)
        away.__enter__()
        for step in range(1500):
            recorder.metrics({"loss": float(step)}, step)
        recorder.metrics({"nan": float("nan")}, 7)
        recorder.params({"device.type": "cpu"})
        recorder.tags({"device": "cpu"})
        recorder.dataset("demo", "abc", {"images": 3}, "training")
        recorder.picture("samples", Image.new("RGB", (8, 8), "red"), 5)
        (root / "page.html").write_text("<p>")
        recorder.artifact(root / "page.html", "reports")
    away.__exit__(None, None, None)
    (root / "page.html").unlink()
    (path,) = (root / ".gwainet" / "unsent").glob("*.json")
    return path


def test_everything_arrives_and_the_runs_end_as_and_when_they_did(
    root: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    path = a_stage_without_its_store(root)
    assert "python -m gwainet send-unsent" in capsys.readouterr().err
    ended = json.loads(path.read_text())["unsent"][-1]["end_time"]
    send_unsent(root)
    (parent,), (child,) = parents(client), children(client)
    assert (child.info.status, child.info.end_time) == ("FINISHED", ended)
    assert (parent.info.status, parent.data.metrics["train_psnr.guided.loss"]) == ("FINISHED", 1499.0)
    history = client.get_metric_history(child.info.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(step, float(step)) for step in range(1500)]
    assert np.isnan(child.data.metrics["nan"])
    assert (child.data.params["device.type"], child.data.tags["device"]) == ("cpu", "cpu")
    (used,) = child.inputs.dataset_inputs
    assert (used.dataset.name, json.loads(used.dataset.profile)) == ("demo", {"digest": "abc", "images": 3})
    assert {file.path for file in client.list_artifacts(child.info.run_id)} == {"images", "reports"}
    assert list((root / ".gwainet" / "unsent").iterdir()) == []
    send_unsent(root)
    assert "nothing is unsent" in capsys.readouterr().err


def test_a_store_that_is_still_away_costs_nothing(root: Path, client: MlflowClient):
    path = a_stage_without_its_store(root)
    before = json.loads(path.read_text())["unsent"]
    with store_away(root), pytest.raises(TrackingError, match="again when it is back"):
        send_unsent(root)
    assert json.loads(path.read_text())["unsent"] == before
    send_unsent(root)
    assert children(client)[0].info.status == "FINISHED"


def test_what_is_refused_stays_in_the_file_and_the_rest_is_sent(root: Path, client: MlflowClient):
    path = a_stage_without_its_store(root)
    client.log_param(children(client)[0].info.run_id, "device.type", "cuda")  # MLflow lets no param change
    send_unsent(root)
    left = json.loads(path.read_text())
    assert (left["unsent"], left["refused"]) == ([], [{"params": {"device.type": "cpu"}}])
    assert children(client)[0].info.status == "FINISHED"


def test_what_belongs_to_another_server_is_left_and_said(root: Path, capsys: pytest.CaptureFixture[str]):
    path = a_stage_without_its_store(root)
    content = {**json.loads(path.read_text()), "server": "https://mlflow.example.org"}
    path.write_text(json.dumps(content))
    send_unsent(root)
    assert json.loads(path.read_text()) == content
    assert "belongs to https://mlflow.example.org" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"run_id": "x"}'])
def test_a_damaged_file_is_named(root: Path, text: str):
    path = root / ".gwainet" / "unsent" / "0.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(TrackingError, match=r"0\.json is not what a stage leaves unsent"):
        send_unsent(root)


def test_a_late_end_of_a_stage_that_ran_again_leaves_the_execution_alone(root: Path, client: MlflowClient):
    a_stage_without_its_store(root)
    with stage(root) as recorder:
        recorder.metrics({"loss": 0.5}, 1)
    send_unsent(root)
    (parent,) = parents(client)
    assert parent.data.metrics["train_psnr.guided.loss"] == 0.5
    assert parent.info.status == "FINISHED"
