"""Tracked stages and their runs, for tests."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from gwainet.params import Params
from gwainet.tracking import Task, runs

PARAMS = Params(profile="demo")

# How to take the store of a root away for a while, where it is not the root's mlflow.db.
AWAY: dict[Path, Callable[[], AbstractContextManager[None]]] = {}


def stage(
    root: Path,
    name: str = "train_psnr",
    variant: str | None = "guided",
    params: Params = PARAMS,
    inputs: dict[str, Path] | None = None,
    out: Path | None = None,
) -> AbstractContextManager[runs.RunRecorder]:
    return runs.stage_run(Task(name, variant, params, (name,), root, inputs or {}, out or root / "out"))


def all_runs(client: MlflowClient) -> list[Run]:
    """Oldest first."""
    experiment = client.get_experiment_by_name("gwainet")
    return list(client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]))


def parents(client: MlflowClient) -> list[Run]:
    return [run for run in all_runs(client) if run.data.tags.get("gwainet.kind") == "pipeline"]


def children(client: MlflowClient) -> list[Run]:
    return [run for run in all_runs(client) if run.data.tags.get("gwainet.kind") == "stage"]


def wait_for(holds: Callable[[], object], seconds: float = 30) -> None:
    """Until something is so that another thread or process brings about."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@contextmanager
def store_away(root: Path) -> Iterator[None]:
    """The database fails every write of a metric, param or tag: its tables, or all of it, are gone for a while."""
    if root in AWAY:
        with AWAY[root]():
            yield
        return
    tables = ("metrics", "params", "tags")
    with sqlite3.connect(root / "mlflow.db") as database:
        for table in tables:
            database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        with sqlite3.connect(root / "mlflow.db") as database:
            for table in tables:
                database.execute(f"ALTER TABLE {table}_away RENAME TO {table}")
