from pathlib import Path

import pytest

from gwainet.errors import ParamsError
from gwainet.stages import STAGES
from pipeline.cluster import ClusterSettings, Mlflow, Retries, load_cluster

PROJECT = Path(__file__).parents[2]
IMAGE = "image: registry.example.com/gwainet-python:0.1.0\n"


def load(folder: Path, text: str) -> ClusterSettings:
    path = folder / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    return load_cluster(path)


def test_the_projects_file_says_the_defaults():
    loaded = load_cluster(PROJECT / "cluster.yaml")
    assert loaded == ClusterSettings(image=loaded.image)


def test_an_image_is_enough(tmp_path):
    settings = load(tmp_path, IMAGE)
    assert settings.mlflow == Mlflow(secret="gwainet-mlflow", variables=("MLFLOW_TRACKING_URI",))
    assert settings.stages.train_psnr.retries == Retries(count=10, backoff_factor=1)


def test_a_stages_own_settings_leave_its_other_defaults_and_the_other_stages_alone(tmp_path):
    settings = load(tmp_path, IMAGE + "stages: {train_psnr: {hours: 2.5}}")
    assert settings.stages.train_psnr.hours == 2.5
    assert settings.stages.train_psnr.gpus == 1
    assert settings.stages.pretrain_wnet.hours == 96.0


def test_stages_that_compute_nothing_on_a_gpu_ask_for_none(tmp_path):
    settings = load(tmp_path, IMAGE)
    with_gpu = {name for name in STAGES if getattr(getattr(settings.stages, name), "gpus", 0)}
    assert with_gpu == {name for name, stage in STAGES.items() if stage.trains} | {"benchmark"}


@pytest.mark.parametrize(
    ("settings", "size"),
    [("gpus: 1", None), ("gpus: 4", "4Gi"), ("gpus: 4, shared_memory: 64Gi", "64Gi"), ("shared_memory: 2Gi", "2Gi")],
)
def test_processes_that_share_a_node_have_shared_memory(tmp_path, settings, size):
    assert load(tmp_path, IMAGE + f"stages: {{train_psnr: {{{settings}}}}}").stages.train_psnr.dev_shm == size


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("imag: x", "unknown param `imag`; known here: gpu, image"),
        (IMAGE + "stages: {train_psn: {}}", "unknown param `stages.train_psn`; known here: benchmark"),
        (IMAGE + "stages: {train_psnr: {gpu: 1}}", "unknown param `stages.train_psnr.gpu`; known here: caching"),
        (IMAGE + "stages: {fetch_faces: {gpus: 1}}", "unknown param `stages.fetch_faces.gpus`"),
        (IMAGE + "stages: {benchmark: {gpus: 2}}", "stages.benchmark.gpus = 2: one process computes this stage"),
        (IMAGE + "stages: {train_baselines: {gpus: 2}}", "stages.train_baselines.gpus = 2: one process computes"),
        (IMAGE + "stages: {train_baselines: {nodes: 2}}", "unknown param `stages.train_baselines.nodes`"),
        (IMAGE + "stages: {benchmark: {nodes: 2}}", "unknown param `stages.benchmark.nodes`"),
        (IMAGE + "stages: {train_psnr: {nodes: 0}}", "stages.train_psnr.nodes"),
        (IMAGE + "trainer: {runtimes: torch}", "unknown param `trainer.runtimes`; known here: cpu, kind, memory"),
        (IMAGE + "stages: {train_psnr: {gpus: '1'}}", "stages.train_psnr.gpus = '1'"),
        (IMAGE + "stages: {register_model: {caching: true}}", "registering is never cached"),
        (IMAGE + "stages: {train_psnr: {retries: {counts: 3}}}", "`stages.train_psnr.retries.counts`"),
        (IMAGE + "stages: {train_psnr: {tolerations: [{keys: a}]}}", "`stages.train_psnr.tolerations.0.keys`"),
        (IMAGE + "stages: {train_psnr: {memory: 8 GB}}", "stages.train_psnr.memory = '8 GB'"),
        (IMAGE + "stages: {train_psnr: {hours: 0}}", "stages.train_psnr.hours"),
        (IMAGE + "volumes: {source: {path: /data}}", "`volumes.source.path`; known here: claim, s3, sub_path, version"),
        (IMAGE + "mlflow: {uri: http://mlflow}", "unknown param `mlflow.uri`; known here: secret, variables"),
        (IMAGE + "mlflow: {variables: [MLFLOW_TRACKING_TOKEN]}", "MLFLOW_TRACKING_URI must be among them"),
        (IMAGE + "secrets: [{secret: s3, password: hunter2}]", "`secrets.0.password`"),
        (IMAGE + "secrets: [{secret: s3, variables: [MLFLOW_TRACKING_URI]}]", "taken from two secrets"),
        ("mlflow: {}", "image"),
        ("image: gwainet-python", "needs a tag other than `latest`, or a digest"),
        ("image: localhost:5000/gwainet-python", "needs a tag other than `latest`"),
        ("image: gwainet-python:latest", "needs a tag other than `latest`"),
        ("- 3", "must hold `image` and sections"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_a_wrong_setting_is_refused_by_its_full_name(tmp_path, text, message):
    with pytest.raises(ParamsError, match=r"cluster\.yaml") as caught:
        load(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "image", ["gwainet-python:1", "localhost:5000/gwainet-python:1", f"r.example.com/g@sha256:{'0' * 64}"]
)
def test_an_image_with_a_version_is_taken(tmp_path, image):
    assert load(tmp_path, f"image: {image}").image == image


def test_a_missing_file_says_how_to_name_another(tmp_path):
    with pytest.raises(ParamsError, match=r"does not exist: run from the project's root, or give --cluster FILE"):
        load_cluster(tmp_path / "cluster.yaml")


def test_a_bucket_takes_the_place_of_a_claim_and_is_read_back_the_same(tmp_path):
    settings = load(tmp_path, IMAGE + "volumes: {source: {s3: s3://photos}, work: {s3: s3://checkpoints/gwainet/}}")
    assert (settings.volumes.source.claim, settings.volumes.source.s3) == (None, "s3://photos")
    assert (settings.volumes.work.claim, settings.volumes.work.s3) == (None, "s3://checkpoints/gwainet")
    assert ClusterSettings.model_validate(settings.model_dump(mode="json")) == settings


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        ("{s3: s3://photos, claim: photos}", "s3 stands alone, without claim"),
        ('{s3: s3://photos, version: "2"}', "s3 stands alone, without version"),
        ("{s3: photos}", "volumes.source.s3 = 'photos': must be s3://bucket/prefix"),
        ("{claim: null}", "name a claim, or a bucket"),
    ],
)
def test_a_volume_is_a_claim_or_a_bucket(tmp_path, volume, message):
    with pytest.raises(ParamsError, match=message):
        load(tmp_path, IMAGE + f"volumes: {{source: {volume}}}")


def test_trainings_on_several_nodes_share_a_claim(tmp_path):
    text = IMAGE + "volumes: {work: {s3: s3://work}}\nstages: {train_psnr: {nodes: 2}}"
    with pytest.raises(ParamsError, match="train_psnr has several nodes, which share files on a claim"):
        load(tmp_path, text)
