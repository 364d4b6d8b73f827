"""Stage `pretrain_inet`: the identity encoder alone."""

import pandas as pd
import pytest
import torch
from PIL import Image

from gwainet.errors import ContractError
from gwainet.files import write_json
from gwainet.nets.model import Metadata, build_inet, load_inet, read_weights
from tests.training_params import Curves, Interrupting, Project, content, metrics

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


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_weights(project: Project):
    first = content(project.run(STAGE, out="first"))
    second = content(project.run(STAGE, out="second"))
    other = content(project.run(STAGE, out="other", seed=1))
    assert first == second
    assert other["weights.safetensors"] != first["weights.safetensors"]


def test_faces_that_were_not_checked_are_refused_and_nothing_is_written(project: Project):
    paths = project.paths(STAGE)
    paths["passed"].unlink()
    with pytest.raises(ContractError, match="run check_faces first"):
        project.run(STAGE)
    assert not paths["out"].exists()
    assert project.checkpoints == []


def test_faces_that_changed_since_their_check_are_refused_and_an_earlier_result_stays(project: Project):
    paths = project.paths(STAGE)
    before = content(project.run(STAGE))
    write_json(paths["passed"], {"format": 1, "digest": "of other faces", "expectations": 1})
    with pytest.raises(ContractError, match="run check_faces again"):
        project.run(STAGE)
    assert content(paths["out"]) == before


@pytest.mark.parametrize("step", [1, 2, 5])  # before the first checkpoint, before and after a validation (step 4)
def test_an_interrupted_training_continues_to_the_bytes_of_an_uninterrupted_one(project: Project, capsys, step):
    whole = content(project.run(STAGE, out="whole"))
    with pytest.raises(KeyboardInterrupt):
        project.run(STAGE, recorder=Interrupting(step))
    assert not project.paths(STAGE)["out"].exists()
    assert len(project.checkpoints) == (step > 1)
    capsys.readouterr()
    out = project.run(STAGE)
    said = " ".join(capsys.readouterr().err.split())
    assert (f"resumed at step {step - 1} of" in said) == (step > 1)
    assert content(out) == whole
    assert project.checkpoints == []


def test_a_checkpoint_of_other_params_is_not_continued(project: Project):
    with pytest.raises(KeyboardInterrupt):
        project.run(STAGE, recorder=Interrupting(3))
    other = content(project.run(STAGE, out="resumed", seed=1))
    assert other == content(project.run(STAGE, out="fresh", seed=1))
    assert len(project.checkpoints) == 1  # the interrupted one still waits for its own params


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_losses_on_cuda_are_those_of_the_cpu(project: Project):
    cpu, cuda = Curves(), Curves()
    project.run(STAGE, recorder=cpu, out="cpu")
    project.run(STAGE, recorder=cuda, out="cuda", runtime={"device": "cuda"})
    assert cpu.steps.keys() == cuda.steps.keys()
    for step, losses in cpu.steps.items():
        # convolutions sum in another order, on some devices with TF32's 10 bits; the updates carry that on
        assert cuda.steps[step] == pytest.approx(losses, rel=2e-2, abs=2e-2), step
