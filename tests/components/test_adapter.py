"""Stages run through their components, in this process, on artifacts as kfp gives them."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from components import adapter
from components.check_faces import check_faces
from components.fetch_faces import fetch_faces
from components.prepare_faces import prepare_faces
from components.pretrain_wnet import pretrain_wnet
from gwainet.errors import ParamsError, TrackingError
from gwainet.params import Params, check_params, load_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from gwainet.tracking.execution import data_digest
from pipeline.graph import params_of
from tests.tracking.conftest import client, migrated, root  # noqa: F401  fixtures
from tests.training_params import PIPELINE, content

PARAMS = check_params({"profile": "tiny", **PIPELINE})


@pytest.fixture(autouse=True)
def no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KFP_RUN_ID", "GWAINET_PARAMS_DIGEST", "GWAINET_MLFLOW_PAGES", "GWAINET_COMMIT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "a test")
    monkeypatch.setenv("GWAINET_RUNTIME", PARAMS.runtime.model_dump_json())


@dataclass
class Artifact:
    """What kfp hands to a component."""

    path: str
    metadata: dict[str, Any] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)

    def log_metric(self, metric: str, value: float) -> None:
        self.numbers[metric] = value


@dataclass
class Outputs:
    """The three outputs of a component."""

    out: Artifact
    metrics: Artifact
    page: Artifact


def call(component: Any, name: str, folder: Path, root: Path, params: Params = PARAMS, **arguments: Any) -> Outputs:  # noqa: F811
    """Run a component as kfp's executor does: `out`'s directory does not exist, the one above it does."""
    place = folder / name
    place.mkdir(parents=True)
    made = Outputs(*(Artifact(str(place / kind)) for kind in ("out", "metrics", "page")))
    component.python_func(params=params_of(name, params), root=str(root), **vars(made), **arguments)
    return made


def fetched(folder: Path, root: Path) -> Outputs:  # noqa: F811
    return call(fetch_faces, "fetch_faces", folder, root, source_version="1")


def runs(client: MlflowClient, kind: str) -> dict[str, Run]:  # noqa: F811
    experiment = client.get_experiment_by_name("gwainet")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], f"tags.`gwainet.kind` = '{kind}'")
    return {run.info.run_name: run for run in found}


def test_components_give_the_files_that_dvc_gets_and_know_where_each_came_from(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    tmp_path: Path,
):
    artifacts = tmp_path / "artifacts"
    raw = fetched(artifacts, root)
    faces = call(prepare_faces, "prepare_faces", artifacts, root, raw=raw.out)
    passed = call(check_faces, "check_faces", artifacts, root, faces=faces.out)
    wnet = call(pretrain_wnet, "pretrain_wnet", artifacts, root, faces=faces.out, passed=passed.out)

    by_dvc = tmp_path / "dvc"
    for name, made in {
        "fetch_faces": raw,
        "prepare_faces": faces,
        "check_faces": passed,
        "pretrain_wnet": wnet,
    }.items():
        stage = STAGES[name]
        paths: dict[str, Any] = stage.paths("tiny", None, by_dvc)
        more = {"work": by_dvc / ".gwainet"} if stage.trains else {}
        stage.function()(PARAMS, recorder=NullRecorder(), **paths, **more)
        assert content(Path(made.out.path)) == content(paths["out"]), name
        assert {path.name for path in Path(made.out.path).parent.iterdir()} == {"out", "metrics", "page"}

    recorded = runs(client, "stage")
    assert {run.info.status for run in recorded.values()} == {"FINISHED"}
    assert len(runs(client, "pipeline")) == 1
    tags = recorded["pretrain_wnet"].data.tags
    assert tags["gwainet.input.faces.run"] == recorded["prepare_faces"].info.run_id
    assert tags["gwainet.output_digest"] == data_digest(Path(wnet.out.path))

    assert wnet.metrics.numbers == json.loads((Path(wnet.out.path) / "metrics.json").read_text())
    assert json.loads(Path(wnet.metrics.path).read_text()) == wnet.metrics.numbers
    assert set(raw.metrics.numbers) == {"photos", "identities"}
    assert {"images.train", "identities.test", "found"} <= set(faces.metrics.numbers)
    before, after = (Path(passed.out.path) / "report.html").read_text().split("<body>")
    shown = Path(passed.page.path).read_text()
    assert shown.startswith(f"{before}<body><p>MLflow: ")
    assert shown.endswith(f"</p>{after}")
    assert "data:image/png;base64," in Path(wnet.page.path).read_text()


def test_in_a_pod_the_run_belongs_to_the_kubeflow_run_and_its_page_is_linked(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("KFP_RUN_ID", "1234-abcd")
    monkeypatch.setenv("GWAINET_PARAMS_DIGEST", "digest of all")
    monkeypatch.setenv("GWAINET_COMMIT", "c" * 40)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    monkeypatch.setenv("GWAINET_MLFLOW_PAGES", "https://mlflow.example.com/")
    raw = fetched(tmp_path / "artifacts", root)
    (parent,) = runs(client, "pipeline").values()
    assert parent.data.tags["gwainet.pipeline_key"] == "kfp/1234-abcd"
    assert parent.data.tags["gwainet.params_digest"] == "digest of all"
    assert parent.data.tags["gwainet.commit"] == "c" * 40
    run = runs(client, "stage")["fetch_faces"].info
    address = (
        f"https://mlflow.example.com/#/experiments/{run.experiment_id}/runs/{run.run_id}?workflowType=machine_learning"
    )
    assert raw.out.metadata == {"mlflow": address}
    assert f'<a href="{address}"' in Path(raw.page.path).read_text()


def test_a_pod_without_mlflow_stops_before_it_computes_what_would_be_lost(
    root: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("KFP_RUN_ID", "1234-abcd")
    with pytest.raises(TrackingError, match="name a secret that holds it under `mlflow`"):
        fetched(tmp_path / "artifacts", root)
    assert not list((tmp_path / "artifacts" / "fetch_faces").iterdir())


@pytest.mark.parametrize("params", ["{", "[]", '{"profile": "tiny", "fetch_face": {}}'])
def test_params_that_are_none_are_refused(params, tmp_path):
    out = Artifact(str(tmp_path / "out"))
    with pytest.raises(ParamsError, match="the pipeline's params"):
        adapter.run("fetch_faces", params, str(tmp_path), out, out, out)


def written(folder: Path, *names: str) -> Artifact:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text(f"{folder.name} {name}")
    return Artifact(str(folder))


@pytest.mark.parametrize("stage", STAGES)
def test_a_task_takes_the_params_that_it_is_given_which_are_its_own_stages_alone(stage, monkeypatch):
    monkeypatch.delenv("KFP_RUN_ID", raising=False)
    seeds = ("train_psnr.seed=4", "train_psnr.more_seeds=[1,2]", "train_adversarial.seed=4")
    params = load_params(
        Path(__file__).parents[2] / "params.yaml", "demo", (*seeds, "train_adversarial.more_seeds=[2]")
    )
    found = adapter.settings_of(params_of(stage, params))
    for section in STAGES[stage].sections:
        if section != "runtime":
            assert getattr(found, section) == getattr(params, section)


def test_a_stage_reads_artifacts_where_they_lie_and_variants_side_by_side_under_dvcs_names(tmp_path):
    made = {
        name: written(tmp_path / "made" / name, "weights.safetensors", "passed.json")
        for name in ("faces", "passed", "psnr_guided", "psnr_banet", "adversarial_gwanet")
    }
    paths = adapter.gather(STAGES["benchmark"], "tiny", None, tmp_path / "scratch", made)
    assert paths["faces"] == tmp_path / "made" / "faces"
    assert paths["passed"] == tmp_path / "made" / "passed" / "passed.json"
    for variant in ("guided", "banet"):
        copied = tmp_path / "scratch" / "models" / "tiny" / "train_psnr" / variant
        assert copied == paths["psnr"] / variant
        assert content(copied) == content(tmp_path / "made" / f"psnr_{variant}")
    assert not any(path.is_symlink() for path in (tmp_path / "scratch").rglob("*"))
    assert (paths["adversarial"] / "gwanet" / "weights.safetensors").is_file()


def test_an_input_that_a_variant_does_not_read_is_absent(tmp_path):
    made = {"psnr": written(tmp_path / "made"), "inet": None}
    paths = adapter.gather(STAGES["train_adversarial"], "tiny", "gwanet", tmp_path / "scratch", made)
    assert paths["psnr"] == tmp_path / "made"
    assert not paths["inet"].exists()


def test_a_benchmarks_page_is_its_report(tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "benchmark.html").write_text("<head></head><body><p>GWAInet is better</p></body>")
    (out / "metrics.json").write_text(json.dumps({"test": {"gwainet": {"psnr": 20.0}}}))
    metrics, page = Artifact(str(tmp_path / "metrics")), Artifact(str(tmp_path / "page"))
    adapter.show("benchmark", "benchmark, profile tiny", "https://mlflow/#/runs/1?a&b", metrics, page, out)
    link = '<a href="https://mlflow/#/runs/1?a&amp;b">https://mlflow/#/runs/1?a&amp;b</a>'
    assert Path(page.path).read_text() == (f"<head></head><body><p>MLflow: {link}</p><p>GWAInet is better</p></body>")
    assert metrics.numbers == {"test.gwainet.psnr": 20.0}
