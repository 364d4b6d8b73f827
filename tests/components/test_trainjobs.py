"""The client of TrainJobs against a server that answers as Kubernetes does."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.trainjobs import TrainJobs, checked, conditions, connection
from gwainet.errors import ClusterError, ConflictError, LoginError, UnavailableError
from tests.components.server import Kubernetes
from tests.serving import Failure, serve

JOB: dict[str, Any] = {
    "apiVersion": "trainer.kubeflow.org/v1alpha1",
    "kind": "TrainJob",
    "metadata": {"name": "train-psnr-1"},
    "spec": {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": 2, "env": []}, "runtimePatches": []},
}


@pytest.fixture
def kubernetes():
    with serve(Kubernetes(token="secret")) as kubernetes:
        yield kubernetes


def jobs_of(kubernetes: Kubernetes, patience: float = 0.0, timeout: tuple[float, float] = (1, 0.5)) -> TrainJobs:
    configuration = client.Configuration(host=kubernetes.address)
    configuration.api_key = {"authorization": f"Bearer {kubernetes.token}"}
    return TrainJobs("team", configuration, patience=patience, pause=0.01, timeout=timeout)


@pytest.fixture
def jobs(kubernetes):
    return jobs_of(kubernetes)


def named(name: str) -> dict[str, Any]:
    return {**JOB, "metadata": {"name": name}}


def test_a_job_is_made_read_and_deleted(kubernetes, jobs):
    kubernetes.play = ["", "Suspended", "Complete"]
    assert jobs.get("train-psnr-1") is None
    jobs.create(JOB)
    seen = [conditions(jobs.get("train-psnr-1")) for _ in range(3)]
    assert seen == [{}, {"Suspended": "Tried: it is Suspended"}, {"Complete": "Tried: it is Complete"}]
    jobs.delete("train-psnr-1")
    assert not kubernetes.jobs
    jobs.delete("train-psnr-1")


def test_a_condition_that_does_not_hold_says_nothing():
    from kubeflow_trainer_api import models

    held = {
        "type": "Failed",
        "status": "False",
        "reason": "",
        "message": "",
        "lastTransitionTime": "2026-01-01T10:00:00Z",
    }
    assert conditions(models.TrainerV1alpha1TrainJob.from_dict({**JOB, "status": {"conditions": [held]}})) == {}


@pytest.mark.parametrize(
    "spec",
    [
        {"runtimeRef": {"name": "torch-distributed"}, "nodes": 2},
        {"runtimeRef": {"name": "torch-distributed"}, "trainer": {"numNodes": "2"}},
        {"trainer": {}},
    ],
)
def test_what_the_published_models_do_not_hold_is_never_sent(spec):
    with pytest.raises(ClusterError, match=r"no TrainJob"):
        checked({**JOB, "spec": spec})


def test_one_that_is_there_is_a_conflict(jobs):
    jobs.create(JOB)
    with pytest.raises(ConflictError, match=r'create the TrainJob `train-psnr-1`.*"train-psnr-1" already exists'):
        jobs.create(JOB)


def test_a_refused_token_and_a_missing_right_are_told_apart(kubernetes, jobs):
    kubernetes.role = {("trainer.kubeflow.org", "trainjobs", "get")}
    with pytest.raises(LoginError, match=r"cannot create resource.*needs the Role of docs/kubeflow\.md"):
        jobs.create(JOB)
    kubernetes.token = "another"
    with pytest.raises(LoginError, match=r"refused the token of this pod's service account \(401: Unauthenticated\)"):
        jobs.get("x")


def test_a_cluster_without_trainer_is_not_a_job_that_is_not_there(kubernetes, jobs):
    kubernetes.installed = False
    for ask in (lambda: jobs.get("x"), lambda: jobs.create(JOB), lambda: jobs.delete("x")):
        with pytest.raises(ClusterError, match=r"Kubeflow Trainer is not installed.*`nodes: 1` in cluster\.yaml"):
            ask()


def test_a_trainer_that_would_drop_the_volumes_is_refused(kubernetes, jobs):
    kubernetes.old = True
    with pytest.raises(ClusterError, match=r'unknown field "spec.runtimePatches".*Trainer 2\.2 or newer is needed'):
        jobs.create(JOB)
    assert not kubernetes.jobs


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (named("Train_Psnr"), r"refused it \(422: metadata\.name must match RFC 1035"),
        (
            {**JOB, "spec": {**JOB["spec"], "runtimeRef": {"name": "mpi"}}},
            r"refused it \(403: admission webhook.*denied",
        ),
    ],
)
def test_what_trainer_refuses_is_told_in_its_words(jobs, job, message):
    with pytest.raises(ClusterError, match=message) as caught:
        jobs.create(job)
    assert not isinstance(caught.value, LoginError)


@pytest.mark.parametrize("answer", [500, 503, 429, "silence", "hang up"])
def test_a_server_that_fails_is_asked_again_until_patience_ends(kubernetes, answer):
    kubernetes.failures = [Failure("GET", "trainjobs", answer, times=1)]
    assert jobs_of(kubernetes, patience=30).get("x") is None
    kubernetes.failures = [Failure("GET", "trainjobs", answer, times=9)]
    with pytest.raises(UnavailableError, match=r"could not read the TrainJob `x`"):
        jobs_of(kubernetes).get("x")


def test_a_dead_server_is_told():
    with serve(Kubernetes()) as gone:
        pass
    with pytest.raises(UnavailableError, match="does not answer"):
        jobs_of(gone).get("x")


def test_an_answer_that_is_no_job_is_told(kubernetes, jobs):
    kubernetes.failures = [Failure("GET", "trainjobs", "page")]
    with pytest.raises(ClusterError, match="answered with what is no TrainJob"):
        jobs.get("x")


def test_a_deleted_job_is_waited_for_until_its_pods_are_gone(kubernetes, jobs):
    jobs.create(JOB)
    kubernetes.lingers = 3
    jobs.delete("train-psnr-1")
    assert kubernetes.jobs
    jobs_of(kubernetes, patience=30).await_gone("train-psnr-1")
    assert not kubernetes.jobs
    kubernetes.lingers = 10**6
    jobs.create(JOB)
    jobs.delete("train-psnr-1")
    with pytest.raises(ClusterError, match="does not go: `kubectl -n team describe trainjob train-psnr-1`"):
        jobs.await_gone("train-psnr-1")


def test_last_words_are_those_of_the_pods_that_failed(kubernetes, jobs):
    assert jobs.last_words("job") == ""
    lines = "\n".join(f"step {step}" for step in range(100))
    kubernetes.logs = {"job-node-0-0-a": "waits", "job-node-0-1-failed": lines, "job-node-0-2-b": "waits", "x": ""}
    words = jobs.last_words("job")
    assert words.startswith("last lines of job-node-0-1-failed:\nstep 20\n")
    assert "step 99\nlast lines of job-node-0-0-a:\nwaits" in words
    kubernetes.role = set()
    with pytest.raises(LoginError, match="could not list the pods of the TrainJob `job`"):
        jobs.last_words("job")


def test_who_owns_a_pod_will_own_the_job_without_controlling_it(jobs):
    from tests.components.server import OWNER

    assert jobs.owners("gwainet-x-1") == [OWNER]


def test_the_server_is_found_by_a_kubeconfig_and_nowhere_outside_a_pod(kubernetes, tmp_path: Path, monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(LoginError, match="no way to the Kubernetes API"):
        connection()
    monkeypatch.setenv("KUBECONFIG", str(write_kubeconfig(tmp_path / "config", kubernetes)))
    assert TrainJobs("team", connection(), patience=0).get("x") is None


def write_kubeconfig(path: Path, kubernetes: Kubernetes) -> Path:
    here = {"name": "here"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{**here, "cluster": {"server": kubernetes.address}}],
        "users": [{**here, "user": {"token": kubernetes.token}}],
        "contexts": [{**here, "context": {"cluster": "here", "user": "here"}}],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path
