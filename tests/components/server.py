"""A server that answers as the Kubernetes API does for TrainJobs of Kubeflow Trainer and their pods.

What is created is held against the published models and the rules of Trainer's admission; what is answered is made by
them too. A role can be given: everything else is then forbidden, as for an account with that role alone.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, ClassVar

from kubeflow_trainer_api import models

from tests.serving import RefusalError, Server

NO_SUCH_KIND = "404 page not found"
_JOBS = r"apis/trainer\.kubeflow\.org/v1alpha1/namespaces/([^/]+)/trainjobs"
_PODS = r"api/v1/namespaces/([^/]+)/pods"
_REASONS = {401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "AlreadyExists", 422: "Invalid"}
OWNER = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "name": "gwainet-x", "uid": "u-1"}


@dataclass
class Kubernetes(Server):
    """What the server holds, and how it shall behave.

    Attributes:
        play: what becomes of a job: at each look the next condition; the last one stays; empty: none yet.
        installed: whether Kubeflow Trainer is.
        old: a Trainer before 2.2.
        role: (API group, resource, verb) that are allowed; None: all.
        lingers: looks for which a deleted job is still there.
        on_create: what a job's pods do.
        jobs: by name.
        logs: pod -> what it wrote; its name begins with that of its job.
        asked: what was asked for, as roles name it.
    """

    prefix: ClassVar[str] = "/"
    routes: ClassVar[dict[tuple[str, str], str]] = {
        ("POST", _JOBS): "create_job",
        ("GET", _JOBS + "/([^/]+)"): "get_job",
        ("DELETE", _JOBS + "/([^/]+)"): "delete_job",
        ("GET", _PODS): "list_pods",
        ("GET", _PODS + "/([^/]+)"): "get_pod",
        ("GET", _PODS + "/([^/]+)/log"): "read_log",
    }
    play: list[str] = field(default_factory=lambda: ["Complete"])
    installed: bool = True
    old: bool = False
    role: set[tuple[str, str, str]] | None = None
    lingers: int = 0
    on_create: Callable[[dict[str, Any]], None] = lambda _job: None
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    asked: set[tuple[str, str, str]] = field(default_factory=set)
    looks: int = 0

    def refusal(self, request: SimpleNamespace, status: int, message: str) -> dict[str, Any] | bytes:
        if message == NO_SUCH_KIND:
            return message.encode()
        named = re.search(r"/(?:trainjobs|pods)/([^/]+)", request.path) or re.search(r'"([^"]+)" already', message)
        details = {"name": named[1]} if status in (404, 409) and named else {}
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": _REASONS.get(status, "InternalError"),
            "details": details,
            "code": status,
        }

    # ------------------------------------------------------------ jobs

    def create_job(self, request: SimpleNamespace) -> dict[str, Any]:
        self._check_right("trainer.kubeflow.org", "trainjobs", "create")
        document: dict[str, Any] = json.loads(request.body)
        if self.old and request.query.get("fieldValidation") == "Strict":
            raise RefusalError(400, 'strict decoding error: unknown field "spec.runtimePatches"')
        held = models.TrainerV1alpha1TrainJob.from_dict(document).to_dict()
        assert held == document, "a field that the published models do not know"
        assert (document["apiVersion"], document["kind"]) == ("trainer.kubeflow.org/v1alpha1", "TrainJob")
        self._admit(document)
        name = document["metadata"]["name"]
        if name in self.jobs:
            raise RefusalError(409, f'trainjobs.trainer.kubeflow.org "{name}" already exists')
        namespace = request.ids[0]
        document["metadata"] |= {"namespace": namespace, "uid": "1", "creationTimestamp": "2026-01-01T10:00:00Z"}
        self.jobs[name] = document
        self.on_create(document)
        return document

    def _admit(self, document: dict[str, Any]) -> None:
        """Rules of the custom resource and of Trainer's webhook (trainjob_types.go, torch.go, jobset.go)."""
        name, spec = document["metadata"]["name"], document["spec"]
        if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > 63:
            raise RefusalError(422, "metadata.name must match RFC 1035 DNS label format")
        if spec["runtimeRef"]["name"] != "torch-distributed":
            raise RefusalError(403, 'admission webhook "validator.trainjob" denied the request: runtime not found')
        if any(variable["name"].startswith("PET_") for variable in spec["trainer"]["env"]):
            raise RefusalError(422, "spec.trainer.env: must not have reserved envs")
        for patch in spec["runtimePatches"]:
            assert re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._/-]+", patch["manager"]), "no domain-prefixed path"
            for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
                assert job["name"] == "node", "the runtime has no such job"
                template = job["template"]["spec"]["template"]
                assert template.get("metadata", {}).keys() <= {"labels", "annotations"}
                for container in template["spec"]["containers"]:
                    assert container["name"] == "node", "the runtime has no such container"
                    assert "env" not in container, "must not have envs for the node container"

    def get_job(self, request: SimpleNamespace) -> dict[str, Any]:
        self._check_right("trainer.kubeflow.org", "trainjobs", "get")
        job = self._job(request.ids[1])
        if "deletionTimestamp" in job["metadata"]:
            if not self.lingers:
                del self.jobs[request.ids[1]]
                raise RefusalError(404, f'trainjobs.trainer.kubeflow.org "{request.ids[1]}" not found')
            self.lingers -= 1
        condition = self.condition()
        if condition:
            held = {
                "type": condition,
                "status": "True",
                "reason": "Tried",
                "message": f"it is {condition}",
                "lastTransitionTime": "2026-01-01T10:00:00Z",
            }
            job["status"] = {"conditions": [held]}
        return job

    def condition(self) -> str:
        """The next one of `play`."""
        self.looks += 1
        return self.play[min(self.looks, len(self.play)) - 1]

    def delete_job(self, request: SimpleNamespace) -> dict[str, Any]:
        self._check_right("trainer.kubeflow.org", "trainjobs", "delete")
        job = self._job(request.ids[1])
        assert request.query == {"propagationPolicy": "Foreground"}, "pods would outlive the job"
        job["metadata"]["deletionTimestamp"] = "2026-01-01T11:00:00Z"
        if not self.lingers:
            del self.jobs[request.ids[1]]
        return job

    def _job(self, name: str) -> dict[str, Any]:
        if name not in self.jobs:
            raise RefusalError(404, f'trainjobs.trainer.kubeflow.org "{name}" not found')
        return self.jobs[name]

    # ------------------------------------------------------------ pods

    def list_pods(self, request: SimpleNamespace) -> dict[str, Any]:
        self._check_right("", "pods", "list")
        key, _, job = request.query["labelSelector"].partition("=")
        assert key == "jobset.sigs.k8s.io/jobset-name"
        pods = [_pod(name) for name in self.logs if name.startswith(f"{job}-")]
        return {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods}

    def get_pod(self, request: SimpleNamespace) -> dict[str, Any]:
        self._check_right("", "pods", "get")
        return _pod(request.ids[1])

    def read_log(self, request: SimpleNamespace) -> bytes:
        self._check_right("", "pods/log", "get")
        assert request.query["container"] == "node"
        lines = self.logs[request.ids[1]].splitlines()
        return "\n".join(lines[-int(request.query["tailLines"]) :]).encode()

    # ------------------------------------------------------------ rights

    def _check_right(self, group: str, resource: str, verb: str) -> None:
        if group and not self.installed:
            raise RefusalError(404, NO_SUCH_KIND)
        self.asked.add((group, resource, verb))
        if self.role is not None and (group, resource, verb) not in self.role:
            raise RefusalError(
                403,
                f'{resource} is forbidden: User "system:serviceaccount:team:pipeline-runner" cannot {verb} resource '
                f'"{resource}" in API group "{group}" in the namespace "team"',
            )


def _pod(name: str) -> dict[str, Any]:
    phase = "Failed" if name.endswith("failed") else "Running"
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "ownerReferences": [{**OWNER, "controller": True, "blockOwnerDeletion": True}]},
        "spec": {"containers": [{"name": "node"}]},
        "status": {"phase": phase},
    }
