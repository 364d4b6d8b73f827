"""Stage `train_psnr`: warper and generator, or SRnet alone, with L_content."""

import pandas as pd
import pytest
import torch
from PIL import Image

from gwainet.errors import CheckpointError, ContractError
from gwainet.files import write_json
from gwainet.nets.model import Metadata, build_generator, build_wnet, load_generator, read_weights
from tests.training_params import Curves, Interrupting, Project, content, metrics

STAGE = "train_psnr"
CPU = torch.device("cpu")
STEPS = 8  # 1 epoch of 15 faces in batches of 2
VARIANTS = ("guided", "banet")


@pytest.fixture
def warped(project: Project) -> Project:
    """A project with a pretrained warper."""
    project.run("pretrain_wnet", seed=3, epochs=0.25)
    return project


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_files_of_the_formats_are_written_and_the_weights_say_what_they_are(warped: Project, variant):
    out = warped.run(STAGE, variant)
    faces, guided = warped.faces, variant == "guided"
    assert set(content(out)) == {"weights.safetensors", "metrics.json", "curves.csv", "validation.csv", "samples.png"}
    networks = warped.params(STAGE).networks
    expected = Metadata("generator", networks, faces.means, faces.height, faces.width, guided)
    assert read_weights(out / "weights.safetensors", "generator")[1] == expected
    generator = load_generator(out / "weights.safetensors", CPU)
    rows = faces.targets("test")[:1]
    assert generator.super_resolve(faces.lr[rows], faces.hr[rows]).sr.shape == (1, faces.height, faces.width, 3)
    assert metrics(out).keys() == {"psnr", "steps", "kept_step"}
    curves, validations = pd.read_csv(out / "curves.csv"), pd.read_csv(out / "validation.csv")
    assert list(curves.columns) == ["step", "content"]
    assert curves["step"].tolist() == list(range(1, STEPS + 1))
    assert list(validations.columns) == ["step", "psnr"]
    assert validations["step"].tolist() == [0, 4, STEPS]
    with Image.open(out / "samples.png") as picture:
        assert picture.width > (5 if guided else 3) * faces.width


def test_the_guided_variant_starts_from_the_pretrained_warper(warped: Project):
    out = warped.run(STAGE, "guided", epochs=0.0, seed=7)
    tensors, _ = read_weights(out / "weights.safetensors", "generator")
    networks, faces = warped.params(STAGE).networks, warped.faces
    warper, _ = read_weights(warped.paths("pretrain_wnet")["out"] / "weights.safetensors", "wnet")
    fresh = build_generator(networks, faces.means, guided=True, seed=7).state_dict()
    expected = {name: warper.get(name.removeprefix("wnet."), tensor) for name, tensor in fresh.items()}
    assert tensors.keys() == expected.keys()
    assert all(torch.equal(tensors[name], expected[name]) for name in expected)
    assert not torch.equal(warper["conv_flow.weight"], build_wnet(networks, 7).conv_flow.weight)


def test_banet_needs_no_warper_and_without_epochs_is_untrained(project: Project):
    out = project.run(STAGE, "banet", epochs=0.0, seed=7)
    tensors, _ = read_weights(out / "weights.safetensors", "generator")
    networks = project.params(STAGE).networks
    fresh = build_generator(networks, project.faces.means, guided=False, seed=7).state_dict()
    assert tensors.keys() == fresh.keys()
    assert all(torch.equal(tensors[name], fresh[name]) for name in fresh)
    assert metrics(out) == {"steps": 0, "kept_step": 0}


def test_a_missing_warper_is_told_by_its_path_and_nothing_is_written(project: Project):
    project.run("pretrain_wnet", epochs=0.0)
    (project.paths(STAGE, "guided")["wnet"] / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"pretrain_wnet/weights\.safetensors does not exist"):
        project.run(STAGE, "guided")
    assert not project.paths(STAGE, "guided")["out"].exists()


def test_a_warper_of_another_size_is_refused(project: Project):
    project.run("pretrain_wnet", epochs=0.0, networks={"width": 6})
    with pytest.raises(CheckpointError, match="does not fit these networks"):
        project.run(STAGE, "guided")


def test_the_weights_of_the_highest_validation_psnr_are_kept(warped: Project):
    """A learning rate far too high soon makes things worse, and patience ends the training early."""
    out = warped.run(STAGE, "guided", learning_rate=0.3, validate_every=1, patience=3, epochs=20.0)
    validations = pd.read_csv(out / "validation.csv")
    best = validations.iloc[int(validations["psnr"].to_numpy().argmax())]
    assert metrics(out)["kept_step"] == best["step"] < metrics(out)["steps"] == best["step"] + 3
    assert metrics(out)["psnr"] == pytest.approx(best["psnr"])
    kept, _ = read_weights(out / "weights.safetensors", "generator")
    # a training that ends at the best step has the weights of that step, which are the ones that were kept
    batches = metrics(warped.run(STAGE, "guided", out="epoch", learning_rate=0.3, validate_every=1, epochs=1.0))[
        "steps"
    ]
    ends = warped.run(STAGE, "guided", out="ends", learning_rate=0.3, validate_every=1, epochs=best["step"] / batches)
    assert metrics(ends)["steps"] == best["step"]
    last, _ = read_weights(ends / "weights.safetensors", "generator")
    assert all(torch.equal(kept[name], last[name]) for name in kept)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_weights(warped: Project):
    first = content(warped.run(STAGE, "guided", out="first"))
    second = content(warped.run(STAGE, "guided", out="second"))
    other = content(warped.run(STAGE, "guided", out="other", seed=1))
    assert first == second
    assert other["weights.safetensors"] != first["weights.safetensors"]


def test_faces_that_were_not_checked_are_refused_and_nothing_is_written(warped: Project):
    paths = warped.paths(STAGE, "guided")
    paths["passed"].unlink()
    with pytest.raises(ContractError, match="run check_faces first"):
        warped.run(STAGE, "guided")
    assert not paths["out"].exists()
    assert warped.checkpoints == []


def test_faces_that_changed_since_their_check_are_refused_and_an_earlier_result_stays(warped: Project):
    paths = warped.paths(STAGE, "guided")
    before = content(warped.run(STAGE, "guided"))
    write_json(paths["passed"], {"format": 1, "digest": "of other faces", "expectations": 1})
    with pytest.raises(ContractError, match="run check_faces again"):
        warped.run(STAGE, "guided")
    assert content(paths["out"]) == before


@pytest.mark.parametrize("step", [1, 2, 5])  # before the first checkpoint, before and after a validation (step 4)
def test_an_interrupted_training_continues_to_the_bytes_of_an_uninterrupted_one(warped: Project, capsys, step):
    whole = content(warped.run(STAGE, "guided", out="whole"))
    with pytest.raises(KeyboardInterrupt):
        warped.run(STAGE, "guided", recorder=Interrupting(step))
    assert not warped.paths(STAGE, "guided")["out"].exists()
    assert len(warped.checkpoints) == (step > 1)
    capsys.readouterr()
    out = warped.run(STAGE, "guided")
    said = " ".join(capsys.readouterr().err.split())
    assert (f"resumed at step {step - 1} of" in said) == (step > 1)
    assert content(out) == whole
    assert warped.checkpoints == []


def test_a_checkpoint_of_other_params_is_not_continued(warped: Project):
    with pytest.raises(KeyboardInterrupt):
        warped.run(STAGE, "guided", recorder=Interrupting(3))
    other = content(warped.run(STAGE, "guided", out="resumed", seed=1))
    assert other == content(warped.run(STAGE, "guided", out="fresh", seed=1))
    assert len(warped.checkpoints) == 1  # the interrupted one still waits for its own params


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_losses_on_cuda_are_those_of_the_cpu(warped: Project):
    cpu, cuda = Curves(), Curves()
    warped.run(STAGE, "guided", recorder=cpu, out="cpu")
    warped.run(STAGE, "guided", recorder=cuda, out="cuda", runtime={"device": "cuda"})
    assert cpu.steps.keys() == cuda.steps.keys()
    for step, losses in cpu.steps.items():
        # convolutions sum in another order, on some devices with TF32's 10 bits; the updates carry that on
        assert cuda.steps[step] == pytest.approx(losses, rel=2e-2, abs=2e-2), step
