"""The graph: which component takes what from which. Small, so that it can be read beside `dvc.yaml`.

Settings of a cluster are put on every task; kfp's local runner ignores those that need a cluster, so that the very same
graph runs on one machine.
"""

import json
from typing import Any

from kfp import dsl, kubernetes

from components.adapter import RUNTIME
from components.benchmark import benchmark
from components.check_faces import check_faces
from components.fetch_faces import fetch_faces
from components.prepare_faces import prepare_faces
from components.prepare_faces_merge import prepare_faces_merge
from components.prepare_faces_part import prepare_faces_part
from components.pretrain_inet import pretrain_inet
from components.pretrain_wnet import pretrain_wnet
from components.register_model import register_model
from components.train_adversarial import train_adversarial
from components.train_baselines import train_baselines
from components.train_psnr import train_psnr
from gwainet.params import Params, Runtime
from gwainet.stages import STAGES
from gwainet.storage.checkpoints import VARIABLE as CHECKPOINTS
from gwainet.training import KEEP
from pipeline import PIPELINE_NAME
from pipeline.cluster import ClusterSettings, GpuStage, Nodes, Stage, Toleration, Training
from pipeline.trainjob import SHARED_MEMORY, manifest, processes

ROOT = "/gwainet"  # in a pod; the Dockerfile makes it
WORK = f"{ROOT}/.gwainet"

Task = Any  # kfp has no types


def build(params: Params, cluster: ClusterSettings) -> Any:  # noqa: ANN401  kfp has no types
    """The pipeline of one profile; its params are in it, its only argument is where volumes are mounted."""

    def stage(component: Any, root: str, variant: str | None = None, **inputs: Any) -> Task:  # noqa: ANN401
        name = component.name.replace("-", "_")
        arguments = {key: value.outputs["out"] if hasattr(value, "outputs") else value for key, value in inputs.items()}
        if variant is not None:
            arguments["variant"] = variant
        if STAGES[name].shared:
            processes(name, params, cluster)  # refuses what could not be shared
        if _on_several_nodes(name, cluster):
            arguments["trainjob"] = manifest(name, params, cluster, WORK)
        task = component(params=params_of(name, params), root=root, **arguments)
        task.set_display_name(f"{name}@{variant}" if variant else name)
        place(task, name, params, cluster)
        return task

    def pipeline(root: str = ROOT) -> None:
        # of a bucket, the version stands among the params (pipeline/photos.py)
        fetched = stage(fetch_faces, root, source_version=cluster.volumes.source.version or "s3")
        parts = cluster.stages.prepare_faces.parts
        faces = stage(prepare_faces, root, raw=fetched) if parts == 1 else in_parts(params, cluster, root, fetched)
        checked = {"faces": faces, "passed": stage(check_faces, root, faces=faces)}
        inet = stage(pretrain_inet, root, **checked)
        wnet = stage(pretrain_wnet, root, **checked)
        psnr_guided = stage(train_psnr, root, "guided", **checked, wnet=wnet)
        psnr_banet = stage(train_psnr, root, "banet", **checked)
        models = {
            "adversarial_gwainet": stage(train_adversarial, root, "gwainet", **checked, psnr=psnr_guided, inet=inet),
            "adversarial_gwanet": stage(train_adversarial, root, "gwanet", **checked, psnr=psnr_guided),
            "adversarial_banet": stage(train_adversarial, root, "banet", **checked, psnr=psnr_banet),
        }
        srresnet = stage(train_baselines, root, "srresnet", **checked)
        guided = {system: {"inet": inet} for system in ("gfrnet", "gfrnet_landmarks")}
        starts = {"srgan": {"start": srresnet, "inet": inet}, **guided}
        others = {
            f"baselines_{system}": stage(train_baselines, root, system, **checked, **starts.get(system, {}))
            for system in STAGES["train_baselines"].variants
            if system != "srresnet"
        }
        others["baselines_srresnet"] = srresnet
        report = stage(benchmark, root, **checked, psnr_guided=psnr_guided, psnr_banet=psnr_banet, **models, **others)
        stage(register_model, root, **checked, **models, report=report)

    description = f"Exemplar-guided face super-resolution: profile {params.profile}, params {params.digest()}"
    return dsl.pipeline(name=PIPELINE_NAME, description=description)(pipeline)


def in_parts(params: Params, cluster: ClusterSettings, root: str, fetched: Task) -> Task:
    """`prepare_faces` shared by several pods, each of which is retried alone: the same files as one makes."""
    parts = cluster.stages.prepare_faces.parts
    given = {"params": params_of("prepare_faces", params), "root": root, "raw": fetched.outputs["out"]}
    with dsl.ParallelFor(list(range(parts)), name="prepare_faces_parts") as part:
        one = prepare_faces_part(part=part, parts=parts, **given)
        one.set_display_name("prepare_faces_part")
        place(one, "prepare_faces", params, cluster)
    merged = prepare_faces_merge(parts=dsl.Collected(one.outputs["out"]), **given)
    merged.set_display_name("prepare_faces")
    place(merged, "prepare_faces", params, cluster, photos=False)
    return merged


def params_of(name: str, params: Params) -> str:
    """The params that a component gets, as JSON.

    The sections that its stage reads alone, so that another section's change leaves Kubeflow's cache of it valid.
    `register_model`, which is never cached, gets all: it writes the digest over all of them.
    """
    sections = {*type(params).model_fields} if name == "register_model" else {"profile", *STAGES[name].sections}
    sections -= {"runtime"}  # how to run, which no result depends on: a variable, `place`
    return json.dumps(params.model_dump(mode="json", include=sections), sort_keys=True)


def place(task: Task, name: str, params: Params, cluster: ClusterSettings, photos: bool = True) -> None:
    """Put a cluster's settings on a stage's task; `photos`: whether it reads the user's, where its stage does."""
    settings = getattr(cluster.stages, name)
    task.set_container_image(cluster.image)
    kubernetes.set_image_pull_policy(task, cluster.image_pull_policy)
    if cluster.image_pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(cluster.image_pull_secrets))

    if _on_several_nodes(name, cluster):
        hours = settings.hours + cluster.trainer.waiting_hours
        _place_waiting(task, cluster)
    else:
        hours = settings.hours
        _place_working(task, settings, cluster)

    kubernetes.set_timeout(task, seconds=round(hours * 3600))
    if settings.retries.count:
        task.set_retry(
            num_retries=settings.retries.count,
            backoff_duration=f"{settings.retries.backoff_seconds}s",
            backoff_factor=settings.retries.backoff_factor,
            backoff_max_duration=f"{settings.retries.seconds(hours * 3600)}s",
        )
    task.set_caching_options(settings.caching)

    volumes = cluster.volumes
    brought = photos and params.fetch_faces.source != "drawn" and params.fetch_faces.location is None
    if "source" in STAGES[name].inputs and brought and volumes.source.claim:
        kubernetes.mount_pvc(task, volumes.source.claim, f"{ROOT}/data/source", volumes.source.sub_path)
    if STAGES[name].keeps_work and volumes.work.claim:
        kubernetes.mount_pvc(task, volumes.work.claim, WORK, volumes.work.sub_path)
    if STAGES[name].trains and volumes.work.s3:
        _variable(task, CHECKPOINTS, "gwainet/checkpoints", volumes.work.s3)
    for secret in (cluster.mlflow, *cluster.secrets):
        if secret:
            kubernetes.use_secret_as_env(task, secret.secret, {name: name for name in secret.variables})
    # not arguments: an argument that differs from run to run would defeat Kubeflow's cache
    kubernetes.use_field_path_as_env(task, "KFP_RUN_ID", "metadata.labels['pipeline/runid']")
    _variable(task, "GWAINET_PARAMS_DIGEST", "gwainet/params-digest", params.digest())
    _variable(task, RUNTIME, "gwainet/runtime", runtime_of(settings, params.runtime))
    if STAGES[name].trains:
        _variable(task, KEEP, "gwainet/keep-checkpoints", "true")


def runtime_of(settings: Stage, runtime: Runtime) -> str:
    """How a stage's pods run, as JSON; one that pays for a GPU stops rather than compute without it."""
    if isinstance(settings, GpuStage) and settings.gpus and runtime.device == "auto":
        runtime = runtime.model_copy(update={"device": "cuda"})
    return runtime.model_dump_json()


def _variable(task: Task, name: str, annotation: str, value: str) -> None:
    """Give a variable to the pod through an annotation: a literal one would be part of Kubeflow's cache key."""
    kubernetes.add_pod_annotation(task, annotation, value)
    kubernetes.use_field_path_as_env(task, name, f"metadata.annotations['{annotation}']")


def _place_working(task: Task, settings: Stage, cluster: ClusterSettings) -> None:
    """What a pod gets that computes."""
    task.set_cpu_request(settings.cpu).set_memory_request(settings.memory)
    if settings.cpu_limit:
        task.set_cpu_limit(settings.cpu_limit)
    if settings.memory_limit:
        task.set_memory_limit(settings.memory_limit)
    if settings.dev_shm:
        kubernetes.empty_dir_mount(
            task,
            volume_name="shm",
            mount_path=SHARED_MEMORY,
            medium="Memory",
            size_limit=settings.dev_shm,
        )
    nodes: list[Nodes] = [settings]
    if isinstance(settings, GpuStage) and settings.gpus:
        task.set_accelerator_type(cluster.gpu.resource).set_accelerator_limit(settings.gpus)
        nodes.insert(0, cluster.gpu)
    for key, value in {key: value for part in nodes for key, value in part.node_selector.items()}.items():
        kubernetes.add_node_selector(task, label_key=key, label_value=value)
    for toleration in dict.fromkeys(toleration for part in nodes for toleration in part.tolerations):
        _tolerate(task, toleration)


def _place_waiting(task: Task, cluster: ClusterSettings) -> None:
    """What a pod gets that makes a TrainJob and waits for it; the job's own pods get the stage's settings."""
    task.set_cpu_request(cluster.trainer.cpu).set_memory_request(cluster.trainer.memory)
    if cluster.trainer.memory_limit:
        task.set_memory_limit(cluster.trainer.memory_limit)
    kubernetes.use_field_path_as_env(task, "GWAINET_NAMESPACE", "metadata.namespace")
    kubernetes.use_field_path_as_env(task, "GWAINET_POD", "metadata.name")


def _on_several_nodes(name: str, cluster: ClusterSettings) -> bool:
    settings = getattr(cluster.stages, name)
    return isinstance(settings, Training) and settings.nodes > 1


def _tolerate(task: Task, toleration: Toleration) -> None:
    kubernetes.add_toleration(task, **toleration.model_dump())
