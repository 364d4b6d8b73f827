"""A server that answers as Kubeflow Pipelines' v2beta1 API does, for tests of the client.

Requests are held against the published models and protobufs: an unknown field, a filter that is no protobuf JSON, a
namespace where there is one user, an unknown or missing parameter are refused as the real server refuses them.
"""

import email
import email.policy
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import kfp_server_api
import yaml
from google.protobuf import json_format
from kfp.kubernetes import kubernetes_executor_config_pb2
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.serving import RefusalError, Server

NEVER = "1970-01-01T00:00:00Z"  # as the real server writes a time that was not reached
ROUTES = {
    ("GET", r"healthz"): "health",
    ("GET", r"pipelines"): "list_pipelines",
    ("POST", r"pipelines"): "create_pipeline",
    ("POST", r"pipelines/upload_version"): "upload_version",
    ("GET", r"pipelines/([^/]+)/versions"): "list_versions",
    ("GET", r"pipelines/([^/]+)/versions/([^/]+)"): "get_version",
    ("GET", r"experiments"): "list_experiments",
    ("POST", r"experiments"): "create_experiment",
    ("GET", r"runs"): "list_runs",
    ("POST", r"runs"): "create_run",
    ("GET", r"runs/([^/]+)"): "get_run",
    ("GET", r"recurringruns"): "list_recurring_runs",
    ("POST", r"recurringruns"): "create_recurring_run",
    ("DELETE", r"recurringruns/([^/]+)"): "delete_recurring_run",
}


@dataclass
class Kubeflow(Server):
    """What the server holds, and how it shall behave.

    `play` is what happens to a run: at each look the next (run's state, states of stages); the last one stays.
    """

    prefix: ClassVar[str] = "/apis/v2beta1/"
    routes: ClassVar[dict[tuple[str, str], str]] = ROUTES
    multi_user: bool = False
    play: list[tuple[str, dict[str, str]]] = field(default_factory=lambda: [("SUCCEEDED", {})])
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    versions: list[dict[str, Any]] = field(default_factory=list)
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    looks: int = 0

    def refusal(self, request: SimpleNamespace, status: int, message: str) -> dict[str, Any]:
        if "upload" in request.path:  # this handler of the real server is not grpc-gateway's
            return {"error_message": message, "error_details": message}
        code = {400: 3, 401: 16}.get(status, 2)
        return {"error": message, "code": code, "message": message, "details": []}

    # ------------------------------------------------------------ pipelines

    def health(self, _request: SimpleNamespace) -> dict[str, Any]:
        return {"multi_user": self.multi_user, "pipeline_store": "database"}

    def list_pipelines(self, request: SimpleNamespace) -> dict[str, Any]:
        return self._list("pipelines", self._in_namespace(request, self.pipelines), request)

    def create_pipeline(self, request: SimpleNamespace) -> dict[str, Any]:
        body = _checked(request.body, kfp_server_api.V2beta1Pipeline)
        self._check_namespace(body.get("namespace"))
        if any(pipeline["display_name"] == body["display_name"] for pipeline in self.pipelines):
            raise RefusalError(409, "Already exist error: The name gwainet already exist. Please specify a new name")
        return self._add(self.pipelines, "pipeline_id", body)

    def upload_version(self, request: SimpleNamespace) -> dict[str, Any]:
        pipeline = _one(self.pipelines, "pipeline_id", request.query["pipelineid"])
        part = _files(request)["uploadfile"]
        if not part.get_filename().endswith((".yaml", ".yml", ".zip", ".tar.gz")):
            raise RefusalError(400, "Failed to create a pipeline version: unexpected pipeline file format")
        spec, *rest = list(yaml.safe_load_all(part.get_content()))
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        for platform in rest:
            json_format.ParseDict(platform, pipeline_spec_pb2.PlatformSpec())
            for executor in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
                json_format.ParseDict(executor, kubernetes_executor_config_pb2.KubernetesExecutorConfig())
        name = request.query["name"]
        known = [v for v in self.versions if v["pipeline_id"] == pipeline["pipeline_id"]]
        if any(version["name"] == name for version in known):
            raise RefusalError(409, "Failed to create a pipeline version")
        document = {"pipeline_spec": spec, "platform_spec": rest[0]} if rest else spec
        version = {
            "pipeline_id": pipeline["pipeline_id"],
            "name": name,
            "display_name": name,
            "pipeline_spec": document,
        }
        return self._add(self.versions, "pipeline_version_id", version)

    def list_versions(self, request: SimpleNamespace) -> dict[str, Any]:
        of_pipeline = [version for version in self.versions if version["pipeline_id"] == request.ids[0]]
        return self._list("pipeline_versions", of_pipeline, request)

    def get_version(self, request: SimpleNamespace) -> dict[str, Any]:
        return _one(self.versions, "pipeline_version_id", request.ids[1])

    # ------------------------------------------------------------ experiments and runs

    def list_experiments(self, request: SimpleNamespace) -> dict[str, Any]:
        return self._list("experiments", self._in_namespace(request, self.experiments), request)

    def create_experiment(self, request: SimpleNamespace) -> dict[str, Any]:
        body = _checked(request.body, kfp_server_api.V2beta1Experiment)
        self._check_namespace(body.get("namespace"))
        return self._add(self.experiments, "experiment_id", body)

    def list_runs(self, request: SimpleNamespace) -> dict[str, Any]:
        found = [run for run in self.runs if run["experiment_id"] == request.query["experiment_id"]]
        return self._list("runs", [{**run, "run_details": None} for run in found], request)

    def create_run(self, request: SimpleNamespace) -> dict[str, Any]:
        body = _checked(request.body, kfp_server_api.V2beta1Run)
        self._check_runnable(body)
        return self._add(self.runs, "run_id", {**body, "state": "PENDING"})

    def get_run(self, request: SimpleNamespace) -> dict[str, Any]:
        run = _one(self.runs, "run_id", request.ids[0])
        state, stages = self.play[min(self.looks, len(self.play) - 1)]
        self.looks += 1
        nodes = [_node("root", state), _node("root-driver", "SUCCEEDED")]
        for name, of_stage in stages.items():
            nodes.append(_node(name, of_stage))
            if not name.endswith("-driver"):
                nodes += [_node(f"{name}-driver", "SUCCEEDED"), _node("executor", of_stage)]
        run |= {"state": state, "run_details": {"task_details": nodes}}
        return run

    # ------------------------------------------------------------ recurring runs

    def list_recurring_runs(self, request: SimpleNamespace) -> dict[str, Any]:
        return self._list("recurringRuns", self._in_namespace(request, self.recurring), request)

    def create_recurring_run(self, request: SimpleNamespace) -> dict[str, Any]:
        body = _checked(request.body, kfp_server_api.V2beta1RecurringRun)
        self._check_runnable(body)
        if not 1 <= int(body.get("max_concurrency", 0)) <= 10:
            raise RefusalError(400, "Max concurrency of a recurring run must be at least 1 and at most 10")
        if len(body["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise RefusalError(400, "Schedule cron is not a supported format")
        status = {"ENABLE": "ENABLED", "DISABLE": "DISABLED"}[body["mode"]]
        return self._add(self.recurring, "recurring_run_id", {**body, "status": status})

    def delete_recurring_run(self, request: SimpleNamespace) -> dict[str, Any]:
        self.recurring.remove(_one(self.recurring, "recurring_run_id", request.ids[0]))
        return {}

    # ------------------------------------------------------------ what all of them share

    def _check_runnable(self, body: dict[str, Any]) -> None:
        _one(self.experiments, "experiment_id", body["experiment_id"])
        reference = body["pipeline_version_reference"]
        version = _one(self.versions, "pipeline_version_id", reference["pipeline_version_id"])
        assert version["pipeline_id"] == reference["pipeline_id"]
        spec = version["pipeline_spec"].get("pipeline_spec", version["pipeline_spec"])
        known = spec["root"].get("inputDefinitions", {}).get("parameters", {})
        given = body["runtime_config"]["parameters"]
        missing = [
            n for n, p in known.items() if n not in given and "defaultValue" not in p and not p.get("isOptional")
        ]
        if missing or set(given) - set(known):
            raise RefusalError(400, f"parameters: missing {missing}, unknown {sorted(set(given) - set(known))}")

    def _check_namespace(self, namespace: str | None) -> None:
        if self.multi_user and not namespace:
            raise RefusalError(400, "Invalid input error: namespace is empty")
        if namespace and not self.multi_user:
            raise RefusalError(400, "In single-user mode, cannot filter by namespace")

    def _in_namespace(self, request: SimpleNamespace, things: list[dict[str, Any]]) -> list[dict[str, Any]]:
        namespace = request.query.get("namespace")
        self._check_namespace(namespace)
        return [thing for thing in things if thing.get("namespace") == namespace]

    def _list(self, name: str, things: list[dict[str, Any]], request: SimpleNamespace) -> dict[str, Any]:
        query = request.query
        for predicate in json.loads(query.get("filter", "{}")).get("predicates", []):
            assert predicate.keys() == {"operation", "key", "stringValue"}, predicate
            assert predicate["operation"] == "EQUALS"
            things = [thing for thing in things if thing[predicate["key"]] == predicate["stringValue"]]
        if query.get("sort_by") == "created_at desc":
            things = things[::-1]
        size, start = int(query.get("page_size", 10)), int(query.get("page_token") or 0)
        more = {"next_page_token": str(start + size)} if len(things) > start + size else {}
        return {name: things[start : start + size], **more} if things else {}

    def _add(self, things: list[dict[str, Any]], key: str, thing: dict[str, Any]) -> dict[str, Any]:
        made = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=len(self.requests))
        things.append({**thing, key: f"{key.removesuffix('_id')}-{len(things)}", "created_at": made.isoformat()})
        return things[-1]


def _files(request: SimpleNamespace) -> dict[str, Any]:
    """The parts of a form, by name."""
    head = f"Content-Type: {request.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    return {str(part.get_param("name", header="content-disposition")): part for part in message.iter_parts()}


def _node(name: str, state: str) -> dict[str, Any]:
    start = NEVER if state == "PENDING" else "2026-01-01T10:00:00Z"
    end = NEVER if state in ("PENDING", "RUNNING") else "2026-01-01T10:01:30Z"
    return {"display_name": name, "state": state, "start_time": start, "end_time": end}


def _one(things: list[dict[str, Any]], key: str, value: str) -> dict[str, Any]:
    for thing in things:
        if thing[key] == value:
            return thing
    raise RefusalError(404, f"ResourceNotFoundError: {key} {value} not found")


def _checked(body: bytes, model: type) -> dict[str, Any]:
    """The body, if the published model holds all of it."""
    answer = SimpleNamespace(data=body.decode())
    client = kfp_server_api.ApiClient()
    document: dict[str, Any] = json.loads(body)
    held = client.sanitize_for_serialization(client.deserialize(answer, model.__name__))
    if held != document:
        raise RefusalError(400, f"unknown fields: {document} is not {held}")
    return document
