"""Stage `pretrain_inet`: the identity encoder alone."""

import pandas as pd
import pytest
import torch
from PIL import Image

from gwainet.nets.model import Metadata, build_inet, load_inet, read_weights
from tests.training_params import Project, content, metrics

STAGE = "pretrain_inet"
CPU = torch.device("cpu")
STEPS = 8  # 1 epoch of 15 faces in batches of 2


def test_the_files_of_the_formats_are_written_and_the_weights_say_what_they_are(project: Project):
    out = project.run(STAGE)
    faces = project.faces
    assert set(content(out)) == {"weights.safetensors", "metrics.json", "curves.csv", "validation.csv", "samples.png"}
    inet = load_inet(out / "weights.safetensors", CPU)
    assert inet(torch.zeros(1, 3, faces.height, faces.width)).shape == (1, 8)
    assert not any(parameter.requires_grad for parameter in inet.parameters())
    expected = Metadata("inet", project.params(STAGE).networks, faces.means, faces.height, faces.width)
    assert read_weights(out / "weights.safetensors", "inet")[1] == expected
    assert metrics(out).keys() == {"auc", "steps", "kept_step"}
    assert metrics(out)["steps"] == metrics(out)["kept_step"] == STEPS
    curves, validations = pd.read_csv(out / "curves.csv"), pd.read_csv(out / "validation.csv")
    assert list(curves.columns) == ["step", "pair"]
    assert curves["step"].tolist() == list(range(1, STEPS + 1))
    assert validations["step"].tolist() == [0, 4, STEPS]
    assert validations["auc"].iloc[-1] == pytest.approx(metrics(out)["auc"])
    with Image.open(out / "samples.png") as picture:
        assert picture.width > 2 * faces.width


def test_training_changes_every_layer(project: Project):
    trained, _ = read_weights(project.run(STAGE) / "weights.safetensors", "inet")
    fresh = build_inet(project.params(STAGE).networks, project.faces.height, project.faces.width, 0).state_dict()
    assert [name for name, tensor in trained.items() if torch.equal(tensor, fresh[name])] == []


def test_no_epochs_write_the_untrained_weights_of_the_seed(project: Project):
    out = project.run(STAGE, epochs=0.0, seed=7)
    tensors, _ = read_weights(out / "weights.safetensors", "inet")
    fresh = build_inet(project.params(STAGE).networks, project.faces.height, project.faces.width, 7).state_dict()
    assert tensors.keys() == fresh.keys()
    assert all(torch.equal(tensors[name], fresh[name]) for name in fresh)
    assert metrics(out) == {"steps": 0, "kept_step": 0}
    assert pd.read_csv(out / "curves.csv").empty
    assert project.checkpoints == []
