"""The compiled pipeline of every profile, read back with Kubeflow's own messages."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec import pipeline_spec_pb2
from ruamel.yaml import YAML

from gwainet.errors import ParamsError
from gwainet.params import Params, check_params, load_params
from gwainet.stages import STAGES
from pipeline import PIPELINE_NAME
from pipeline.cluster import ClusterSettings, load_cluster
from pipeline.compiling import compile_pipeline
from pipeline.package import read_package
from pipeline.trainjob import manifest

PROJECT = Path(__file__).parents[2]
PROFILES = list(YAML(typ="safe").load(PROJECT / "params.yaml")["profiles"])
CLUSTER = load_cluster(PROJECT / "cluster.yaml")


@dataclass(frozen=True)
class Compiled:
    """A pipeline as Kubeflow reads it.

    Attributes:
        spec: `PipelineSpec`.
        executors: task, by its shown name -> container and settings.
        kubernetes: task -> settings of its pod.
        tasks: task -> `PipelineTaskSpec`.
    """

    spec: Any
    executors: dict[str, Any]
    kubernetes: dict[str, Any]
    tasks: dict[str, Any]


def read(path: Path) -> Compiled:
    specification, platform = YAML(typ="safe").load_all(path.read_text(encoding="utf-8"))
    spec = json_format.ParseDict(specification, pipeline_spec_pb2.PipelineSpec())
    labels = {
        task.task_info.name: spec.components[task.component_ref.name].executor_label
        for task in spec.root.dag.tasks.values()
    }
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return Compiled(
        spec,
        {task: spec.deployment_spec["executors"][label]["container"] for task, label in labels.items()},
        {task: json_format.ParseDict(pods[label], KubernetesExecutorConfig()) for task, label in labels.items()},
        {task.task_info.name: task for task in spec.root.dag.tasks.values()},
    )


def compiled(folder: Path, params: Params, cluster: ClusterSettings = CLUSTER) -> Compiled:
    compile_pipeline(params, cluster, folder / "pipeline.yaml")
    return read(folder / "pipeline.yaml")


def profile(name: str, *overrides: str) -> Params:
    return load_params(PROJECT / "params.yaml", name, overrides)


def with_stage(name: str, **settings: Any) -> ClusterSettings:
    values = CLUSTER.model_dump(mode="json")
    values["stages"][name] |= settings
    return ClusterSettings.model_validate(values)


def constant(task: Any, name: str) -> Any:
    return json_format.MessageToDict(task.inputs.parameters[name].runtime_value.constant)


each_profile = pytest.mark.parametrize("name", PROFILES)


@each_profile
def test_every_profile_compiles_to_what_kubeflow_reads(name, tmp_path):
    pipeline = compiled(tmp_path, profile(name))
    assert pipeline.spec.pipeline_info.name == PIPELINE_NAME
    assert {task.split("@")[0] for task in pipeline.tasks} == set(STAGES)
    assert list(pipeline.spec.root.input_definitions.parameters) == ["root"]
    assert all(container["image"] == CLUSTER.image for container in pipeline.executors.values())


@each_profile
def test_only_what_computes_on_a_gpu_asks_for_one_and_bears_its_taint(name, tmp_path):
    pipeline = compiled(tmp_path, profile(name))
    for task, container in pipeline.executors.items():
        resources, pod = container["resources"], pipeline.kubernetes[task]
        stage = STAGES[task.split("@")[0]]
        if stage.trains or stage.name == "benchmark":
            assert resources["accelerator"]["resourceType"] == "nvidia.com/gpu"
            assert resources["accelerator"]["resourceCount"] == "1"
            assert [(t.key, t.operator, t.effect) for t in pod.tolerations] == [
                ("nvidia.com/gpu", "Exists", "NoSchedule")
            ]
        else:
            assert "accelerator" not in resources
            assert not pod.tolerations
        settings = getattr(CLUSTER.stages, stage.name)
        assert resources["resourceCpuRequest"] == settings.cpu
        assert resources["resourceMemoryRequest"] == settings.memory
        assert resources["resourceMemoryLimit"] == settings.memory_limit
        assert "resourceCpuLimit" not in resources


@each_profile
def test_each_task_reads_exactly_the_params_of_its_stage(name, tmp_path):
    params = profile(name)
    for task, spec in compiled(tmp_path, params).tasks.items():
        stage = STAGES[task.split("@")[0]]
        text = constant(spec, "params")
        values = json.loads(text)
        if stage.name == "register_model":
            assert check_params(values).digest() == params.digest()
            assert set(values) == set(Params.model_fields) - {"runtime"}
        else:
            assert set(values) == {"profile", *stage.sections}
            assert check_params(values).digest(stage.sections) == params.digest(stage.sections)
        assert text == json.dumps(values, sort_keys=True)


@each_profile
def test_photos_are_mounted_where_they_are_read_and_checkpoints_where_they_are_written(name, tmp_path):
    params = profile(name)
    for task, pod in compiled(tmp_path, params).kubernetes.items():
        stage = STAGES[task.split("@")[0]]
        mounts = {mount.mount_path: mount.pvc_name_parameter.runtime_value.constant for mount in pod.pvc_mount}
        names = {path: value.string_value for path, value in mounts.items()}
        expected = {}
        if "source" in stage.inputs and params.fetch_faces.source != "drawn":
            expected["/gwainet/data/source"] = "gwainet-source"
        if stage.keeps_work:
            expected["/gwainet/.gwainet"] = "gwainet-work"
        assert names == expected


def trains(task: str) -> bool:
    return STAGES[task.split("@")[0]].trains


def on_gpu(task: str) -> bool:
    return trains(task) or task == "benchmark"


def test_a_package_gives_its_params_back_though_it_holds_a_trainjob_too(tmp_path):
    params = profile("pairs")
    compile_pipeline(params, with_stage("train_psnr", nodes=2), tmp_path / "pipeline.yaml")
    found = read_package(tmp_path / "pipeline.yaml").params()
    assert found is not None
    assert found.digest() == params.digest()


def test_photos_from_a_bucket_that_params_name_need_no_volume(tmp_path):
    location = ("fetch_faces.location=s3://bucket/celeba", f"fetch_faces.location_version={'a' * 12}")
    params = profile("celeba", *location)
    for task, pod in compiled(tmp_path, params).kubernetes.items():
        assert [mount.pvc_name_parameter.runtime_value.constant.string_value for mount in pod.pvc_mount] == (
            ["gwainet-work"] if STAGES[task.split("@")[0]].keeps_work else []
        )


def test_secrets_come_as_variables_and_the_run_and_params_by_the_pods_own_fields(tmp_path):
    values = CLUSTER.model_dump(mode="json")
    values["secrets"] = [{"secret": "s3", "variables": ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"]}]
    values["image_pull_secrets"] = ["registry"]
    params = profile("demo")
    pipeline = compiled(tmp_path, params, ClusterSettings.model_validate(values))
    for task, pod in pipeline.kubernetes.items():
        taken = {s.secret_name: {k.secret_key: k.env_var for k in s.key_to_env} for s in pod.secret_as_env}
        assert taken == {
            "gwainet-mlflow": {"MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_URI"},
            "s3": {name: name for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")},
        }
        assert [secret.secret_name for secret in pod.image_pull_secret] == ["registry"]
        assert {field.name: field.field_path for field in pod.field_path_as_env} == {
            "KFP_RUN_ID": "metadata.labels['pipeline/runid']",
            "GWAINET_PARAMS_DIGEST": "metadata.annotations['gwainet/params-digest']",
            "GWAINET_RUNTIME": "metadata.annotations['gwainet/runtime']",
        } | ({"GWAINET_KEEP_CHECKPOINTS": "metadata.annotations['gwainet/keep-checkpoints']"} if trains(task) else {})
        annotations = dict(pod.pod_metadata.annotations)
        assert annotations.pop("gwainet/keep-checkpoints", None) == ("true" if trains(task) else None)
        runtime = json.loads(annotations.pop("gwainet/runtime"))
        # whoever pays for a GPU is told that it cannot be used, in place of days on a CPU
        assert runtime == params.runtime.model_dump() | {"device": "cuda" if on_gpu(task) else "auto"}
        assert annotations == {"gwainet/params-digest": params.digest()}
        assert "env" not in pipeline.executors[task], "a literal variable is part of Kubeflow's cache key"


def test_without_a_secret_for_mlflow_none_is_asked_for(tmp_path):
    cluster = ClusterSettings.model_validate({**CLUSTER.model_dump(mode="json"), "mlflow": None})
    pods = compiled(tmp_path, profile("demo"), cluster).kubernetes.values()
    assert not any(pod.secret_as_env for pod in pods)


def test_caching_retries_and_time_limits_are_those_of_each_stage(tmp_path):
    cluster = with_stage(
        "train_psnr",
        caching=False,
        hours=1.5,
        retries={"count": 3, "backoff_seconds": 5, "backoff_factor": 3},
    )
    pipeline = compiled(tmp_path, profile("demo"), cluster)
    for task, spec in pipeline.tasks.items():
        name = task.split("@")[0]
        settings = getattr(cluster.stages, name)
        assert spec.caching_options.enable_cache == (name not in ("train_psnr", "register_model"))
        assert not spec.caching_options.cache_key, "a key of our own would hide a changed input"
        assert spec.retry_policy.max_retry_count == settings.retries.count
        assert pipeline.kubernetes[task].active_deadline_seconds == settings.hours * 3600
    policy = pipeline.tasks["train_psnr@banet"].retry_policy
    assert (policy.backoff_duration.seconds, policy.backoff_factor) == (5, 3)
    # Argo tries nothing again once this is over: four attempts of 1.5 hours, waits of 5, 15 and 45 s, a day of queues
    assert policy.backoff_max_duration.seconds == 4 * 5400 + 65 + 86400


def test_a_stage_without_retries_has_no_policy(tmp_path):
    tasks = compiled(tmp_path, profile("demo"), with_stage("benchmark", retries={"count": 0})).tasks
    assert not tasks["benchmark"].HasField("retry_policy")


def test_shared_memory_selectors_and_limits_reach_the_pod(tmp_path):
    cluster = with_stage(
        "train_adversarial",
        shared_memory="2Gi",
        cpu_limit="16",
        node_selector={"pool": "big"},
        tolerations=[{"key": "spot", "value": "yes", "effect": "NoSchedule"}],
    )
    values = cluster.model_dump(mode="json")
    values["gpu"]["node_selector"] = {"gpu": "h100"}
    pipeline = compiled(tmp_path, profile("demo"), ClusterSettings.model_validate(values))
    pod = pipeline.kubernetes["train_adversarial@gwanet"]
    assert [(m.mount_path, m.medium, m.size_limit) for m in pod.empty_dir_mounts] == [("/dev/shm", "Memory", "2Gi")]
    assert dict(pod.node_selector.labels) == {"gpu": "h100", "pool": "big"}
    assert [t.key for t in pod.tolerations] == ["nvidia.com/gpu", "spot"]
    assert pipeline.executors["train_adversarial@gwanet"]["resources"]["resourceCpuLimit"] == "16"
    others = pipeline.kubernetes["prepare_faces"]
    assert not others.empty_dir_mounts
    assert not others.node_selector.labels


def test_a_stage_that_is_given_no_gpu_asks_for_none_and_goes_to_any_node(tmp_path):
    pipeline = compiled(tmp_path, profile("demo"), with_stage("benchmark", gpus=0))
    assert "accelerator" not in pipeline.executors["benchmark"]["resources"]
    assert not pipeline.kubernetes["benchmark"].tolerations


TRAININGS = [name for name, stage in STAGES.items() if stage.shared]
ALONE = ("benchmark", "train_baselines")  # one process, one GPU


def with_trainings(**settings: Any) -> ClusterSettings:
    values = CLUSTER.model_dump(mode="json")
    for name in TRAININGS:
        values["stages"][name] |= settings
    values["gpu"]["node_selector"] = {"gpu": "h100"}
    values["image_pull_secrets"] = ["registry"]
    values["volumes"]["work"]["sub_path"] = "team"
    return ClusterSettings.model_validate(values)


@each_profile
def test_several_gpus_of_a_pod_come_with_the_shared_memory_that_nccl_needs(name, tmp_path):
    pipeline = compiled(tmp_path, profile(name), with_trainings(gpus=4))
    for task, container in pipeline.executors.items():
        trains = task.split("@")[0] in TRAININGS
        resources = container["resources"]
        gpus = resources["accelerator"]["resourceCount"] if "accelerator" in resources else "0"
        assert gpus == ("4" if trains else "1" if task.split("@")[0] in ALONE else "0")
        shared = [(m.mount_path, m.medium, m.size_limit) for m in pipeline.kubernetes[task].empty_dir_mounts]
        assert shared == ([("/dev/shm", "Memory", "4Gi")] if trains else [])
        assert "trainjob" not in pipeline.tasks[task].inputs.parameters


@each_profile
def test_a_pod_that_waits_for_a_job_on_several_nodes_asks_for_no_gpu(name, tmp_path):
    cluster = with_trainings(gpus=2, nodes=2, shared_memory="8Gi", hours=5.0)
    params = profile(name)
    pipeline = compiled(tmp_path, params, cluster)
    for task in pipeline.tasks:
        stage = task.split("@")[0]
        if stage not in TRAININGS:
            assert "trainjob" not in pipeline.tasks[task].inputs.parameters
            continue
        resources, pod = pipeline.executors[task]["resources"], pipeline.kubernetes[task]
        assert "accelerator" not in resources
        assert resources["resourceMemoryRequest"] == cluster.trainer.memory
        assert resources["resourceMemoryLimit"] == cluster.trainer.memory_limit
        assert not pod.tolerations
        assert not pod.node_selector.labels
        assert not pod.empty_dir_mounts
        assert pod.active_deadline_seconds == (5 + cluster.trainer.waiting_hours) * 3600
        fields = {field.name: field.field_path for field in pod.field_path_as_env}
        assert fields["GWAINET_NAMESPACE"] == "metadata.namespace"
        assert fields["GWAINET_POD"] == "metadata.name"
        (mount,) = pod.pvc_mount
        assert (mount.mount_path, mount.sub_path) == ("/gwainet/.gwainet", "team")
        job = json.loads(constant(pipeline.tasks[task], "trainjob"))
        assert job == json.loads(manifest(stage, params, cluster, "/gwainet/.gwainet"))
        assert "metadata" not in job, "what differs from run to run would defeat Kubeflow's cache"


@pytest.mark.parametrize(
    ("settings", "overrides", "message"),
    [
        ({"gpus": 3}, (), r"3 processes \(3 on each of 1 nodes\) cannot share pretrain_inet\.batch_size = 8"),
        (
            {"gpus": 4, "nodes": 2},
            (),
            r"8 processes \(4 on each of 2 nodes\) cannot share pretrain_wnet\.batch_size = 4",
        ),
        ({"gpus": 0, "nodes": 3}, (), r"3 processes .* cannot share"),
        ({"gpus": 4}, ("runtime.processes=2",), r"runtime\.processes = 2, but stages\.pretrain_inet\.gpus = 4"),
        ({"gpus": 0}, ("runtime.processes=3",), r"3 processes .* cannot share"),
    ],
)
def test_processes_that_cannot_share_a_batch_are_refused_before_anything_is_written(
    tmp_path, settings, overrides, message
):
    with pytest.raises(ParamsError, match=message):
        compile_pipeline(profile("demo", *overrides), with_trainings(**settings), tmp_path / "pipeline.yaml")
    assert not list(tmp_path.iterdir())


def test_a_param_changes_the_arguments_of_the_stages_that_read_it_alone(tmp_path):
    def arguments(params: Params) -> dict[str, str]:
        return {task: constant(spec, "params") for task, spec in compiled(tmp_path, params).tasks.items()}

    before, after = (arguments(profile("demo", *overrides)) for overrides in ((), ("train_adversarial.lambda_gp=9.0",)))
    changed = {task for task in before if before[task] != after[task]}
    assert changed == {"register_model"} | {task for task in before if task.startswith("train_adversarial@")}


def test_other_photos_change_the_first_stages_argument(tmp_path):
    values = CLUSTER.model_dump(mode="json")
    values["volumes"]["source"]["version"] = "with Ann"
    task = compiled(tmp_path, profile("lfw"), ClusterSettings.model_validate(values)).tasks["fetch_faces"]
    assert constant(task, "source_version") == "with Ann"


def test_the_same_input_gives_the_same_bytes_in_any_process(tmp_path):
    command = [sys.executable, "-m", "pipeline", "compile", "--profile", "pairs", "--out"]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([*command, tmp_path / f"{seed}.yaml"], cwd=PROJECT, env=environment, check=True)
    assert (tmp_path / "1.yaml").read_bytes() == (tmp_path / "2.yaml").read_bytes()


def test_a_file_that_kubeflow_would_refuse_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ParamsError, match=r"must end in \.yaml"):
        compile_pipeline(profile("demo"), CLUSTER, tmp_path / "pipeline.txt")
    assert not list(tmp_path.iterdir())


# --- prepare_faces in parts


def loop(path: Path, params: Params, parts: int) -> Any:
    """The whole compiled document, as YAML, of a cluster that prepares faces in parts."""
    compile_pipeline(params, with_stage("prepare_faces", parts=parts), path / "parts.yaml")
    return list(YAML(typ="safe").load_all((path / "parts.yaml").read_text(encoding="utf-8")))


@each_profile
def test_parts_are_a_loop_that_one_task_of_the_stages_name_waits_for(name, tmp_path):
    spec, platform = loop(tmp_path, profile(name), 4)
    json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    tasks = spec["root"]["dag"]["tasks"]
    (parts,) = (key for key in tasks if key.startswith("for-loop"))
    assert json.loads(tasks[parts]["parameterIterator"]["items"]["raw"]) == [0, 1, 2, 3]
    (merge,) = (key for key, task in tasks.items() if task["taskInfo"]["name"] == "prepare_faces")
    assert set(tasks[merge]["dependentTasks"]) == {"fetch-faces", parts}
    assert tasks["check-faces"]["dependentTasks"] == [merge]
    assert {task["taskInfo"]["name"].split("@")[0] for key, task in tasks.items() if key != parts} == set(STAGES)
    (inner,) = spec["components"][tasks[parts]["componentRef"]["name"]]["dag"]["tasks"].values()
    alone = compiled(tmp_path, profile(name)).tasks["prepare_faces"]
    for task in (inner, tasks[merge]):
        assert task["inputs"]["parameters"]["params"]["runtimeValue"]["constant"] == constant(alone, "params")
        assert task["retryPolicy"]["maxRetryCount"] == CLUSTER.stages.prepare_faces.retries.count
        assert task["cachingOptions"] == {"enableCache": True}
    assert inner["inputs"]["parameters"]["parts"]["runtimeValue"]["constant"] == 4
    pods = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    brought = name != "demo"
    assert ("pvcMount" in pods["exec-prepare-faces-part"]) == brought
    assert "pvcMount" not in pods["exec-prepare-faces-merge"], "to merge is to open no photo"
    for label in ("exec-prepare-faces-part", "exec-prepare-faces-merge"):
        container = spec["deploymentSpec"]["executors"][label]["container"]
        assert container["image"] == CLUSTER.image
        assert container["resources"]["resourceCpuRequest"] == CLUSTER.stages.prepare_faces.cpu


def test_one_part_is_the_stage_itself(tmp_path):
    compile_pipeline(profile("demo"), CLUSTER, tmp_path / "default.yaml")
    compile_pipeline(profile("demo"), with_stage("prepare_faces", parts=1), tmp_path / "one.yaml")
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "default.yaml").read_bytes()
    assert "for-loop" not in (tmp_path / "one.yaml").read_text()
