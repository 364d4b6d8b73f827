"""A training on several nodes: its component's pod makes a TrainJob, waits for it and takes over what it wrote.

The job's pods see no artifacts of Kubeflow, so inputs are copied to the volume `work`, and the output comes from there:
`.gwainet/jobs/<run>/<task>/` with `inputs/`, `request.json`, `request.page` (once it succeeded) and `out/`.
"""

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from components.trainjobs import Job, TrainJobs, conditions, of_this_pod
from gwainet.errors import ClusterError, ConflictError, PipelineError
from gwainet.files import staged_directory, staged_file
from gwainet.params import Params
from gwainet.progress import say
from gwainet.stages import Stage
from gwainet.training.launch import Request

# what differs from run to run, or is set in the pod by Kubeflow's MLflow plugin; no password is among them
PASSED_ON = (
    "GWAINET_PIPELINE_KEY",
    "GWAINET_PARAMS_DIGEST",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
)


def execute(
    stage: Stage,
    manifest: str,
    params: Params,
    variant: str | None,
    paths: Mapping[str, Path],
    root: Path,
    jobs: TrainJobs | None = None,
) -> str:
    """Run a training as a TrainJob.

    A pod that takes the place of another one finds that one's job by its name, and goes on waiting for it. The job is
    deleted when this ends, however it does; SIGKILL alone leaves it, for the next attempt or for its own time limit.

    Args:
        stage: that trains.
        manifest: of `pipeline.trainjob`.
        params: of the profile.
        variant: of a stage that has some.
        paths: argument name -> path, in this pod.
        root: holds `.gwainet/`, on a volume that the job's pods mount at the same path.
        jobs: None: of this pod's namespace.

    Returns:
        Where to look at the tracked run.

    Raises:
        PipelineError: the job failed; with its last words.
        ClusterError: Kubernetes refused something or does not answer.
    """
    jobs = jobs or of_this_pod()
    run, task = os.environ["KFP_RUN_ID"], f"{stage.name}@{variant}" if variant else stage.name
    folder = root / ".gwainet" / "jobs" / run / task
    file = folder / "request.json"
    name = job_name(run, task)
    with _stopped_with(jobs, name):
        if not Request.page(file).exists():  # which is written last: an earlier attempt may have been killed after it
            job = _running(jobs, name)
            if job is None:
                prepare(folder, stage, params, variant, paths, root)
                with suppress(ConflictError):  # the answer to this very request was lost
                    jobs.create(fill(manifest, name, run, file, jobs.owners(os.environ["GWAINET_POD"])))
            else:
                say(f"{task}: an earlier attempt's TrainJob {name} goes on")
            follow(jobs, name, task, Request.page(file))
        if not Request.page(file).exists():
            raise PipelineError(
                f"the TrainJob `{name}` is complete but left no {Request.page(file)}: is `work` one volume?"
            )
        where = Request.page(file).read_text(encoding="utf-8")
        with staged_directory(paths["out"]) as partial:
            shutil.copytree(folder / "out", partial, dirs_exist_ok=True)
    # the request, its page and the output stay: this pod may yet be killed before Kubeflow has taken the output
    shutil.rmtree(folder / "inputs", ignore_errors=True)
    return where


def job_name(run: str, task: str) -> str:
    """The one name of a task's job: at most 63 lower-case letters, digits and hyphens, and of its pods too."""
    readable = task.replace("_", "-").replace("@", "-")
    return f"{readable}-{hashlib.sha256(f'{run}/{task}'.encode()).hexdigest()[:10]}"


def prepare(
    folder: Path, stage: Stage, params: Params, variant: str | None, paths: Mapping[str, Path], root: Path
) -> None:
    """Copy a stage's inputs to a folder that the job sees, and write its request there; what is there already stays."""
    shared = {name: folder / "inputs" / f"{name}{path.suffix}" for name, path in paths.items() if name != "out"}
    for name, copy in shared.items():
        if paths[name].is_dir() and not copy.exists():
            with staged_directory(copy) as partial:
                shutil.copytree(paths[name], partial, dirs_exist_ok=True)
        elif paths[name].is_file():
            with staged_file(copy) as partial:
                shutil.copyfile(paths[name], partial)
    request = Request(
        stage=stage.name,
        variant=variant,
        params=params.model_dump(mode="json"),
        paths={**shared, "out": folder / "out"},
        store=root,
    )
    with staged_file(folder / "request.json") as partial:
        partial.write_text(request.model_dump_json(), encoding="utf-8")


def fill(manifest: str, name: str, run: str, request: Path, owners: list[dict[str, Any]]) -> dict[str, Any]:
    """The job of this run: name, owners, request, and the variables that are the run's own."""
    job: dict[str, Any] = json.loads(manifest)
    job["metadata"] = {"name": name, "labels": {"gwainet/run": run}, **({"ownerReferences": owners} if owners else {})}
    trainer = job["spec"]["trainer"]
    trainer["args"] = [str(request)]
    known = {variable["name"] for variable in trainer["env"]}
    trainer["env"] += [
        {"name": variable, "value": os.environ[variable]}
        for variable in PASSED_ON
        if variable not in known and os.environ.get(variable)
    ]
    return job


def follow(jobs: TrainJobs, name: str, task: str, page: Path) -> None:
    """Wait for the end of a job, and say what becomes of it.

    Args:
        jobs: of the namespace.
        name: of the job.
        task: of the pipeline, for people.
        page: exists once the training has written all: whatever becomes of the job then, it is done.

    Raises:
        PipelineError: it failed, or somebody deleted it.
    """
    logs = f"kubectl -n {jobs.namespace} logs -f -l jobset.sigs.k8s.io/jobset-name={name} --prefix"
    say(f"{task}: TrainJob {name}; what its pods say: {logs}")
    shown = words = ""
    while True:
        if (job := jobs.get(name)) is None:
            raise PipelineError(f"the TrainJob `{name}` was deleted by somebody else before it ended")
        held = conditions(job)
        if "Failed" in held and not page.exists():
            words = _words(jobs, name, words)
            raise PipelineError(f"the TrainJob `{name}` failed ({held['Failed']})\n{words or 'no pod of it is left'}")
        if (state := _state(job, held)) != shown:
            say(f"{task}: {state}")
            shown = state
        if "Complete" in held or page.exists():
            return
        words = _words(jobs, name, words)
        time.sleep(jobs.pause)


def _words(jobs: TrainJobs, name: str, before: str) -> str:
    """A job's last words, or those it had before: Kubernetes removes the pods of a job that failed too often."""
    try:
        return jobs.last_words(name) or before
    except ClusterError as error:
        return before or f"its pods' logs are lost: {error}"


def _state(job: Job, held: Mapping[str, str]) -> str:
    """In words."""
    if "Complete" in held:
        return "complete"
    if "Suspended" in held:
        return f"waits ({held['Suspended']})"
    parts = (job.status.jobs_status if job.status else None) or []
    return "runs" if any(part.ready for part in parts) else "waits for its pods"


def _running(jobs: TrainJobs, name: str) -> Job | None:
    """The job of an earlier attempt, if it can still succeed; one that cannot is removed first."""
    job = jobs.get(name)
    if job is not None and ("Failed" in conditions(job) or job.metadata.deletion_timestamp):
        jobs.delete(name)
        jobs.await_gone(name)
        return None
    return job


@contextmanager
def _stopped_with(jobs: TrainJobs, name: str) -> Iterator[None]:
    """Delete the job when the block ends; at once, and without waiting for anything, where this pod is told to end."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, stop)
    patient = True
    try:
        yield
    except SystemExit:
        patient = False
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        with suppress(ClusterError):  # it has its own time limit, and what went wrong before says more
            jobs.delete(name, patient=patient)
