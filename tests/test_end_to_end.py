"""From drawn people to a registered model: the ten real stages, one after another, with real tracking."""

import json
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pytest
from mlflow import MlflowClient
from ruamel.yaml import YAML

from gwainet.__main__ import run_stage
from gwainet.dataset import Faces
from gwainet.stages import STAGES
from tests.tracking.conftest import client, migrated, root  # noqa: F401  fixtures
from tests.training_params import PIPELINE


def test_the_pipeline_ends_with_a_registered_model_that_super_resolves_and_knows_its_origin(
    root: Path,  # noqa: F811
    client: MlflowClient,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "end-to-end")
    (root / "data" / "source" / "tiny").mkdir(parents=True)
    params = root / "params.yaml"
    YAML(typ="safe").dump({"profile": "tiny", "base": {}, "profiles": {"tiny": PIPELINE}}, params)
    for stage in STAGES.values():
        for variant in stage.variants or (None,):
            run_stage(stage, variant, params, None, [], root)
            assert stage.paths("tiny", variant, root)["out"].is_dir(), (stage.name, variant)

    version = client.get_model_version_by_alias("tiny-faces", "challenger")
    faces = Faces(root / "data" / "tiny" / "faces")
    assert version.tags["gwainet.data_digest"] == faces.digest
    # drawn people have landmarks, so that every system is trained and in the table
    assert faces.landmarks is not None
    assert np.isfinite(faces.landmarks).all()
    report = json.loads((STAGES["benchmark"].paths("tiny", None, root)["out"] / "benchmark.json").read_text())
    assert report["untrained"] == {}
    assert "gfrnet_landmarks" in {entry["system"] for entry in report["systems"]}
    # not set_tracking_uri, which would outlive this test
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{root / 'mlflow.db'}")
    row = faces.targets("test")[:1]
    model = mlflow.pyfunc.load_model("models:/tiny-faces@challenger")
    picture = model.predict({"lr": np.array(faces.lr[row]), "guide": np.array(faces.hr[faces.guide_row[row]])})["sr"]
    assert (picture.shape, picture.dtype) == ((1, 168, 144, 3), np.uint8)

    experiment = client.get_experiment_by_name("gwainet")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.`gwainet.kind` = 'stage'")
    runs = {run.info.run_name: run for run in found}
    assert len(found) == len(runs) == sum(len(stage.variants) or 1 for stage in STAGES.values()) == 22
    assert {run.info.status for run in found} == {"FINISHED"}
    assert len({run.data.tags["mlflow.parentRunId"] for run in found}) == 1
    # from the registered model back to the photos: each input names the run that wrote it
    for name, reads, maker in (
        ("register_model", "report", "benchmark"),
        ("benchmark", "faces", "prepare_faces"),
        ("train_adversarial@gwainet", "psnr", "train_psnr@guided"),
        ("train_adversarial@gwainet", "inet", "pretrain_inet"),
        ("train_psnr@guided", "wnet", "pretrain_wnet"),
        ("pretrain_wnet", "faces", "prepare_faces"),
        ("prepare_faces", "raw", "fetch_faces"),
    ):
        assert runs[name].data.tags[f"gwainet.input.{reads}.run"] == runs[maker].info.run_id, (name, reads)
    assert version.run_id == runs["register_model"].info.run_id
