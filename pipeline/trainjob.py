"""A training on several nodes: the TrainJob of Kubeflow Trainer that its component is to make, but for names of a run.

Written in Kubernetes' own spelling and held to the published models (`kubeflow-trainer-api`). Not with the `kubeflow`
SDK 0.5: its TrainerClient takes variables as plain text alone, so no secret could reach a job, and it makes one error
of all refusals, where a job that is there already must be told from a Trainer that is not.
"""

import json
from typing import Any

from components.trainjobs import API_VERSION, CONTAINER, KIND, checked
from gwainet.errors import ParamsError
from gwainet.params import Params
from gwainet.training import KEEP
from pipeline.cluster import ClusterSettings, Training

MANAGER = "gwainet/pipeline"  # who wrote the patches of a runtime; Kueue and webhooks write their own beside them
REPLICATED_JOB = "node"  # of Trainer's runtimes for torch
SHARED_MEMORY = "/dev/shm"  # noqa: S108  a mount point


def processes(name: str, params: Params, cluster: ClusterSettings) -> int:
    """How many processes train a stage on each of its nodes.

    Raises:
        ParamsError: they cannot share a batch equally, or GPUs would stand idle.
    """
    settings: Training = getattr(cluster.stages, name)
    asked = params.runtime.processes
    each = settings.gpus or (1 if asked == "auto" else asked)
    if asked not in ("auto", each):
        raise ParamsError(
            f"runtime.processes = {asked}, but stages.{name}.gpus = {settings.gpus} of the cluster's settings: a GPU "
            "is for one process. Leave runtime.processes at `auto`"
        )
    batch, count = getattr(params, name).batch_size, each * settings.nodes
    if batch % count:
        raise ParamsError(
            f"{count} processes ({each} on each of {settings.nodes} nodes) cannot share {name}.batch_size = {batch} "
            f"equally: choose stages.{name}.gpus and nodes of the cluster's settings so that their product divides it"
        )
    return each


def manifest(name: str, params: Params, cluster: ClusterSettings, mount: str) -> str:
    """The job of a stage, as JSON; its name, its request and the run's variables are filled in by the component.

    Args:
        name: of a stage with `nodes` above 1.
        params: of the profile.
        cluster: its settings.
        mount: where the volume `work` is mounted, in the component's pod and in those of the job.
    """
    settings: Training = getattr(cluster.stages, name)
    limits = {"cpu": settings.cpu_limit, "memory": settings.memory_limit}
    gpus = {cluster.gpu.resource: str(settings.gpus)} if settings.gpus else {}
    placed = [cluster.gpu, settings] if settings.gpus else [settings]
    tolerations = dict.fromkeys(toleration for part in placed for toleration in part.tolerations)
    work = cluster.volumes.work
    volumes: list[dict[str, Any]] = [{"name": "work", "persistentVolumeClaim": {"claimName": work.claim}}]
    mounts = [{"name": "work", "mountPath": mount} | ({"subPath": work.sub_path} if work.sub_path else {})]
    if settings.dev_shm:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": settings.dev_shm}})
        mounts.append({"name": "shm", "mountPath": SHARED_MEMORY})
    pod: dict[str, Any] = {
        "containers": [{"name": CONTAINER, "volumeMounts": mounts}],
        "volumes": volumes,
        "nodeSelector": {key: value for part in placed for key, value in part.node_selector.items()},
        "tolerations": [toleration.model_dump(exclude_none=True) for toleration in tolerations],
        "imagePullSecrets": [{"name": secret} for secret in cluster.image_pull_secrets],
    }
    # a sidecar of Istio would outlive the training, and the job would never end
    template = {
        "metadata": {"labels": {"sidecar.istio.io/inject": "false"}},
        "spec": {k: v for k, v in pod.items() if v},
    }
    replicated = {"name": REPLICATED_JOB, "template": {"spec": {"template": template}}}
    job = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "spec": {
            "runtimeRef": {"name": cluster.trainer.runtime, "kind": cluster.trainer.kind},
            "activeDeadlineSeconds": round(settings.hours * 3600),
            "trainer": {
                "image": cluster.image,
                "command": ["torchrun", "-m", "gwainet.worker"],
                "numNodes": settings.nodes,
                "numProcPerNode": processes(name, params, cluster),
                "env": [
                    {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.secret, "key": variable}}}
                    for secret in (cluster.mlflow, *cluster.secrets)
                    if secret
                    for variable in secret.variables
                ]
                + [{"name": KEEP, "value": "true"}],
                "resourcesPerNode": {
                    "requests": {"cpu": settings.cpu, "memory": settings.memory, **gpus},
                    "limits": {key: value for key, value in limits.items() if value} | gpus,
                },
            },
            "runtimePatches": [
                {
                    "manager": MANAGER,
                    "trainingRuntimeSpec": {"template": {"spec": {"replicatedJobs": [replicated]}}},
                }
            ],
        },
    }
    return json.dumps(checked(job), sort_keys=True)
