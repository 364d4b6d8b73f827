"""Kubeflow Pipelines' v2beta1 API: what this project asks of it, typed, with an error for everything that goes wrong.

`kfp_server_api`, the generated client, and not `kfp.Client` around it: without a host that one talks to
http://localhost, it asks a dead server five times before it can be used, waits for ever for a run that was cancelled,
and prints where only results belong.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import kfp_server_api as api
from urllib3 import Retry
from urllib3.exceptions import HTTPError, SSLError

from gwainet.errors import ClusterError, ConflictError, LoginError, NotFoundError, UnavailableError
from pipeline.login import HOW_TO_LOG_IN, Login

CONNECT_SECONDS, READ_SECONDS = 10, 60
NEWEST = "created_at desc"
PAGE = 100

ENDED = frozenset({"SUCCEEDED", "SKIPPED", "FAILED", "CANCELED"})
# of the parts of one stage (a loop's rounds, a driver and its container) the first of these is the stage's state
_GRAVEST = ("FAILED", "CANCELED", "CANCELING", "RUNNING", "PAUSED", "PENDING", "SUCCEEDED", "SKIPPED")


@dataclass(frozen=True)
class Version:
    """A version of the pipeline on the cluster; `document` is its spec as the server gives it."""

    pipeline_id: str
    version_id: str
    name: str
    created: datetime | None
    document: object = field(repr=False)


@dataclass(frozen=True)
class Task:
    """A node of a run's graph, as the server reports it."""

    name: str
    state: str
    started: datetime | None
    ended: datetime | None
    error: str


@dataclass(frozen=True)
class Run:
    """One run, as it is now."""

    run_id: str
    name: str
    state: str
    created: datetime | None
    error: str
    tasks: tuple[Task, ...]
    pipeline_id: str
    version_id: str
    document: object = field(repr=False)

    @property
    def ended(self) -> bool:
        """Whether its state is its last one."""
        return self.state in ENDED

    def stage(self, name: str, title: str = "") -> Task:
        """The state of one stage, put together from the nodes that Kubeflow makes of it.

        A stage is a node of its name with a driver's and an executor's below it; the driver comes first and can fail
        by itself (a secret or a volume that is not there).

        Args:
            name: of the task.
            title: the name that people read, if it is another one; servers have used either for the node.
        """
        title = title or name
        drivers = {f"{name}-driver", f"{title}-driver"}
        nodes = [task for task in self.tasks if task.name in (name, title)]
        nodes = nodes or [task for task in self.tasks if task.name in drivers and task.state != "SUCCEEDED"]
        states = {task.state for task in nodes}
        nothing = "NOT RUN" if self.ended else "WAITING"
        return Task(
            title,
            next((state for state in _GRAVEST if state in states), nothing),
            min((task.started for task in nodes if task.started), default=None),
            max((task.ended for task in nodes if task.ended), default=None)
            if all(task.ended for task in nodes)
            else None,
            next((task.error for task in nodes if task.error), ""),
        )


@dataclass(frozen=True)
class Schedule:
    """A recurring run."""

    schedule_id: str
    name: str
    cron: str
    enabled: bool
    created: datetime | None


class _Client(api.ApiClient):  # type: ignore[misc]  # generated, without types
    """The generated client, which takes any answer: a page to log in would become an object without values."""

    def deserialize(self, response: Any, response_type: str) -> Any:  # noqa: ANN401 - as generated
        try:
            json.loads(response.data)
        except ValueError:
            kind = response.getheader("content-type") or "no type"
            raise _NotJsonError(kind) from None
        return super().deserialize(response, response_type)


class _NotJsonError(Exception):
    """An answer that is not the API's; the argument is its content type."""


class Pipelines:
    """One Kubeflow Pipelines, logged in.

    Every method raises ClusterError (LoginError, UnavailableError, NotFoundError, ConflictError): what was tried, what
    the server said, and what to do.
    """

    def __init__(self, login: Login, *, read_seconds: int = READ_SECONDS) -> None:
        """Ask the server once whether it is there and has many users.

        Args:
            login: where and who.
            read_seconds: how long to wait for an answer.
        """
        self.login = login
        configuration = api.Configuration(host=login.endpoint)
        # a redirection leads to a page to log in: that is an answer, and a request with a body must not follow it
        configuration.retries = Retry(connect=2, read=0, redirect=False, status=0, other=0, backoff_factor=0.5)
        configuration.ssl_ca_cert = str(login.ca_cert) if login.ca_cert else None
        if login.bearer():
            configuration.api_key_prefix["authorization"] = "Bearer"
            configuration.api_key["authorization"] = login.bearer()
            configuration.refresh_api_key_hook = self._renew
        self._client = _Client(configuration, cookie=login.cookie or None)
        # integers: the generated client ignores a float
        self._timeout = (CONNECT_SECONDS, read_seconds)
        self._pipelines = api.PipelineServiceApi(self._client)
        self._experiments = api.ExperimentServiceApi(self._client)
        self._runs = api.RunServiceApi(self._client)
        self._recurring = api.RecurringRunServiceApi(self._client)
        self._uploads = api.PipelineUploadServiceApi(self._client)
        self.namespace = self._find_namespace()

    def _renew(self, configuration: Any) -> None:  # noqa: ANN401 - generated, without types
        """Kubernetes renews a service account's token in its file."""
        configuration.api_key["authorization"] = self.login.bearer()

    def _find_namespace(self) -> str:
        """The namespace to name in requests: empty where Kubeflow has one user, and refuses to be given any."""
        health = self._call("reach Kubeflow Pipelines", api.HealthzServiceApi(self._client).healthz_service_get_healthz)
        if not health.multi_user:
            return ""
        if not self.login.namespace:
            raise LoginError(
                f"Kubeflow at {self.login.endpoint} has many users: give --namespace (or KFP_NAMESPACE), "
                "that of your profile"
            )
        return self.login.namespace

    # ---------------------------------------------------------------- the pipeline and its versions

    def pipeline_id(self, name: str) -> str | None:
        """The id of a pipeline, None if there is none of that name."""
        found = self._call(
            f"look for the pipeline `{name}`",
            self._pipelines.pipeline_service_list_pipelines,
            filter=_named(name),
            **self._in_namespace(),
        )
        return str(found.pipelines[0].pipeline_id) if found.pipelines else None

    def create_pipeline(self, name: str) -> str:
        """Make a pipeline without versions and give its id; another's that came first is as good."""
        body = api.V2beta1Pipeline(display_name=name, description="GWAInet: photos to a registered model")
        body.namespace = self.namespace or None
        try:
            made = self._call(f"create the pipeline `{name}`", self._pipelines.pipeline_service_create_pipeline, body)
        except ConflictError:
            if (found := self.pipeline_id(name)) is None:
                raise
            return found
        return str(made.pipeline_id)

    def upload(self, package: Path, pipeline: str, name: str) -> tuple[Version, bool]:
        """Upload a package as a version, making the pipeline if there is none.

        The name must follow from the package's content: a version of that name that is there already is taken as it is.

        Returns:
            The version, and whether it is new.
        """
        pipeline_id = self.pipeline_id(pipeline) or self.create_pipeline(pipeline)
        try:
            made = self._call(
                f"upload the version `{name}`",
                self._uploads.upload_pipeline_version,
                str(package),
                name=name,
                pipelineid=pipeline_id,
            )
        except ConflictError:
            found = self._versions(pipeline_id, filter=_named(name))
            if not found:
                raise
            return found[0], False
        return _version(made), True

    def newest_version(self, pipeline: str) -> Version:
        """The version of a pipeline that was made last."""
        pipeline_id = self.pipeline_id(pipeline)
        versions = self._versions(pipeline_id, sort_by=NEWEST, page_size=1) if pipeline_id else []
        if not versions:
            raise NotFoundError(
                f"there is no version of the pipeline `{pipeline}` on the cluster yet: submit one first"
            )
        return versions[0]

    def version(self, pipeline_id: str, version_id: str) -> Version:
        """A version by its id."""
        get = self._pipelines.pipeline_service_get_pipeline_version
        return _version(self._call("read the run's version of the pipeline", get, pipeline_id, version_id))

    def _versions(self, pipeline_id: str, **arguments: object) -> list[Version]:
        listed = self._call(
            "list the pipeline's versions",
            self._pipelines.pipeline_service_list_pipeline_versions,
            pipeline_id,
            **arguments,
        )
        return [_version(version) for version in listed.pipeline_versions or []]

    # ---------------------------------------------------------------- experiments and runs

    def experiment_id(self, name: str) -> str | None:
        """The id of an experiment, None if there is none of that name."""
        found = self._call(
            f"look for the experiment `{name}`",
            self._experiments.experiment_service_list_experiments,
            filter=_named(name),
            **self._in_namespace(),
        )
        return str(found.experiments[0].experiment_id) if found.experiments else None

    def open_experiment(self, name: str) -> str:
        """The id of an experiment, which is made if there is none of that name."""
        if (found := self.experiment_id(name)) is not None:
            return found
        body = api.V2beta1Experiment(display_name=name, namespace=self.namespace or None)
        create = self._experiments.experiment_service_create_experiment
        return str(self._call(f"create the experiment `{name}`", create, body).experiment_id)

    def start(self, version: Version, experiment: str, name: str) -> str:
        """Start a run of a version in an experiment and give its id."""
        body = api.V2beta1Run(
            display_name=name,
            experiment_id=self.open_experiment(experiment),
            pipeline_version_reference=_reference(version),
            runtime_config=api.V2beta1RuntimeConfig(parameters={}),
        )
        with _perhaps_done("the run", "`python -m pipeline status latest`"):
            return str(self._call(f"start the run `{name}`", self._runs.run_service_create_run, body).run_id)

    def run(self, run_id: str) -> Run:
        """A run as it is now."""
        return _run(self._call(f"read the run `{run_id}`", self._runs.run_service_get_run, run_id))

    def latest_run(self, experiment: str) -> Run:
        """The run of an experiment that was made last."""
        if (experiment_id := self.experiment_id(experiment)) is None:
            raise NotFoundError(
                f"there is no experiment `{experiment}` on the cluster: give --experiment, or a run's id"
            )
        listed = self._call(
            f"list the runs of the experiment `{experiment}`",
            self._runs.run_service_list_runs,
            experiment_id=experiment_id,
            sort_by=NEWEST,
            page_size=1,
        )
        if not listed.runs:
            raise NotFoundError(f"there is no run in the experiment `{experiment}` yet")
        return self.run(listed.runs[0].run_id)  # a list comes without the tasks' details

    def run_page(self, run_id: str) -> str:
        """The address of a run's web page."""
        return f"{self.login.pages}/#/runs/details/{run_id}"

    # ---------------------------------------------------------------- recurring runs

    def create_schedule(self, version: Version, experiment: str, name: str, cron: str) -> str:
        """Run a version again and again and give the schedule's id.

        One run at a time, and none to catch up after a pause: two trainings of the same data help nobody.
        """
        if any(schedule.name == name for schedule in self.schedules()):
            raise ConflictError(
                f"there is a schedule `{name}` already: `python -m pipeline schedule --delete {name}` removes it, "
                "or give another --name"
            )
        body = api.V2beta1RecurringRun(
            display_name=name,
            experiment_id=self.open_experiment(experiment),
            namespace=self.namespace or None,
            pipeline_version_reference=_reference(version),
            runtime_config=api.V2beta1RuntimeConfig(parameters={}),
            trigger=api.V2beta1Trigger(cron_schedule=api.V2beta1CronSchedule(cron=cron)),
            mode=api.RecurringRunMode.ENABLE,
            max_concurrency="1",
            no_catchup=True,
        )
        create = self._recurring.recurring_run_service_create_recurring_run
        with _perhaps_done("the schedule", "`python -m pipeline schedule --list`"):
            return str(self._call(f"create the schedule `{name}`", create, body).recurring_run_id)

    def schedules(self) -> list[Schedule]:
        """All recurring runs, newest first."""
        found: list[Schedule] = []
        token = ""
        while True:
            listed = self._call(
                "list the schedules",
                self._recurring.recurring_run_service_list_recurring_runs,
                sort_by=NEWEST,
                page_size=PAGE,
                page_token=token,
                **self._in_namespace(),
            )
            found += [_schedule(recurring) for recurring in listed.recurring_runs or []]
            token = listed.next_page_token or ""
            if not token:
                return found

    def delete_schedule(self, name: str) -> None:
        """Remove the recurring run of a name or an id; its past runs stay."""
        found = [schedule for schedule in self.schedules() if name in (schedule.name, schedule.schedule_id)]
        if not found:
            raise NotFoundError(f"there is no schedule `{name}`: `python -m pipeline schedule --list` shows them")
        if len(found) > 1:
            ids = ", ".join(schedule.schedule_id for schedule in found)
            raise ConflictError(f"{len(found)} schedules are named `{name}`: give the id of one of them: {ids}")
        delete = self._recurring.recurring_run_service_delete_recurring_run
        self._call(f"delete the schedule `{name}`", delete, found[0].schedule_id)

    # ---------------------------------------------------------------- asking

    def _in_namespace(self) -> dict[str, str]:
        return {"namespace": self.namespace} if self.namespace else {}

    def _call(self, doing: str, function: Callable[..., Any], *arguments: object, **options: object) -> Any:  # noqa: ANN401
        """Ask the server, within the time limit.

        Raises:
            ClusterError: it did not do it.
        """
        where = self.login.endpoint
        try:
            return function(*arguments, _request_timeout=self._timeout, **options)
        except api.ApiException as refusal:
            raise self._explain(doing, refusal) from None
        except _NotJsonError as error:
            raise LoginError(
                f"could not {doing}: {where} answered with a page ({error}) and not with the API's JSON, as it does "
                f"for who is not logged in, or where the address is not the API's. {self._sent()}"
            ) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, SSLError):
                raise LoginError(
                    f"could not {doing}: the certificate of {where} is not trusted ({reason}). "
                    "Give the authority's certificate with --ca-cert FILE"
                ) from None
            raise UnavailableError(
                f"could not {doing}: {where} does not answer ({_plain(reason)}). Is the address right, "
                "does `kubectl port-forward` still run, is the VPN up?"
            ) from None

    def _explain(self, doing: str, refusal: Any) -> ClusterError:  # noqa: ANN401 - generated, without types
        """The error for an answer that is no success."""
        status, said = refusal.status, _said(refusal)
        start = f"could not {doing}: {self.login.endpoint}"
        # an upload that is not allowed is answered with 400 (pipeline_upload_server.go)
        refused = status == 400 and any(word in said.lower() for word in ("authoriz", "authentic", "denied"))
        if 300 <= status < 400:
            location = refusal.headers.get("Location", "another place")
            return LoginError(f"{start} sends to {location}, as it does for who is not logged in. {self._sent()}")
        if status == 401:
            return LoginError(f"{start} refused the login (401{said}). {self._sent()}")
        if status == 403 or refused:
            place = f"namespace `{self.login.namespace}`" if self.login.namespace else "the server's namespace"
            return LoginError(
                f"{start} does not allow it ({status}{said}). {self._sent()} If the login is right, it lacks the "
                f"right in {place}: give another --namespace, or ask for a RoleBinding (docs/kubeflow.md)"
            )
        if status == 404:
            return NotFoundError(
                f"{start} knows no such thing (404{said}). If every command says so, the address's path is wrong: "
                "a whole Kubeflow has the API below /pipeline"
            )
        if status == 409:
            return ConflictError(f"{start} has one of that name already (409{said})")
        if status == 429 or status >= 500:
            return UnavailableError(
                f"{start} failed ({status}{said}). Try again; `kubectl -n kubeflow logs deploy/ml-pipeline` says why"
            )
        return ClusterError(f"{start} refused it ({status}{said})")

    def _sent(self) -> str:
        return f"Sent was {self.login.credential}. {HOW_TO_LOG_IN}."


@contextmanager
def _perhaps_done(what: str, look: str) -> Iterator[None]:
    """After a lost answer nobody here knows whether the server did it."""
    try:
        yield
    except UnavailableError as error:
        raise UnavailableError(f"{error} {what.capitalize()} may be there all the same: look with {look}") from None


def _named(name: str) -> str:
    """The filter for one display name, in protobuf's JSON."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]})


def _reference(version: Version) -> Any:  # noqa: ANN401 - generated, without types
    return api.V2beta1PipelineVersionReference(pipeline_id=version.pipeline_id, pipeline_version_id=version.version_id)


def _said(refusal: Any) -> str:  # noqa: ANN401 - generated, without types
    """What the server said, short; grpc-gateway and the upload server spell it differently."""
    try:
        body = json.loads(refusal.body)
        said = next((str(body[key]) for key in ("message", "error_message", "error") if body.get(key)), "")
    except (TypeError, ValueError, AttributeError):
        said = "" if "<html" in str(refusal.body).lower() else str(refusal.body or "")
    lines = said.strip().splitlines()
    return f": {lines[0][:300]}" if lines else ""


def _plain(reason: object) -> str:
    """A network error without the object it is about."""
    return re.sub(r"^\w+\(host=[^)]*\): ", "", str(reason)) or type(reason).__name__


def _version(version: Any) -> Version:  # noqa: ANN401 - generated, without types
    return Version(
        str(version.pipeline_id),
        str(version.pipeline_version_id),
        version.display_name or version.name or "",
        version.created_at,
        version.pipeline_spec,
    )


def _run(run: Any) -> Run:  # noqa: ANN401 - generated, without types
    details = (run.run_details.task_details if run.run_details else None) or []
    reference = run.pipeline_version_reference
    return Run(
        run_id=str(run.run_id),
        name=run.display_name or "",
        state=_state(run.state),
        created=run.created_at,
        error=_message(run.error),
        tasks=tuple(_task(task) for task in details),
        pipeline_id=str(reference.pipeline_id) if reference else "",
        version_id=str(reference.pipeline_version_id) if reference else "",
        document=run.pipeline_spec,
    )


def _task(task: Any) -> Task:  # noqa: ANN401 - generated, without types
    return Task(
        task.display_name or "",
        _state(task.state),
        _time(task.start_time),
        _time(task.end_time),
        _message(task.error),
    )


def _schedule(recurring: Any) -> Schedule:  # noqa: ANN401 - generated, without types
    cron = recurring.trigger.cron_schedule.cron if recurring.trigger and recurring.trigger.cron_schedule else ""
    enabled = recurring.status == api.V2beta1RecurringRunStatus.ENABLED
    return Schedule(str(recurring.recurring_run_id), recurring.display_name or "", cron, enabled, recurring.created_at)


def _state(state: str | None) -> str:
    return "" if state in (None, "RUNTIME_STATE_UNSPECIFIED") else str(state)


def _message(error: Any) -> str:  # noqa: ANN401 - generated, without types
    return (error.message or "") if error else ""


def _time(time: datetime | None) -> datetime | None:
    """A time that was reached: the server writes 1970 (or before) for one that was not."""
    return time if time is not None and time.year > 1970 else None
