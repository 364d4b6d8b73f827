"""Parent and stage runs: one run per execution of the pipeline, a child run per stage, found across processes."""

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Literal, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

from gwainet.errors import TrackingError
from gwainet.files import say_bytes
from gwainet.params import Params
from gwainet.progress import say
from gwainet.tracking.earlier import earlier_text
from gwainet.tracking.execution import (
    ABSENT,
    INPUT,
    OUTPUT,
    CodeVersion,
    Task,
    code_version,
    data_digest,
    experiment_name,
    is_gone,
    output_digests,
    params_digest,
    pipeline_key,
    shown,
    this_process,
    tracking_uri,
    user,
)
from gwainet.tracking.outbox import Outbox, Parcel, brief, is_refusal, now_ms

# what matters is raised, and reported by us in one line: MLflow would print the whole traceback before
logging.getLogger("mlflow").setLevel(logging.CRITICAL)
logging.getLogger("alembic").setLevel(logging.CRITICAL)

Status = Literal["FINISHED", "FAILED", "KILLED"]

T = TypeVar("T")

LONGEST_PARAM = 6000  # MLflow's limits
LONGEST_TAG = 8000
SHOWN_DIGITS = 12  # of a data set's digest: MLflow's table cuts off more, and what the data were used for with it
PARAMS_IN_A_CALL = 100
NAME = re.compile(r"^[A-Za-z0-9_\-./ ]+$")


class Terminated(SystemExit):
    """SIGTERM, as an exception: the stage's blocks end properly, and the process with the shell's code for it."""

    def __init__(self) -> None:
        super().__init__(128 + signal.SIGTERM)


class RunRecorder:
    """Sends what a stage reports to its MLflow run.

    Attributes:
        client: of the server.
        run_id: of the stage's run.
        experiment_id: of the run's experiment.
        code: the commit that runs.
    """

    def __init__(
        self, client: MlflowClient, run: Run, name: str, root: Path, source: Path, code: CodeVersion, parent: str | None
    ) -> None:
        self.client, self.code = client, code
        self.run_id: str = run.info.run_id
        self.experiment_id: str = run.info.experiment_id
        self._name, self._source, self._parent = name, source, parent
        self._unsent = root / ".gwainet" / "unsent"
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true").lower() not in ("false", "0")
        self._outbox = Outbox(client, self.run_id, shown(client.tracking_uri), wanted)

    def params(self, values: Mapping[str, object]) -> None:
        """Record settings under flat dotted names."""
        for block in _blocks([Param(_checked(key), _param(value)) for key, value in values.items()]):
            self._send(
                {"params": {param.key: param.value for param in block}},
                partial(self.client.log_batch, self.run_id, params=block),
            )

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at a step; they are sent in blocks."""
        now = now_ms()
        self._outbox.add([Metric(_checked(key), float(value), now, step) for key, value in values.items()])

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        """Record a picture; the same name at later steps makes a series."""
        key, copy = _checked(name), picture.copy()

        def keep() -> dict[str, object]:
            path = self._unsent / self.run_id / "pictures" / f"{key.replace('/', '~')}-{step}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            copy.save(path)
            return {"file": str(path)}

        self._outbox.put(
            Parcel(
                {"picture": key, "step": step},
                lambda: self.client.log_image(self.run_id, copy, key=key, step=step),
                keep=keep,
            )
        )

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file, or a directory with all in it, under `folder`: at once, as the stage may move it next."""
        if not path.exists():
            raise TrackingError(f"{path} does not exist, so it cannot be logged to MLflow")
        if not self._outbox.away:
            try:
                log_artifact(self.client, self.run_id, path, folder)
            except Exception as error:  # noqa: BLE001  any error of any artifact store: kept, tried again, reported
                self._outbox.failed(error)
            else:
                return
        place = self._unsent / self.run_id / "artifacts" / (folder or ".")
        place.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            copy = place
            shutil.copytree(path, place, dirs_exist_ok=True)
        else:
            copy = place / path.name
            shutil.copy2(path, copy)
        self._outbox.put(
            Parcel(
                {"artifact": str(copy), "folder": folder},
                lambda: log_artifact(self.client, self.run_id, copy, folder),
            )
        )

    def tags(self, values: Mapping[str, str]) -> None:
        """Record facts to search by."""
        tags = [RunTag(_checked(key), str(value)[:LONGEST_TAG]) for key, value in values.items()]
        for block in _blocks(tags):
            self._send(
                {"tags": {tag.key: tag.value for tag in block}},
                partial(self.client.log_batch, self.run_id, tags=block),
            )

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        """Record which data were used."""
        data = {
            "name": name,
            "digest": digest[:SHOWN_DIGITS],
            "source_type": "local",
            "source": json.dumps({"uri": str(self._source)}),
            "profile": json.dumps({"digest": digest, **profile}, default=str),
        }
        used = data_used(data, context)
        self._send({"dataset": data, "context": context}, lambda: self.client.log_inputs(self.run_id, datasets=[used]))

    def earlier(self, name: str) -> str | None:
        """Text of a file of the last good run of this stage and profile on other inputs."""
        return earlier_text(self.client, self.run_id, name)

    def finish(self, status: Status, out: Path, error: BaseException | None = None) -> None:
        """Send the rest and close the run; whatever goes wrong here is said, and the stage's own end stands."""
        if error is None:
            self.tags(output_digests(out))
        else:
            self.tags({"gwainet.error": "".join(traceback.format_exception(error, limit=-3))[-LONGEST_TAG:]})
        if self._parent is not None:
            now = now_ms()
            end = partial(close_run, self.client, self.run_id, status, now)
            self._outbox.put(Parcel({"status": status, "end_time": now}, end))
        folder = self._unsent / self.run_id
        if self._outbox.close(patient=status != "KILLED"):
            shutil.rmtree(folder, ignore_errors=True)
            return
        path = folder.with_suffix(".json")
        server = shown(self.client.tracking_uri)
        self._outbox.write_unsent(path, {"run_id": self.run_id, "name": self._name, "server": server, "status": status})
        problem = self._outbox.problem or "it refused some"
        say(
            f"MLflow at {server} did not take everything of {self._name} ({problem}). What it lacks is in {path}, "
            "which `python -m gwainet send-unsent` sends; the stage's own files do not depend on it"
        )

    def _send(self, about: dict[str, object], send: Callable[[], object]) -> None:
        self._outbox.put(Parcel(about, send))
        self._outbox.hurry()


def close_run(client: MlflowClient, run_id: str, status: Status, end_time: int) -> None:
    """Set a stage's and its execution's status, and the stage's last metrics on the execution's run.

    Args:
        client: of the server.
        run_id: of the stage's run, which has all its metrics.
        status: of the stage.
        end_time: of the stage, Unix time in milliseconds.
    """
    client.set_terminated(run_id, status, end_time)
    run = client.get_run(run_id)
    if _superseded(run):  # the same stage runs, or ran, again in this execution: that run speaks for it
        return
    parent, stage, variant = (run.data.tags[tag] for tag in ("mlflow.parentRunId", "gwainet.stage", "gwainet.variant"))
    if status == "FINISHED":
        prefix = f"{stage}.{variant}." if variant else f"{stage}."
        last = {key: value for key, value in run.data.metrics.items() if not key.startswith("system/")}
        for block in _blocks([Metric(prefix + key, value, end_time, 0) for key, value in last.items()]):
            client.log_batch(parent, metrics=block)
    siblings = [other for other in _stages(client, run.info.experiment_id, parent) if not _superseded(other)]
    statuses = {other.info.status for other in siblings if other.info.run_id != run_id}
    if status != "FINISHED":
        client.set_terminated(parent, status, end_time)
    elif "FAILED" in statuses:
        client.set_terminated(parent, "FAILED", end_time)
    elif "RUNNING" not in statuses:  # stages may run at the same time
        client.set_terminated(parent, "FINISHED", end_time)


@contextmanager
def stage_run(task: Task) -> Iterator[RunRecorder]:
    """Track one stage; see `gwainet.tracking.stage_run`."""
    with _sigterm_raises():
        recorder = _start(task)
        try:
            yield recorder
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, Terminated))
            recorder.finish("KILLED" if stopped else "FAILED", task.out, error)
            raise
        recorder.finish("FINISHED", task.out)


def connect(root: Path) -> tuple[MlflowClient, str]:
    """A client and the id of the experiment, which is made if it does not exist.

    Raises:
        TrackingError: the server or the database cannot be used.
    """
    uri = tracking_uri(root)
    adopted = os.environ.get("MLFLOW_RUN_ID")
    try:
        with locked(uri):
            client = MlflowClient(uri)
            if adopted:
                return client, client.get_run(adopted).info.experiment_id
            name = experiment_name()
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                try:
                    return client, client.create_experiment(name, artifact_location=_artifacts(uri))
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                experiment = client.get_experiment_by_name(name)  # another machine was faster
    except Exception as error:
        raise TrackingError(_cannot_use(uri, root, error)) from error
    if experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name} at {shown(uri)} is deleted: restore it with "
            f"`mlflow experiments restore -x {experiment.experiment_id}`, or set MLFLOW_EXPERIMENT_NAME to another name"
        )
    _check_place(uri, experiment.artifact_location)
    return client, experiment.experiment_id


@contextmanager
def locked(uri: str) -> Iterator[None]:
    """Keep other processes of this machine away from a SQLite store: opening a new one twice at once breaks it."""
    database = _database(uri)
    if database is None:
        yield
        return
    database.parent.mkdir(parents=True, exist_ok=True)
    with database.with_name(f"{database.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _start(task: Task) -> RunRecorder:
    root, params = task.root.resolve(), task.params
    code = code_version(Path.cwd())
    client, experiment = connect(root)
    try:
        about = {
            "gwainet.stage": task.stage,
            "gwainet.variant": task.variant or "",
            **_code_tags(code),
            **_facts(params),
            **_inputs(client, experiment, task.inputs),
        }
        if adopted := os.environ.get("MLFLOW_RUN_ID"):
            run, parent = client.get_run(adopted), None
        else:
            key, name = pipeline_key(params, code), f"{params.profile} {os.environ.get('DVC_EXP_NAME') or code}"
            facts = {**_origin("gwainet"), **_code_tags(code), **_facts(params)}
            with locked(client.tracking_uri):
                _close_abandoned(client, experiment, root)
                parent = _parent(client, experiment, key, name, facts)
                _supersede(client, experiment, parent, task.name)
            _share(client, parent, facts, params, task.sections)
            own = {
                **_origin(f"gwainet {task.name}"),
                "gwainet.process": this_process(),
                "mlflow.parentRunId": parent,
                "gwainet.kind": "stage",
            }
            run = client.create_run(experiment, run_name=task.name, tags={**own, **about})
    except MlflowException as error:
        raise TrackingError(_cannot_use(client.tracking_uri, root, error)) from error
    recorder = RunRecorder(client, run, task.name, root, task.inputs.get("faces", task.out), code, parent)
    if adopted:
        recorder.tags(about)
    recorder.params(params.flat(task.sections))
    return recorder


def _facts(params: Params) -> dict[str, str]:
    """What all runs of an execution have in common."""
    return {"gwainet.profile": params.profile, "gwainet.params_digest": params_digest(params)}


def _code_tags(code: CodeVersion) -> dict[str, str]:
    """The code that runs, for MLflow's page and for searches."""
    dirty = {"gwainet.changes": code.changes} if code.changes else {}
    return {
        "mlflow.source.git.commit": code.commit,
        "gwainet.commit": code.commit,
        "gwainet.dirty": str(bool(code.changes)).lower(),
        **dirty,
    }


def _inputs(client: MlflowClient, experiment: str, inputs: Mapping[str, Path]) -> dict[str, str]:
    """The digest of each input, and the latest run that wrote just that, or wrote it as a file among others."""
    tags = {}
    for name, path in inputs.items():
        tags[f"{INPUT}{name}"] = digest = data_digest(path)
        for written in ("gwainet.output_digest", f"{OUTPUT}{path.name}") if digest != ABSENT else ():
            makers = client.search_runs(
                [experiment],
                f"tags.`{written}` = '{digest}'",
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
            if makers:
                tags[f"{INPUT}{name}.run"] = makers[0].info.run_id
                break
    return tags


def open_execution(root: Path, key: str, name: str, tags: Mapping[str, str], params: Params | None) -> tuple[str, str]:
    """Make the run of an execution whose stages run elsewhere and later; they find it by the key.

    Args:
        root: the project's root.
        key: as `pipeline_key` gives it in the stages' processes.
        name: of the run, if it is new.
        tags: facts about the execution.
        params: of the profile, if they are known.

    Returns:
        The ids of the experiment and of the run.

    Raises:
        TrackingError: the server cannot be used.
    """
    client, experiment = connect(root)
    try:
        facts = {**_origin("pipeline submit"), **tags, **({} if params is None else _facts(params))}
        with locked(client.tracking_uri):
            parent = _parent(client, experiment, key, name, facts, status="SCHEDULED")
        _share(client, parent, facts, params)
    except MlflowException as error:
        raise TrackingError(_cannot_use(client.tracking_uri, root, error)) from error
    return experiment, parent


def _parent(
    client: MlflowClient, experiment: str, key: str, name: str, tags: Mapping[str, str], status: str = "RUNNING"
) -> str:
    """The run of an execution of the pipeline: found by its key, else made.

    No server has a lock to offer: of several the oldest is the one, and whoever made another one removes it. Clocks
    differ between machines, so that two may each take their own for the oldest: the next that comes joins them.
    """
    quote = '"' if "'" in key else "'"
    wanted = f"tags.`gwainet.pipeline_key` = {quote}{key}{quote} and tags.`gwainet.kind` = 'pipeline'"

    def all_of_it() -> list[Run]:
        return sorted(client.search_runs([experiment], wanted), key=lambda run: (run.info.start_time, run.info.run_id))

    found = all_of_it()
    for other in found[1:]:
        for child in _stages(client, experiment, other.info.run_id):
            client.set_tag(child.info.run_id, "mlflow.parentRunId", found[0].info.run_id)
        _remove(client, other.info.run_id)
    if not found:
        made = client.create_run(
            experiment, run_name=name, tags={**tags, "gwainet.kind": "pipeline", "gwainet.pipeline_key": key}
        )
        found = all_of_it() or [made]
        if found[0].info.run_id != made.info.run_id:
            _remove(client, made.info.run_id)
        elif status != "RUNNING":
            client.update_run(made.info.run_id, status=status)
    parent: str = found[0].info.run_id
    if status == "RUNNING" and found[0].info.status != "RUNNING":
        client.update_run(parent, status="RUNNING")
    return parent


def _remove(client: MlflowClient, run_id: str) -> None:
    """Delete a run that another stage, which starts at this moment, may just have deleted."""
    try:
        client.delete_run(run_id)
    except MlflowException:
        if client.get_run(run_id).info.lifecycle_stage == "active":
            raise


def _share(
    client: MlflowClient, parent: str, facts: Mapping[str, str], params: Params | None, sections: Sequence[str] = ()
) -> None:
    """Facts and params on the execution's run too: the page shows and compares those runs, with the stages folded away.

    All params, so that two executions can be compared whatever was skipped; a pod knows those of its stage alone.
    """
    values: dict[str, object] = {}
    if params is not None:
        whole = [name for name in type(params).model_fields if name not in ("profile", "runtime")]
        shared = whole if params.digest() == params_digest(params) else sections
        values = {"profile": params.profile, **params.flat(shared)}
    before = -1
    while True:
        known = client.get_run(parent).data
        tags = [RunTag(key, value) for key, value in facts.items() if key not in known.tags]
        new = [Param(key, _param(value)) for key, value in values.items() if key not in known.params]  # none can change
        try:
            if tags:
                client.log_batch(parent, tags=tags)
            for block in _blocks(new):
                client.log_batch(parent, params=block)
        except MlflowException as error:
            # PostgreSQL refuses a block of which another stage, which starts at this moment, wrote a part
            left = len(tags) + len(new)
            if not is_refusal(error) or left == before:
                raise
            before = left
        else:
            return


def _close_abandoned(client: MlflowClient, experiment: str, root: Path) -> None:
    """Mark runs of this machine as killed whose process is gone: after SIGKILL nobody was left to do it."""
    wanted = f"attributes.status = 'RUNNING' and tags.`gwainet.host` = '{socket.gethostname()}'"
    for run in client.search_runs([experiment], f"{wanted} and tags.`gwainet.kind` = 'stage'"):
        unsent = root / ".gwainet" / "unsent" / f"{run.info.run_id}.json"  # it ended well, the server does not know yet
        if is_gone(run.data.tags.get("gwainet.process", "")) and not unsent.exists():
            close_run(client, run.info.run_id, "KILLED", now_ms())
            say(f"the earlier run {run.info.run_name} ({run.info.run_id}) had been killed: MLflow knows it now")


def _supersede(client: MlflowClient, experiment: str, parent: str, name: str) -> None:
    """Mark earlier runs of the same stage in this execution: one of them was killed, or its result was thrown away."""
    for run in _stages(client, experiment, parent):
        if run.info.run_name == name and not _superseded(run):
            client.set_tag(run.info.run_id, "gwainet.superseded", "true")
            if run.info.status == "RUNNING":
                client.set_terminated(run.info.run_id, "KILLED")


def _stages(client: MlflowClient, experiment: str, parent: str) -> list[Run]:
    found: list[Run] = client.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{parent}'")
    return found


def _superseded(run: Run) -> bool:
    return bool(run.data.tags.get("gwainet.superseded") == "true")


def _origin(source: str) -> dict[str, str]:
    """The tags that MLflow's page shows as user and source, and the machine."""
    return {
        "mlflow.user": user(),
        "mlflow.source.name": source,
        "mlflow.source.type": "LOCAL",
        "gwainet.host": socket.gethostname(),
    }


def _database(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _artifacts(uri: str) -> str | None:
    """Where a new experiment's files go: beside a SQLite file, or wherever the server says."""
    database = _database(uri)
    return None if database is None else (database.resolve().parent / "mlruns").as_uri()


def _check_place(uri: str, location: str) -> None:
    expected = _artifacts(uri)
    if expected is None or location == expected or not location.startswith("file:///"):
        return
    if not Path(location.removeprefix("file://")).exists():
        raise TrackingError(
            f"{shown(uri)} keeps its files in {location}, which does not exist: was the project moved? Move it back, "
            "or delete mlflow.db to start a new history, or set MLFLOW_EXPERIMENT_NAME to a new name"
        )


def _cannot_use(uri: str, root: Path, error: Exception) -> str:
    database = _database(uri)
    if database is not None:
        if "disk is full" in str(error):  # SQLite's words
            free = say_bytes(shutil.disk_usage(database.resolve().parent).free)
            return f"the disk is full: {database} cannot be written ({free} free there): make room, then run it again"
        return (
            f"cannot use the MLflow database {shown(uri)}: {brief(error)}. If another version of MLflow wrote it, run "
            f"`mlflow db upgrade {shown(uri)}`; else move it away"
        )
    return (
        f"cannot use the MLflow server {shown(uri)} (MLFLOW_TRACKING_URI): {brief(error)}. Start it, correct its "
        f"address or the credentials, or unset MLFLOW_TRACKING_URI to track in {root / 'mlflow.db'}"
    )


def data_used(data: Mapping[str, str], context: str) -> DatasetInput:
    """MLflow's record of a data set and of what it was used for."""
    return DatasetInput(Dataset(**data), [InputTag("mlflow.data.context", context)])


def log_artifact(client: MlflowClient, run_id: str, path: Path, folder: str) -> None:
    """Send a file, or a directory with all in it."""
    if path.is_dir():
        client.log_artifacts(run_id, str(path), folder or None)
    else:
        client.log_artifact(run_id, str(path), folder or None)


def _checked(name: str) -> str:
    if not NAME.match(name):
        raise TrackingError(f"MLflow takes no name like {name!r}: letters, digits and _ - . / and spaces alone")
    return name


def flat_params(values: Mapping[str, object]) -> dict[str, str]:
    """Params as MLflow keeps them: text."""
    return {key: _param(value) for key, value in values.items()}


def _param(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_PARAM else f"{text[: LONGEST_PARAM - 3]}..."


def _blocks(values: Sequence[T]) -> list[Sequence[T]]:
    return [values[start : start + PARAMS_IN_A_CALL] for start in range(0, len(values), PARAMS_IN_A_CALL)]


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Turn SIGTERM into `Terminated`, unless somebody handles it already."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise Terminated

    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
