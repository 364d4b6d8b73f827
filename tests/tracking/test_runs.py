import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow.artifacts
import numpy as np
import pytest
from mlflow import MlflowClient
from PIL import Image

from gwainet.errors import TrackingError
from gwainet.params import check_params
from gwainet.tracking import Task, outbox, stage_run, where
from gwainet.tracking.execution import tracking_uri
from gwainet.tracking.registry import register
from tests.faults.full_disk import small_disk
from tests.servers.tracking import Server, sqlite_server
from tests.tracking.models import candidate
from tests.tracking.stages import PARAMS, all_runs, children, parents, stage, store_away, wait_for

FORK = multiprocessing.get_context("fork")


def test_a_stage_is_a_finished_child_of_its_execution(root: Path, client: MlflowClient):
    (root / "faces").mkdir()
    (root / "faces" / "faces.json").write_text('{"digest": "abc"}')
    with stage(root, inputs={"faces": root / "faces"}) as recorder:
        assert parents(client)[0].info.status == "RUNNING"
        assert client.get_run(recorder.run_id).info.status == "RUNNING"
        recorder.metrics({"psnr": 20.5}, 1)
        recorder.metrics({"psnr": 21.5}, 2)
        (root / "out").mkdir()
        (root / "out" / "weights").write_text("w")
    (parent,), (child,) = parents(client), children(client)
    assert (parent.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert child.info.run_name == "train_psnr@guided"
    tags = child.data.tags
    assert tags["mlflow.parentRunId"] == parent.info.run_id
    assert tags["gwainet.input.faces"] == "abc"
    assert tags["gwainet.params_digest"] == PARAMS.digest()
    assert tags["gwainet.commit"] == "unknown"
    assert len(tags["gwainet.output_digest"]) == 64
    assert child.data.params["train_psnr.learning_rate"] == "0.0001"
    assert parent.data.params["train_psnr.learning_rate"] == "0.0001"
    assert parent.data.params["profile"] == "demo"
    assert [(m.step, m.value) for m in client.get_metric_history(child.info.run_id, "psnr")] == [(1, 20.5), (2, 21.5)]
    assert parent.data.metrics == {"train_psnr.guided.psnr": 21.5}


def test_the_stages_of_an_execution_share_a_parent_and_other_params_have_their_own(root: Path, client: MlflowClient):
    with stage(root, "prepare_faces", None):
        pass
    with stage(root, "check_faces", None):
        pass
    assert len(parents(client)) == 1
    other = check_params({"profile": "demo", "train_psnr": {"learning_rate": 2e-4}})
    with stage(root, params=other):
        pass
    assert len(parents(client)) == 2
    assert len({run.data.tags["mlflow.parentRunId"] for run in children(client)}) == 2


def test_an_explicit_key_holds_an_execution_together_whatever_it_contains(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "make/Ann's run")
    for learning_rate in (1e-4, 2e-4):
        with stage(root, params=check_params({"profile": "demo", "train_psnr": {"learning_rate": learning_rate}})):
            pass
    (parent,) = parents(client)
    assert parent.data.params["train_psnr.learning_rate"] == "0.0001"
    assert [run.data.params["train_psnr.learning_rate"] for run in children(client)] == ["0.0001", "0.0002"]


def test_what_a_stage_reads_names_the_run_that_wrote_it(root: Path, client: MlflowClient):
    with stage(root, "prepare_faces", None) as maker:
        (root / "out").mkdir()
        (root / "out" / "faces.json").write_text('{"digest": "abc"}')
    with stage(root, inputs={"faces": root / "out", "passed": root / "nothing"}):
        pass
    tags = children(client)[-1].data.tags
    assert tags["gwainet.input.faces.run"] == maker.run_id
    assert tags["gwainet.input.passed"] == "absent"
    assert "gwainet.input.passed.run" not in tags


def test_a_failed_stage_fails_its_execution_and_keeps_its_last_metrics_and_its_error(root: Path, client: MlflowClient):
    def train() -> None:
        with stage(root) as recorder:
            recorder.metrics({"loss": 3.0}, 7)
            raise ValueError("loss is NaN")

    with pytest.raises(ValueError, match="loss is NaN"):
        train()
    (parent,), (child,) = parents(client), children(client)
    assert (parent.info.status, child.info.status) == ("FAILED", "FAILED")
    assert child.data.metrics["loss"] == 3.0
    assert "ValueError: loss is NaN" in child.data.tags["gwainet.error"]
    assert "gwainet.output_digest" not in child.data.tags


def test_a_retried_stage_supersedes_the_failed_one_and_its_execution_ends_well(root: Path, client: MlflowClient):
    with pytest.raises(ValueError, match="x"), stage(root):
        raise ValueError("x")
    with stage(root):
        assert parents(client)[0].info.status == "RUNNING"
    (parent,), (old, new) = parents(client), children(client)
    assert old.data.tags["gwainet.superseded"] == "true"
    assert "gwainet.superseded" not in new.data.tags
    assert parent.info.status == "FINISHED"


def test_an_execution_with_a_failed_stage_stays_failed_though_another_succeeds(root: Path, client: MlflowClient):
    with pytest.raises(ValueError, match="x"), stage(root):
        raise ValueError("x")
    with stage(root, variant="banet"):
        pass
    assert parents(client)[0].info.status == "FAILED"


def test_an_execution_runs_as_long_as_one_of_its_stages_does(root: Path, client: MlflowClient):
    with stage(root):
        with stage(root, variant="banet"):
            pass
        assert parents(client)[0].info.status == "RUNNING"
    assert parents(client)[0].info.status == "FINISHED"


def test_control_c_marks_the_stage_killed(root: Path, client: MlflowClient):
    with pytest.raises(KeyboardInterrupt), stage(root):
        raise KeyboardInterrupt
    assert [run.info.status for run in all_runs(client)] == ["KILLED", "KILLED"]


def _train_until_stopped(root: Path, started: Path) -> None:
    with stage(root) as recorder:
        recorder.metrics({"loss": 1.0}, 1)
        started.touch()
        time.sleep(60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stage_stopped_from_outside_ends_as_killed(root: Path, client: MlflowClient, number: int, code: int):
    process = FORK.Process(target=_train_until_stopped, args=(root, root / "started"))
    process.start()
    deadline = time.monotonic() + 30
    while not (root / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.pid is not None
    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == code
    (child,) = children(client)
    if number == signal.SIGTERM:
        assert child.info.status == "KILLED"
        assert child.data.metrics["loss"] == 1.0
    else:
        assert child.info.status == "RUNNING"  # nobody was left to say otherwise, until the stage runs again:
    with stage(root):
        pass
    old, new = children(client)
    assert (old.info.status, old.data.tags["gwainet.superseded"], new.info.status) == ("KILLED", "true", "FINISHED")
    assert len(parents(client)) == 1


def test_a_run_that_sigkill_left_behind_is_closed_by_the_next_stage_of_any_execution_and_no_living_one_is(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "make/first")
    process = FORK.Process(target=_train_until_stopped, args=(root, root / "started"))
    process.start()
    wait_for((root / "started").exists)
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "make/second")
    with stage(root, "prepare_faces", None):
        pass
    assert children(client)[0].info.status == "RUNNING"
    process.kill()
    process.join(20)
    with stage(root, "check_faces", None):
        pass
    first, second = parents(client)
    killed = children(client)[0]
    assert (killed.info.status, first.info.status, second.info.status) == ("KILLED", "KILLED", "FINISHED")
    assert f"{killed.info.run_name} ({killed.info.run_id}) had been killed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "known", [{}, {"gwainet.host": "another"}, {"gwainet.process": ""}, {"gwainet.process": "9999999 0 pid:[1]"}]
)
def test_a_run_whose_process_cannot_be_known_to_have_ended_is_left_alone(
    root: Path, client: MlflowClient, known: dict[str, str]
):
    with stage(root) as recorder:
        for tag, value in known.items():
            client.set_tag(recorder.run_id, tag, value)
        with stage(root, "check_faces", None):
            assert client.get_run(recorder.run_id).info.status == "RUNNING"


def test_a_sigterm_handler_of_somebody_else_is_left_alone(root: Path):
    def mine(number: int, frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGTERM, mine)
    try:
        with stage(root):
            assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_run_given_by_the_platform_is_used_and_its_status_left_alone(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
):
    given = client.create_run(client.create_experiment("platform", artifact_location=(root / "mlruns").as_uri()))
    monkeypatch.setenv("MLFLOW_RUN_ID", given.info.run_id)
    with stage(root) as recorder:
        assert recorder.run_id == given.info.run_id
        recorder.metrics({"psnr": 20.0})
    run = client.get_run(given.info.run_id)
    assert (run.info.status, run.info.end_time) == ("RUNNING", None)
    assert run.data.metrics["psnr"] == 20.0
    assert run.data.tags["gwainet.profile"] == "demo"
    assert "profile" not in run.data.params  # Kubeflow logs its component's inputs under such names
    assert client.get_experiment_by_name("gwainet") is None


def _hold_a_stage(root: Path, variant: str, barrier: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    with stage(root, variant=variant) as recorder:
        recorder.metrics({"loss": 1.0})


def test_four_processes_on_a_new_database_make_one_parent(root: Path):
    (root / "mlflow.db").unlink(missing_ok=True)
    barrier = FORK.Barrier(4)
    processes = [FORK.Process(target=_hold_a_stage, args=(root, f"v{i}", barrier)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    client = MlflowClient(tracking_uri(root))
    assert len(parents(client)) == 1
    assert [run.info.status for run in children(client)] == ["FINISHED"] * 4
    assert parents(client)[0].info.status == "FINISHED"


def test_thousands_of_metrics_arrive_complete_and_in_blocks(root: Path, client: MlflowClient):
    with stage(root) as recorder:
        for step in range(2500):
            recorder.metrics({"loss": step / 10, "nan": float("nan")}, step)
        deadline = time.monotonic() + 20
        while not client.get_metric_history(recorder.run_id, "loss") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(client.get_metric_history(recorder.run_id, "loss")) > 0, "a full block is sent while training runs"
    history = client.get_metric_history(recorder.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(step, step / 10) for step in range(2500)]
    assert np.isnan(client.get_run(recorder.run_id).data.metrics["nan"])


def test_even_a_short_stage_has_system_metrics(root: Path, client: MlflowClient):
    with stage(root) as recorder:
        sum(range(1_000_000))
    metrics = client.get_run(recorder.run_id).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0
    assert 0 <= metrics["system/cpu_utilization_percentage"] <= 100


def test_pictures_files_folders_tags_and_data_are_recorded(root: Path, client: MlflowClient):
    (root / "report").mkdir()
    (root / "report" / "page.html").write_text("<p>")
    with stage(root) as recorder:
        for step in (10, 20):
            recorder.picture("samples/validation", Image.new("RGB", (16, 16), (step, 0, 0)), step)
        recorder.artifact(root / "report", "check_faces")
        recorder.artifact(root / "report" / "page.html", "pages")
        recorder.tags({"device": "cpu", "long": "x" * 9000})
        recorder.params({"device.name": "cpu", "long": "y" * 7000})
        recorder.dataset("demo", "0123456789abcdef" * 4, {"train images": 12}, "training")
    run = client.get_run(recorder.run_id)
    pictures = [file.path for file in client.list_artifacts(recorder.run_id, "images") if file.path.endswith(".png")]
    assert sorted(path.split("+timestamp")[0] for path in pictures) == [
        "images/samples~validation+step+10",
        "images/samples~validation+step+20",
    ]
    assert [f.path for f in client.list_artifacts(recorder.run_id, "check_faces")] == ["check_faces/page.html"]
    assert [f.path for f in client.list_artifacts(recorder.run_id, "pages")] == ["pages/page.html"]
    assert run.data.tags["device"] == "cpu"
    assert len(run.data.tags["long"]) == 8000
    assert run.data.params["long"] == "y" * 5997 + "..."
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("demo", "0123456789ab")
    assert json.loads(used.dataset.profile) == {"digest": "0123456789abcdef" * 4, "train images": 12}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]


def test_a_name_that_mlflow_refuses_is_refused_at_once(root: Path):
    with stage(root) as recorder:
        with pytest.raises(TrackingError, match="psnr:db"):
            recorder.metrics({"psnr:db": 1.0})
        with pytest.raises(TrackingError, match="no-such-file"):
            recorder.artifact(root / "no-such-file")


def test_a_server_that_is_down_is_said_at_the_start_with_a_way_out(root: Path, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        uri = f"http://me:secret@127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError) as error, stage(root):
        pytest.fail("the stage must not start")
    message = str(error.value)
    assert "MLFLOW_TRACKING_URI" in message
    assert "unset" in message
    assert "127.0.0.1" in message
    assert "secret" not in message


def test_a_database_that_is_none_is_said_at_the_start(root: Path):
    (root / "mlflow.db").write_text("not a database, but long enough to be read as the header of one" * 100)
    with pytest.raises(TrackingError, match=r"mlflow\.db.*move it away"), stage(root):
        pytest.fail("the stage must not start")


def test_a_full_disk_is_said_not_taken_for_a_damaged_database(tmp_path: Path):
    disk = tmp_path / "disk"
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(small_disk(disk, 2**22))
        except (PermissionError, FileNotFoundError) as error:
            pytest.skip(f"no small file system can be mounted here: {error}")
        with stage(disk):
            pass
        with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
        with pytest.raises(TrackingError, match=r"the disk is full: .*mlflow\.db .*make room"), stage(disk):
            pytest.fail("the stage must not start")


def test_a_store_that_comes_back_gets_all_it_missed(
    root: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    with stage(root) as recorder:
        with store_away(root):
            for step in range(1500):
                recorder.metrics({"loss": float(step)}, step)
            recorder.tags({"device": "cpu"})
            recorder.picture("samples", Image.new("RGB", (8, 8)), 5)
            (root / "partial.txt").write_text("kept")
            recorder.artifact(root / "partial.txt", "reports")
            (root / "partial.txt").unlink()
        recorder.metrics({"loss": 1500.0}, 1500)
    run = client.get_run(recorder.run_id)
    assert len(client.get_metric_history(recorder.run_id, "loss")) == 1501
    assert run.data.tags["device"] == "cpu"
    assert (run.info.status, parents(client)[0].info.status) == ("FINISHED", "FINISHED")
    assert {file.path for file in client.list_artifacts(recorder.run_id)} == {"images", "reports"}
    assert not list((root / ".gwainet").rglob("*.*"))
    said = capsys.readouterr().err
    assert "could not take" in said
    assert "is back" in said


def test_what_was_never_sent_is_written_down_and_said(
    root: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    with stage(root) as recorder:
        away = store_away(root)
        away.__enter__()
        recorder.metrics({"psnr": 20.0, "nan": float("nan")}, 4)
        recorder.tags({"device": "cpu"})
        recorder.picture("samples", Image.new("RGB", (8, 8), "red"), 5)
    away.__exit__(None, None, None)
    path = root / ".gwainet" / "unsent" / f"{recorder.run_id}.json"
    assert str(path) in capsys.readouterr().err.replace("\n", "")
    unsent = json.loads(path.read_text())
    assert (unsent["run_id"], unsent["status"], unsent["name"]) == (recorder.run_id, "FINISHED", "train_psnr@guided")
    metrics = [m for thing in unsent["unsent"] for m in thing.get("metrics", []) if not m["key"].startswith("system/")]
    assert [(m["key"], m["value"], m["step"]) for m in metrics] == [("psnr", "20.0", 4), ("nan", "nan", 4)]
    assert {"tags": {"device": "cpu"}} in unsent["unsent"]
    (picture,) = [thing for thing in unsent["unsent"] if "picture" in thing]
    assert Image.open(picture["file"]).getpixel((0, 0)) == (255, 0, 0)
    assert client.get_run(recorder.run_id).info.status == "RUNNING"


def test_what_the_server_will_never_take_does_not_hold_up_the_rest(
    root: Path, client: MlflowClient, capsys: pytest.CaptureFixture[str]
):
    with stage(root) as recorder:
        recorder.params({"device": "cpu"})
        recorder.params({"device": "cuda"})  # MLflow lets no param change
        recorder.tags({"after": "yes"})
    run = client.get_run(recorder.run_id)
    assert (run.data.params["device"], run.data.tags["after"], run.info.status) == ("cpu", "yes", "FINISHED")
    refused = json.loads((root / ".gwainet" / "unsent" / f"{recorder.run_id}.json").read_text())["refused"]
    assert refused == [{"params": {"device": "cuda"}}]
    assert "refuses params" in capsys.readouterr().err


def test_while_the_store_is_away_tries_are_rare(root: Path, monkeypatch: pytest.MonkeyPatch):
    problems: list[Exception] = []
    failed = outbox.Outbox.failed

    def count(self: outbox.Outbox, error: Exception) -> None:
        problems.append(error)
        failed(self, error)

    monkeypatch.setattr(outbox.Outbox, "failed", count)
    with stage(root) as recorder, store_away(root):
        recorder.tags({"step": "0"})
        wait_for(lambda: len(problems) > 0)
        for step in range(20):
            recorder.tags({"step": str(step)})
            recorder.metrics({"loss": 0.0}, step)
        assert len(problems) == 1


def test_a_project_that_was_moved_is_said(root: Path, client: MlflowClient):
    client.create_experiment("gwainet", artifact_location="file:///nowhere/mlruns")
    with pytest.raises(TrackingError, match=r"/nowhere/mlruns.*moved"), stage(root):
        pytest.fail("the stage must not start")


def test_a_deleted_experiment_is_said(root: Path, client: MlflowClient):
    client.delete_experiment(client.create_experiment("gwainet"))
    with pytest.raises(TrackingError, match=r"deleted.*restore"), stage(root):
        pytest.fail("the stage must not start")


def test_the_environment_names_the_experiment_and_the_place_to_look(root: Path, monkeypatch: pytest.MonkeyPatch):
    assert "make ui" in where(root)
    assert str(root / "mlflow.db") in where(root)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "faces")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root}/mlflow.db")
    with stage_run(Task("train_psnr", "guided", PARAMS, ("train_psnr",), root, {}, root / "out")):
        pass
    assert MlflowClient(f"sqlite:///{root}/mlflow.db").get_experiment_by_name("faces") is not None
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.example.org")
    assert "https://me:***@mlflow.example.org/#/experiments" in where(root)


def test_importing_the_package_is_cheap_and_turns_telemetry_off():
    code = (
        "import os, sys, gwainet.tracking; assert 'mlflow' not in sys.modules and 'torch' not in sys.modules; "
        "assert os.environ['MLFLOW_DISABLE_TELEMETRY'] == 'true'"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=Path(__file__).parents[2])


@pytest.fixture
def server(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = sqlite_server(root, root / "mlflow.db")
    server.start()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield server
    server.stop()


@pytest.mark.system
def test_a_real_server_takes_all_goes_away_and_gets_the_rest_when_it_is_back(server: Server, root: Path):
    with stage(root) as recorder:
        recorder.metrics({"loss": 1.0}, 1)
        recorder.picture("samples", Image.new("RGB", (8, 8)), 1)
        (root / "page.html").write_text("<p>")
        recorder.artifact(root / "page.html", "reports")
        server.stop()
        recorder.tags({"device": "cpu"})
        recorder.metrics({"loss": 0.5}, 2)
        recorder.artifact(root / "page.html", "later")
        server.start()
    client = MlflowClient(server.uri)
    run = client.get_run(recorder.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["device"] == "cpu"
    assert [m.value for m in client.get_metric_history(recorder.run_id, "loss")] == [1.0, 0.5]
    assert {file.path for file in client.list_artifacts(recorder.run_id)} == {"images", "reports", "later"}
    with stage(root, "register_model", None) as registrar:
        registered = register(candidate(root), registrar)
        assert registered.uri == "models:/faces/1"
        assert register(candidate(root), registrar).reused
    place = client.get_model_version_download_uri("faces", "1")
    assert (Path(mlflow.artifacts.download_artifacts(place, tracking_uri=server.uri)) / "MLmodel").is_file()
    with stage(root) as again:
        server.stop()
        again.metrics({"loss": 0.25}, 3)
    unsent = root / ".gwainet" / "unsent" / f"{again.run_id}.json"
    assert '"0.25"' in unsent.read_text()
