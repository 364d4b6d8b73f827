"""The TrainJob of a training, held to the published models, and its command run by torchrun as Trainer runs it."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubeflow_trainer_api import models
from kubernetes import client
from mlflow import MlflowClient

from components import launcher
from components.trainjobs import TrainJobs
from gwainet.errors import PipelineError
from gwainet.params import Params, check_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from pipeline.cluster import ClusterSettings
from pipeline.trainjob import manifest, processes
from tests.components.server import Kubernetes
from tests.serving import serve
from tests.tracking.conftest import migrated, root  # noqa: F401  fixtures
from tests.training_params import PIPELINE

WORK = "/gwainet/.gwainet"
PARAMS = check_params({"profile": "tiny", **PIPELINE})


def cluster(**values: Any) -> ClusterSettings:
    stage = values.pop("stage", {})
    return ClusterSettings.model_validate(
        {"image": "registry/gwainet-python:1", "stages": {"train_psnr": {"nodes": 2, **stage}}, **values}
    )


def job(settings: ClusterSettings, params: Params = PARAMS) -> Any:
    return models.TrainerV1alpha1TrainJob.from_dict(json.loads(manifest("train_psnr", params, settings, WORK))).spec


def pod_of(spec: Any) -> Any:
    (patch,) = spec.runtime_patches
    (replicated,) = patch.training_runtime_spec.template.spec.replicated_jobs
    return replicated.template.spec.template


def test_every_node_gets_what_the_stage_asks_for():
    stage = {"gpus": 2, "cpu": "8", "cpu_limit": "16", "memory": "64Gi", "memory_limit": "128Gi", "hours": 2.5}
    spec = job(cluster(stage=stage))
    assert spec.runtime_ref.to_dict() == {"kind": "ClusterTrainingRuntime", "name": "torch-distributed"}
    assert spec.active_deadline_seconds == 9000
    assert spec.trainer.image == "registry/gwainet-python:1"
    assert (spec.trainer.num_nodes, spec.trainer.num_proc_per_node) == (2, 2)
    assert spec.trainer.resources_per_node.to_dict() == {
        "requests": {"cpu": "8", "memory": "64Gi", "nvidia.com/gpu": "2"},
        "limits": {"cpu": "16", "memory": "128Gi", "nvidia.com/gpu": "2"},
    }


def test_pods_mount_checkpoints_where_the_component_does_and_have_shared_memory():
    spec = pod_of(job(cluster(stage={"gpus": 2}, volumes={"work": {"claim": "shared", "sub_path": "team"}}))).spec
    (container,) = spec.containers
    assert container.name == "node"
    assert {mount.name: (mount.mount_path, mount.sub_path) for mount in container.volume_mounts} == {
        "work": (WORK, "team"),
        "shm": ("/dev/shm", None),
    }
    work, shm = spec.volumes
    assert work.persistent_volume_claim.claim_name == "shared"
    assert shm.empty_dir.to_dict() == {"medium": "Memory", "sizeLimit": "2Gi"}


def test_pods_go_to_the_nodes_of_gpus_and_of_the_stage_and_pull_with_the_secrets():
    settings = cluster(
        stage={"node_selector": {"pool": "spot"}, "tolerations": [{"key": "spot", "operator": "Exists"}]},
        gpu={"node_selector": {"gpu": "h100"}},
        image_pull_secrets=["registry"],
    )
    template = pod_of(job(settings))
    assert template.spec.node_selector == {"gpu": "h100", "pool": "spot"}
    assert [toleration.key for toleration in template.spec.tolerations] == ["nvidia.com/gpu", "spot"]
    assert [secret.name for secret in template.spec.image_pull_secrets] == ["registry"]
    assert template.metadata.labels == {"sidecar.istio.io/inject": "false"}


def test_without_gpus_each_node_has_one_process_on_any_node():
    spec = job(cluster(stage={"gpus": 0, "memory_limit": None}))
    assert spec.trainer.num_proc_per_node == 1
    assert spec.trainer.resources_per_node.to_dict() == {"requests": {"cpu": "4", "memory": "32Gi"}, "limits": {}}
    assert pod_of(spec).spec.tolerations is None
    assert pod_of(spec).spec.node_selector is None
    two = PARAMS.model_copy(update={"runtime": PARAMS.runtime.model_copy(update={"processes": 2})})
    assert processes("train_psnr", two, cluster(stage={"gpus": 0})) == 2


def test_passwords_come_by_reference_alone():
    secrets = [{"secret": "s3", "variables": ["AWS_SECRET_ACCESS_KEY"]}]
    env = [variable.to_dict() for variable in job(cluster(secrets=secrets)).trainer.env]
    assert env == [
        *(
            {"name": key, "valueFrom": {"secretKeyRef": {"key": key, "name": secret}}}
            for secret, key in (("gwainet-mlflow", "MLFLOW_TRACKING_URI"), ("s3", "AWS_SECRET_ACCESS_KEY"))
        ),
        {"name": "GWAINET_KEEP_CHECKPOINTS", "value": "true"},
    ]


def test_a_runtime_of_the_namespace_can_be_named():
    spec = job(cluster(trainer={"runtime": "torch-rdma", "kind": "TrainingRuntime"}))
    assert spec.runtime_ref.to_dict() == {"kind": "TrainingRuntime", "name": "torch-rdma"}


# ---------------------------------------------------------------- for real


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Trainer(Kubernetes):
    """Runs a job's command on this machine once for each node, with the variables of Trainer's torch policy.

    The policy's are PET_* (pkg/runtime/framework/plugins/torch/torch.go); references to secrets are looked up in this
    process's environment.
    """

    def create_job(self, request: SimpleNamespace) -> dict[str, Any]:
        made = super().create_job(request)
        trainer, port = made["spec"]["trainer"], str(free_port())
        command = [shutil.which(trainer["command"][0], path=str(Path(sys.executable).parent)), *trainer["command"][1:]]
        own = {variable["name"]: variable.get("value", "") for variable in trainer["env"]}
        self.pods = [
            subprocess.Popen(
                [*command, *trainer["args"]],
                env={
                    **{k: v for k, v in os.environ.items() if not k.startswith("GWAINET_")},
                    **{name: value for name, value in own.items() if value},
                    "PET_NNODES": str(trainer["numNodes"]),
                    "PET_NPROC_PER_NODE": str(trainer["numProcPerNode"]),
                    "PET_NODE_RANK": str(rank),
                    "PET_MASTER_ADDR": "127.0.0.1",
                    "PET_MASTER_PORT": port,
                    "OMP_NUM_THREADS": "1",
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(trainer["numNodes"])
        ]
        return made

    def condition(self) -> str:
        time.sleep(0.2)
        codes = [pod.poll() for pod in self.pods]
        if None in codes and not any(codes):
            return ""
        for rank, pod in enumerate(self.pods):
            ended = "" if not any(codes) else "-failed"
            self.logs[f"{next(iter(self.jobs))}-node-0-{rank}{ended}"] = pod.communicate(timeout=120)[0]
        return "Failed" if any(codes) else "Complete"


@pytest.mark.system
def test_torchrun_on_two_nodes_gives_what_one_process_gives(
    root: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """And what one of the processes says when it fails is the component's error."""
    paths = STAGES["pretrain_wnet"].paths("tiny", None, tmp_path / "pod")
    for name in ("fetch_faces", "prepare_faces", "check_faces"):
        made = STAGES[name].paths("tiny", None, tmp_path / "pod")
        STAGES[name].function()(PARAMS, recorder=NullRecorder(), **made)
    alone = {**paths, "out": tmp_path / "alone", "work": tmp_path / "work"}
    STAGES["pretrain_wnet"].function()(PARAMS, recorder=NullRecorder(), **alone)

    settings = ClusterSettings.model_validate(
        {"image": "x-python:1", "stages": {"pretrain_wnet": {"nodes": 2, "gpus": 0}}}
    )
    monkeypatch.setenv("KFP_RUN_ID", "run-1")
    monkeypatch.setenv("GWAINET_POD", "gwainet-x-1")
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "kfp/run-1")
    uri = f"sqlite:///{root / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with serve(Trainer()) as trainer:
        jobs = TrainJobs("team", client.Configuration(host=trainer.address), patience=60, pause=0.2, timeout=(10, 60))

        def train(params: Params) -> str:
            text = manifest("pretrain_wnet", params, settings, str(root / ".gwainet"))
            return launcher.execute(STAGES["pretrain_wnet"], text, params, None, paths, root, jobs)

        where = train(PARAMS)
        assert where
        logs = "".join(trainer.logs.values())
        broken = PARAMS.model_copy(update={"runtime": PARAMS.runtime.model_copy(update={"device": "cuda"})})
        monkeypatch.setenv("KFP_RUN_ID", "run-2")
        trainer.logs.clear()
        with pytest.raises(PipelineError) as caught:
            train(broken)
    assert "cuda" in str(caught.value)
    print(logs[-2000:], caught.value)

    ours, expected = (json.loads((folder / "metrics.json").read_text()) for folder in (paths["out"], alone["out"]))
    assert ours == pytest.approx(expected, rel=1e-4)
    experiment = MlflowClient(uri).get_experiment_by_name("gwainet")
    runs = MlflowClient(uri).search_runs([experiment.experiment_id], "tags.`gwainet.kind` = 'stage'")
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    parents = MlflowClient(uri).search_runs([experiment.experiment_id], "tags.`gwainet.kind` = 'pipeline'")
    assert {run.data.tags["gwainet.pipeline_key"] for run in parents} == {"kfp/run-1"}
    assert not trainer.jobs
