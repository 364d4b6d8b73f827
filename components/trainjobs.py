"""TrainJobs of Kubeflow Trainer, through the Kubernetes API: what this project asks of it, typed, with its errors.

The client and the models are the published ones. Trainer 2.2 or newer is needed (`runtimePatches`).
"""

import json
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from kubeflow_trainer_api import models
from kubernetes import client, config
from pydantic import ValidationError
from urllib3 import Retry
from urllib3.exceptions import HTTPError

from gwainet.errors import ClusterError, ConflictError, LoginError, NotFoundError, UnavailableError
from gwainet.progress import say

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
API_VERSION, KIND = f"{GROUP}/{VERSION}", "TrainJob"
CONTAINER = "node"  # of Trainer's runtimes for torch
LOG_LINES = 80  # torchrun writes some forty of its own below those of the process that failed

_TIMEOUT = (10, 60)  # seconds: to connect, to answer
_DOCS = "docs/kubeflow.md, More than one GPU"

Job = Any  # models.TrainerV1alpha1TrainJob: generated, without types


def checked(document: dict[str, Any]) -> dict[str, Any]:
    """A TrainJob, if the published models hold all of it.

    Raises:
        ClusterError: a field is unknown or of another type.
    """
    try:
        held = models.TrainerV1alpha1TrainJob.from_dict(document).to_dict()
    except ValidationError as error:
        raise ClusterError(f"this is no TrainJob: {error}") from None
    if held != document:
        raise ClusterError(f"this is no TrainJob: {json.dumps(document)} is not {json.dumps(held)}")
    return document


def conditions(job: Job) -> dict[str, str]:
    """The conditions that hold (`Complete`, `Failed`, `Suspended`) -> their reason and message."""
    held = (job.status.conditions if job.status else None) or []
    return {
        str(condition.type): ": ".join(filter(None, (condition.reason, condition.message)))
        for condition in held
        if condition.status == "True"
    }


def of_this_pod() -> "TrainJobs":
    """The jobs of the namespace that a pod runs in.

    Raises:
        LoginError: there is no way to the Kubernetes API.
    """
    return TrainJobs(os.environ["GWAINET_NAMESPACE"], connection())


def connection() -> Any:  # noqa: ANN401 - generated, without types
    """How to reach the Kubernetes API: by KUBECONFIG, or as the service account of this pod.

    Raises:
        LoginError: this is no pod, and KUBECONFIG is not set or cannot be read.
    """
    configuration = client.Configuration()
    try:
        if path := os.environ.get("KUBECONFIG"):
            config.load_kube_config(path, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise LoginError(
            f"there is no way to the Kubernetes API: {error}. A TrainJob is made by a pod of Kubeflow"
        ) from None
    return configuration


class TrainJobs:
    """The TrainJobs of a namespace.

    Every method raises ClusterError (LoginError, UnavailableError, NotFoundError, ConflictError): what was tried, what
    the server said, and what to do.
    """

    def __init__(
        self,
        namespace: str,
        configuration: Any,  # noqa: ANN401 - generated, without types
        *,
        patience: float = 600.0,
        pause: float = 15.0,
        timeout: tuple[float, float] = _TIMEOUT,
    ) -> None:
        """Nothing is asked yet.

        Args:
            namespace: where jobs are made.
            configuration: of the Kubernetes client.
            patience: seconds for which a server may not answer.
            pause: seconds between two questions.
            timeout: seconds to connect, and to wait for an answer.
        """
        self.namespace = namespace
        self.pause = pause
        self._patience = patience
        self._timeout = timeout
        configuration.retries = Retry(connect=2, read=0, redirect=False, status=0, other=0, backoff_factor=0.5)
        connected = client.ApiClient(configuration)
        self._server = configuration.host
        self._jobs = client.CustomObjectsApi(connected)
        self._core = client.CoreV1Api(connected)

    def get(self, name: str) -> Job | None:
        """A job as it is now, None if there is none of that name."""
        read = self._jobs.get_namespaced_custom_object
        try:
            found = self._call(f"read the TrainJob `{name}`", read, *self._place(), name)
        except NotFoundError:
            return None
        try:
            return models.TrainerV1alpha1TrainJob.from_dict(found)
        except ValidationError as error:
            raise ClusterError(f"{self._server} answered with what is no TrainJob: {error}") from None

    def create(self, job: dict[str, Any]) -> None:
        """Make a job.

        Raises:
            ConflictError: there is one of its name, perhaps this one, made by a request whose answer was lost.
        """
        doing = f"create the TrainJob `{job['metadata']['name']}`"
        # an older Trainer would drop the patches in silence, and the pods would have no volume
        make = self._jobs.create_namespaced_custom_object
        self._call(doing, make, *self._place(), checked(job), field_validation="Strict")

    def delete(self, name: str, *, patient: bool = True) -> None:
        """Delete a job, and its pods before it is gone; one that is not there is as good."""
        remove = self._jobs.delete_namespaced_custom_object
        doing, options = f"delete the TrainJob `{name}`", {"propagation_policy": "Foreground"}
        try:
            (self._call if patient else self._ask)(doing, remove, *self._place(), name, **options)
        except NotFoundError:
            return

    def await_gone(self, name: str) -> None:
        """Wait until nothing of a job that was deleted is there.

        Raises:
            ClusterError: it is there for longer than the server may be silent.
        """
        deadline = time.monotonic() + self._patience
        while self.get(name) is not None:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the TrainJob `{name}` was deleted but does not go: `kubectl -n {self.namespace} describe "
                    f"trainjob {name}` says what holds it"
                )
            time.sleep(self.pause)

    def last_words(self, name: str) -> str:
        """The last lines that the pods of a job wrote, those that failed first; empty if there is no pod.

        Asked once, without patience: a log is no reason to wait.
        """
        listed = self._ask(
            f"list the pods of the TrainJob `{name}`",
            self._core.list_namespaced_pod,
            self.namespace,
            label_selector=f"jobset.sigs.k8s.io/jobset-name={name}",
        )
        pods = [pod.metadata.name for pod in sorted(listed.items, key=_failed_first)[:2]]
        read = self._core.read_namespaced_pod_log
        logs = {
            pod: self._ask(
                f"read the log of the pod `{pod}`", read, pod, self.namespace, container=CONTAINER, tail_lines=LOG_LINES
            )
            for pod in pods
        }
        return "\n".join(f"last lines of {pod}:\n{log.strip()}" for pod, log in logs.items())

    def owners(self, pod: str) -> list[dict[str, Any]]:
        """References to whom a pod belongs (the workflow of a run), for what shall go when they go."""
        found = self._call(f"read the pod `{pod}`", self._core.read_namespaced_pod, pod, self.namespace)
        return [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid}
            for owner in found.metadata.owner_references or []
        ]

    def _place(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _call(self, doing: str, function: Callable[..., Any], *arguments: object, **options: object) -> Any:  # noqa: ANN401
        """Ask the server, again while it does not answer: a control plane that is updated is away for minutes."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return self._ask(doing, function, *arguments, **options)
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise
                say(f"{error}. Asking again")
                time.sleep(self.pause)

    def _ask(self, doing: str, function: Callable[..., Any], *arguments: object, **options: object) -> Any:  # noqa: ANN401
        try:
            return function(*arguments, _request_timeout=self._timeout, **options)
        except client.ApiException as refusal:
            raise self._explain(doing, refusal) from None
        except HTTPError as error:
            reason = getattr(error, "reason", None) or error
            raise UnavailableError(f"could not {doing}: {self._server} does not answer ({reason})") from None

    def _explain(self, doing: str, refusal: Any) -> ClusterError:  # noqa: ANN401 - generated, without types
        """The error for an answer that is no success."""
        status, body = refusal.status, _status(refusal.body)
        said = str(body.get("message") or refusal.body or refusal.reason).strip()[:600]
        start = f"could not {doing}: {self._server}"
        if status == 401:
            return LoginError(f"{start} refused the token of this pod's service account (401: {said})")
        if status == 403 and "admission webhook" not in said:
            return LoginError(f"{start} does not allow it ({said}). The account of runs needs the Role of {_DOCS}")
        if status == 404 and not _names_object(body):
            return ClusterError(
                f"{start} knows no {PLURAL}.{GROUP}/{VERSION}: Kubeflow Trainer is not installed ({_DOCS}). Without it "
                "a stage trains on one node: `nodes: 1` in cluster.yaml"
            )
        if status == 404:
            return NotFoundError(f"{start} knows no such thing ({said})")
        if status == 409:
            return ConflictError(f"{start} has one of that name already ({said})")
        if status == 429 or status >= 500:
            return UnavailableError(f"{start} failed ({status}: {said})")
        hint = ". Kubeflow Trainer 2.2 or newer is needed" if "unknown field" in said else ""
        return ClusterError(f"{start} refused it ({status}: {said}){hint}")


def _failed_first(pod: Any) -> tuple[bool, str]:  # noqa: ANN401 - generated, without types
    return pod.status.phase != "Failed", pod.metadata.name


def _status(body: str | None) -> Mapping[str, Any]:
    """Kubernetes' `Status`, empty if the answer is none."""
    try:
        document = json.loads(body or "")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _names_object(status: Mapping[str, Any]) -> bool:
    """Whether an object is not there, and not its whole kind."""
    return bool((status.get("details") or {}).get("name"))
