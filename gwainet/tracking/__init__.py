"""MLflow, behind one door: nothing outside this package imports it.

Importing this module is cheap; MLflow itself (seconds) is imported when a stage starts.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from gwainet.errors import TrackingError
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.tracking.execution import Task, experiment_name, is_default_store, shown, tracking_uri

__all__ = ["Task", "open_execution", "page", "serve", "stage_run", "where"]

TRAINING_PAGES = "workflowType=machine_learning"  # an address without it opens MLflow's pages for language models

# Read by MLflow when it is imported, which this package's other modules do: they must be set before. A user's own win.
for _name, _value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # MLflow waits up to 4 minutes for a dead server, in every call; our own outbox tries again instead
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}.items():
    os.environ.setdefault(_name, _value)


LOOPBACK = ("localhost", "127.0.0.1")  # names by which a browser, perhaps through a tunnel, asks for `serve`


def stage_run(task: Task) -> AbstractContextManager[Recorder]:
    """Track one stage: a child run of the pipeline execution's run, closed with the stage's own end.

    Raises:
        TrackingError: the server or the database cannot be used (at the start alone: later nothing stops a training).
    """
    from gwainet.tracking import runs

    return runs.stage_run(task)


def where(root: Path) -> str:
    """One line on where to look at the runs."""
    uri = tracking_uri(root)
    if is_default_store():
        return f"MLflow: `make ui` shows the runs of experiment {experiment_name()} ({shown(uri)})"
    page = f"{shown(uri).rstrip('/')}/#/experiments" if uri.startswith("http") else shown(uri)
    return f"MLflow: {page}, experiment {experiment_name()} (MLFLOW_TRACKING_URI)"


def page(recorder: Recorder, root: Path) -> str:
    """Where to look at the run that a recorder of `stage_run` belongs to: an address, if a server keeps it."""
    from gwainet.tracking.runs import RunRecorder

    return _page(root, recorder.experiment_id, recorder.run_id) if isinstance(recorder, RunRecorder) else where(root)


def _page(root: Path, experiment: str, run: str) -> str:
    """GWAINET_MLFLOW_PAGES is the server's address for people, where that is not the one that programs use."""
    uri = os.environ.get("GWAINET_MLFLOW_PAGES") or shown(tracking_uri(root))
    if not uri.startswith("http"):
        return where(root)
    return f"{uri.rstrip('/')}/#/experiments/{experiment}/runs/{run}?{TRAINING_PAGES}"


def open_execution(root: Path, key: str, name: str, tags: Mapping[str, str], params: Params | None) -> str:
    """Make the run of an execution before its stages start elsewhere, and say where to look at it.

    Raises:
        TrackingError: the server cannot be used.
    """
    from gwainet.tracking import runs

    return _page(root, *runs.open_execution(root, key, name, tags, params))


def serve(root: Path, port: int) -> None:
    """Replace this process by MLflow's server on 127.0.0.1, showing the runs of `root` (or of MLFLOW_TRACKING_URI).

    Raises:
        TrackingError: there are no runs yet, or the runs lie on a server that has pages of its own.
    """
    uri = tracking_uri(root)
    if uri.startswith("http"):
        raise TrackingError(f"the runs are on {shown(uri)}: open that in a browser")
    if is_default_store() and not (root / "mlflow.db").exists():
        raise TrackingError("there are no runs yet: `make repro` makes them")
    # without the workers of MLflow's job queue, which nothing here uses: 1 process in place of 9
    os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
    # MLflow's own default takes names such as 10.example.com for addresses of a private network
    os.environ.setdefault("MLFLOW_SERVER_ALLOWED_HOSTS", ",".join(f"{host},{host}:*" for host in LOOPBACK))
    os.environ["MLFLOW_BACKEND_STORE_URI"] = uri  # it may hold a password: everybody sees a process's arguments
    page = f"http://127.0.0.1:{port}/#/experiments?{TRAINING_PAGES}"
    print(f"MLflow: {page}  (Ctrl-C ends it)", flush=True)
    arguments = ["server", "--host", "127.0.0.1", "--port", str(port)]
    os.execv(sys.executable, [sys.executable, "-m", "mlflow", *arguments])  # noqa: S606
