"""A training as a TrainJob: what its component makes, waits for, takes over and removes.

The server answers as Kubernetes does; a job's pods are functions here. That torchrun and the worker do with a job what
is expected of them is shown in tests/pipeline/test_trainjob.py.
"""

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components import launcher
from components.trainjobs import TrainJobs
from gwainet.errors import ClusterError, LoginError, PipelineError
from gwainet.params import check_params
from gwainet.stages import STAGES
from gwainet.training.launch import Request
from pipeline.cluster import ClusterSettings
from pipeline.trainjob import manifest
from tests.components.server import OWNER, Kubernetes
from tests.components.test_trainjobs import write_kubeconfig
from tests.serving import Failure, serve
from tests.training_params import PIPELINE

PROJECT = Path(__file__).parents[2]
PARAMS = check_params({"profile": "tiny", **PIPELINE})
CLUSTER = ClusterSettings.model_validate(
    {
        "image": "registry/gwainet-python:1",
        "secrets": [{"secret": "s3", "variables": ["AWS_ACCESS_KEY_ID"]}],
        "stages": {"train_psnr": {"nodes": 2}},
    }
)
MANIFEST = manifest("train_psnr", PARAMS, CLUSTER, "/gwainet/.gwainet")
NAME = launcher.job_name("run-1", "train_psnr@guided")
Pods = Callable[[dict[str, Any]], None]


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in launcher.PASSED_ON:
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "KFP_RUN_ID": "run-1",
        "GWAINET_NAMESPACE": "team",
        "GWAINET_POD": "gwainet-x-1",
        "GWAINET_PIPELINE_KEY": "kfp/run-1",
        "GWAINET_PARAMS_DIGEST": "abc",
        "MLFLOW_TRACKING_URI": "http://mlflow",
        "MLFLOW_TRACKING_TOKEN": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def kubernetes() -> Iterator[Kubernetes]:
    with serve(Kubernetes(token="secret", on_create=train)) as kubernetes:
        yield kubernetes


def request_of(job: dict[str, Any]) -> Path:
    (file,) = job["spec"]["trainer"]["args"]
    return Path(file)


def train(job: dict[str, Any]) -> None:
    """What the first process leaves behind: the output, then its page."""
    request = Request.model_validate_json(request_of(job).read_bytes())
    assert (request.paths["faces"] / "manifest.parquet").read_text() == "faces"
    assert json.loads(request.paths["passed"].read_text()) == {}
    out = request.paths["out"]
    out.mkdir()
    (out / "weights.safetensors").write_text(f"{request.stage} {request.variant}")
    (out / "metrics.json").write_text(json.dumps({"psnr": 20.0}))
    Request.page(request_of(job)).write_text("https://mlflow/#/runs/1")


def inputs(folder: Path) -> dict[str, Path]:
    """What `gather` gives: artifacts in this pod."""
    (folder / "faces").mkdir(parents=True)
    (folder / "faces" / "manifest.parquet").write_text("faces")
    (folder / "passed.json").write_text("{}")
    return {
        "faces": folder / "faces",
        "passed": folder / "passed.json",
        "wnet": folder / "absent",
        "out": folder / "artifacts" / "out",
    }


def execute(kubernetes: Kubernetes, folder: Path, patience: float = 20.0) -> Path:
    """Run the stage's launcher as a pod does, and give what it wrote."""
    configuration = client.Configuration(host=kubernetes.address)
    configuration.api_key = {"authorization": f"Bearer {kubernetes.token}"}
    jobs = TrainJobs("team", configuration, patience=patience, pause=0.01, timeout=(2, 1))
    paths = inputs(folder if not folder.exists() else folder / "again")  # each attempt gets its artifacts anew
    where = launcher.execute(STAGES["train_psnr"], MANIFEST, PARAMS, "guided", paths, folder.parent / "root", jobs)
    assert where == "https://mlflow/#/runs/1"
    return paths["out"]


def folder_of(root: Path) -> Path:
    return root / ".gwainet" / "jobs" / "run-1" / "train_psnr@guided"


def test_a_job_that_fails_after_all_was_written_is_done(kubernetes, tmp_path):
    kubernetes.play = ["", "Failed"]
    out = execute(kubernetes, tmp_path / "pod")
    assert (out / "weights.safetensors").read_text() == "train_psnr guided"
    assert not kubernetes.jobs


def test_a_pod_that_was_killed_before_kubeflow_took_the_output_hands_it_over_again(kubernetes, tmp_path):
    first = execute(kubernetes, tmp_path / "pod")
    shutil.rmtree(first)
    kubernetes.on_create = lambda _job: pytest.fail("trained a second time")
    assert (execute(kubernetes, tmp_path / "pod") / "metrics.json").is_file()


def test_the_output_comes_back_whole_and_what_a_retry_needs_stays(kubernetes, tmp_path):
    kubernetes.play = ["", "Suspended", "", "Complete"]
    out = execute(kubernetes, tmp_path / "pod")
    assert (out / "weights.safetensors").read_text() == "train_psnr guided"
    assert not kubernetes.jobs
    assert sorted(path.name for path in folder_of(tmp_path / "root").iterdir()) == [
        "out",
        "request.json",
        "request.page",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_the_job_is_this_runs_with_its_variables_and_no_password(kubernetes, tmp_path):
    made: list[dict[str, Any]] = []

    def keep(job: dict[str, Any]) -> None:
        made.append(json.loads(json.dumps(job)))
        train(job)

    kubernetes.on_create = keep
    execute(kubernetes, tmp_path / "pod")
    (job,) = made
    assert job["metadata"]["name"] == NAME
    assert job["metadata"]["labels"] == {"gwainet/run": "run-1"}
    assert job["metadata"]["ownerReferences"] == [OWNER]
    variables = {variable["name"]: variable for variable in job["spec"]["trainer"]["env"]}
    assert variables["GWAINET_PIPELINE_KEY"]["value"] == "kfp/run-1"
    assert variables["GWAINET_PARAMS_DIGEST"]["value"] == "abc"
    for name, secret in (("MLFLOW_TRACKING_URI", "gwainet-mlflow"), ("AWS_ACCESS_KEY_ID", "s3")):
        assert variables[name] == {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": name}}}
    assert "hunter2" not in json.dumps(job)
    assert {key: value for key, value in job["spec"].items() if key != "trainer"} == {
        key: value for key, value in json.loads(MANIFEST)["spec"].items() if key != "trainer"
    }


def test_without_a_secret_for_mlflow_the_plugins_address_goes_on_to_the_job(monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", "r")
    plugin = CLUSTER.model_copy(update={"mlflow": None})
    job = launcher.fill(manifest("train_psnr", PARAMS, plugin, "/w"), NAME, "run-1", Path("/w/request.json"), [])
    values = {variable["name"]: variable.get("value") for variable in job["spec"]["trainer"]["env"]}
    assert values["MLFLOW_TRACKING_URI"] == "http://mlflow"
    assert values["MLFLOW_RUN_ID"] == "r"
    assert "MLFLOW_TRACKING_TOKEN" not in values
    assert "ownerReferences" not in job["metadata"]


def test_a_failed_job_is_told_with_its_conditions_and_last_lines_and_removed(kubernetes, tmp_path):
    kubernetes.play = ["", "Failed"]
    kubernetes.on_create = lambda _job: None
    kubernetes.logs = {f"{NAME}-node-0-1-failed": "ParamsError: 3 processes cannot share a batch"}
    with pytest.raises(PipelineError) as caught:
        execute(kubernetes, tmp_path / "pod")
    assert f"`{NAME}` failed (Tried: it is Failed)" in str(caught.value)
    assert "ParamsError: 3 processes cannot share a batch" in str(caught.value)
    assert not kubernetes.jobs
    assert not (tmp_path / "pod" / "artifacts" / "out").exists()


class Tidy(Kubernetes):
    """Removes the pods of a job that failed, as Kubernetes does where their policy is to restart (JobSet's default)."""

    def condition(self) -> str:
        condition = super().condition()
        if condition == "Failed":
            self.logs.clear()
        return condition


def test_a_failed_jobs_last_words_are_those_of_before_its_pods_were_removed(tmp_path):
    with serve(Tidy(play=["", "Failed"], logs={f"{NAME}-node-0-0-a": "CheckpointError: torn"})) as kubernetes:
        with pytest.raises(
            PipelineError, match=r"failed \(Tried: it is Failed\)\nlast lines of .*\nCheckpointError: torn"
        ):
            execute(kubernetes, tmp_path / "pod")
        kubernetes.looks = 1
        with pytest.raises(PipelineError, match="no pod of it is left"):
            execute(kubernetes, tmp_path / "pod")


def test_logs_that_may_not_be_read_do_not_hide_the_failure(kubernetes, tmp_path):
    kubernetes.role = documented_role() - {("", "pods", "list")}
    kubernetes.play, kubernetes.on_create = ["Failed"], lambda _job: None
    with pytest.raises(PipelineError, match=r"it is Failed\)\nits pods' logs are lost: could not list the pods"):
        execute(kubernetes, tmp_path / "pod")


def test_a_job_that_somebody_else_deletes_is_told(kubernetes, tmp_path):
    kubernetes.on_create = lambda job: kubernetes.jobs.pop(job["metadata"]["name"])
    with pytest.raises(PipelineError, match="deleted by somebody else"):
        execute(kubernetes, tmp_path / "pod")


def test_a_job_that_ended_well_without_a_result_is_told(kubernetes, tmp_path):
    kubernetes.on_create = lambda _job: None
    with pytest.raises(PipelineError, match=r"complete but left no .*request\.page: is `work` one volume"):
        execute(kubernetes, tmp_path / "pod")


def crash(kubernetes: Kubernetes, folder: Path) -> None:
    """An attempt whose pod is gone without a word: the server refuses everything, even to delete, once the job runs."""
    kubernetes.failures = [Failure("GET", f"trainjobs/{NAME}", 403, times=0), Failure("DELETE", NAME, 403, times=1)]

    def go(job: dict[str, Any]) -> None:
        kubernetes.failures[0].times = 1

    kubernetes.on_create = go
    with pytest.raises(LoginError):
        execute(kubernetes, folder)


def test_a_retried_component_adopts_the_job_that_its_dead_pod_made(kubernetes, tmp_path):
    crash(kubernetes, tmp_path / "pod")
    (job,) = kubernetes.jobs.values()
    train(job)
    kubernetes.on_create = lambda _job: pytest.fail("a second job for one task")
    out = execute(kubernetes, tmp_path / "pod")
    assert (out / "weights.safetensors").read_text() == "train_psnr guided"
    assert sum(request.method == "POST" for request in kubernetes.requests) == 1
    assert not kubernetes.jobs


@pytest.mark.parametrize("left", ["Failed", "terminating"])
def test_a_job_that_cannot_succeed_any_more_is_replaced_once_its_pods_are_gone(kubernetes, tmp_path, left):
    crash(kubernetes, tmp_path / "pod")
    if left == "Failed":
        kubernetes.play, kubernetes.looks = ["Failed", "Complete"], 0
    else:
        kubernetes.jobs[NAME]["metadata"]["deletionTimestamp"] = "2026-01-01T10:30:00Z"
    kubernetes.lingers = 2
    kubernetes.on_create = train
    assert (execute(kubernetes, tmp_path / "pod") / "metrics.json").is_file()
    assert sum(request.method == "POST" for request in kubernetes.requests) == 2


def test_a_result_that_a_dead_pod_did_not_take_over_is_taken_without_a_second_job(kubernetes, tmp_path):
    crash(kubernetes, tmp_path / "pod")
    train(kubernetes.jobs[NAME])
    kubernetes.jobs.clear()
    kubernetes.requests.clear()
    assert (execute(kubernetes, tmp_path / "pod") / "metrics.json").is_file()
    assert {request.method for request in kubernetes.requests} == {"DELETE"}


def test_a_create_whose_answer_is_lost_makes_one_job(kubernetes, tmp_path):
    """The server makes the job, and its answer never comes: the second request finds it there."""

    def lose(job: dict[str, Any]) -> None:
        train(job)
        threading.Event().wait(1.5)  # longer than the client waits for an answer

    kubernetes.on_create = lose
    assert (execute(kubernetes, tmp_path / "pod") / "metrics.json").is_file()
    assert sum(request.method == "POST" for request in kubernetes.requests) == 2


@pytest.mark.parametrize("answer", [500, "silence", "hang up"])
def test_a_control_plane_that_is_away_for_a_while_ends_nothing(kubernetes, tmp_path, answer):
    kubernetes.failures = [Failure(method, "trainjobs", answer, times=2) for method in ("GET", "POST", "DELETE")]
    assert (execute(kubernetes, tmp_path / "pod") / "metrics.json").is_file()
    assert not kubernetes.jobs


def test_sigterm_deletes_the_job_at_once(kubernetes, tmp_path):
    kubernetes.play = [""]
    kubernetes.on_create = lambda _job: threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGTERM)).start()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        execute(kubernetes, tmp_path / "pod")
    assert caught.value.code == 128 + signal.SIGTERM
    assert not kubernetes.jobs
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("task", ["pretrain_wnet", "train_adversarial@gwainet"])
def test_a_task_has_one_name_for_its_job_short_enough_for_its_pods(task):
    name = launcher.job_name("3f1c2a9e-0000-4444-8888-aaaaaaaaaaaa", task)
    assert name == launcher.job_name("3f1c2a9e-0000-4444-8888-aaaaaaaaaaaa", task)
    assert name != launcher.job_name("another", task)
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", f"{name}-node-0-15")
    assert len(f"{name}-node-0-15-abcde") <= 63


# ---------------------------------------------------------------- rights


def documented_role() -> set[tuple[str, str, str]]:
    """(API group, resource, verb) of the Role in docs/kubeflow.md."""
    text = (PROJECT / "docs" / "kubeflow.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    documents = [document for block in blocks for document in yaml.safe_load_all(block)]
    (role,) = (document for document in documents if document and document.get("kind") == "Role")
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def everything(kubernetes: Kubernetes, folder: Path) -> None:
    """A run that succeeds and one that fails, which asks for logs too."""
    kubernetes.play, kubernetes.on_create = ["Failed"], lambda _job: None
    kubernetes.logs = {f"{NAME}-node-0-0-a": "x"}
    with pytest.raises(PipelineError, match="last lines of"):
        execute(kubernetes, folder)
    kubernetes.play, kubernetes.on_create = ["Complete"], train
    execute(kubernetes, folder)


def test_the_documented_role_is_what_the_launcher_asks_for(kubernetes, tmp_path):
    kubernetes.role = documented_role()
    everything(kubernetes, tmp_path / "pod")
    assert kubernetes.asked == documented_role()


@pytest.mark.parametrize("right", sorted(documented_role()), ids=lambda right: " ".join(filter(None, right)))
def test_no_right_of_the_documented_role_is_for_nothing(kubernetes, tmp_path, right):
    kubernetes.role = documented_role() - {right}
    try:
        everything(kubernetes, tmp_path / "pod")
    except (ClusterError, AssertionError):
        return
    except PipelineError:  # the first job, which failed, is still there
        assert right[2] == "delete"
    assert kubernetes.jobs, "the job could be deleted without the right to"


# ---------------------------------------------------------------- through the component


def test_a_component_hands_its_job_over_and_shows_what_came_back(kubernetes, tmp_path, monkeypatch):
    from components.train_psnr import train_psnr
    from pipeline.graph import params_of
    from tests.components.test_adapter import Artifact

    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", kubernetes)))
    made = inputs(tmp_path / "in")
    (tmp_path / "in" / "checked").mkdir()
    made["passed"].rename(tmp_path / "in" / "checked" / "passed.json")
    out, metrics, page = (Artifact(str(tmp_path / "artifacts" / kind)) for kind in ("out", "metrics", "page"))
    (tmp_path / "artifacts").mkdir()
    train_psnr.python_func(
        params=params_of("train_psnr", PARAMS),
        root=str(tmp_path / "root"),
        variant="guided",
        faces=Artifact(str(made["faces"])),
        passed=Artifact(str(tmp_path / "in" / "checked")),
        out=out,
        metrics=metrics,
        page=page,
        trainjob=MANIFEST,
    )
    assert out.metadata == {"mlflow": "https://mlflow/#/runs/1"}
    assert metrics.numbers == {"psnr": 20.0}
    assert 'href="https://mlflow/#/runs/1"' in Path(page.path).read_text()
    assert not kubernetes.jobs
