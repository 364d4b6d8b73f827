"""What every training stage owes to its session: the same bytes, nothing half-written, resuming."""

import pytest
import torch

from gwainet.errors import ContractError
from gwainet.files import write_json
from tests.training_params import Curves, Interrupting, Project, content, make_project

VARIANTS = {"pretrain_inet": None, "pretrain_wnet": None, "train_psnr": "guided", "train_adversarial": "gwainet"}


@pytest.fixture(params=VARIANTS)
def stage(request) -> str:
    return str(request.param)


@pytest.fixture
def project(tmp_path, stage: str) -> Project:
    """A project with all that the stage starts from."""
    torch.set_num_threads(1)
    project = make_project(tmp_path)
    for earlier in list(VARIANTS)[: list(VARIANTS).index(stage)]:
        project.run(earlier, VARIANTS[earlier], epochs=0.0)
    return project


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_weights(project: Project, stage: str):
    first = content(project.run(stage, VARIANTS[stage], out="first"))
    second = content(project.run(stage, VARIANTS[stage], out="second"))
    other = content(project.run(stage, VARIANTS[stage], out="other", seed=1))
    assert first == second
    assert other["weights.safetensors"] != first["weights.safetensors"]


def test_faces_that_were_not_checked_are_refused_and_nothing_is_written(project: Project, stage: str):
    paths = project.paths(stage, VARIANTS[stage])
    paths["passed"].unlink()
    with pytest.raises(ContractError, match="run check_faces first"):
        project.run(stage, VARIANTS[stage])
    assert not paths["out"].exists()
    assert project.checkpoints == []


def test_faces_that_changed_since_their_check_are_refused_and_an_earlier_result_stays(project: Project, stage: str):
    paths = project.paths(stage, VARIANTS[stage])
    before = content(project.run(stage, VARIANTS[stage]))
    write_json(paths["passed"], {"format": 1, "digest": "of other faces", "expectations": 1})
    with pytest.raises(ContractError, match="run check_faces again"):
        project.run(stage, VARIANTS[stage])
    assert content(paths["out"]) == before


@pytest.mark.parametrize("step", [1, 2, 5])  # before the first checkpoint, before and after a validation (step 4)
def test_an_interrupted_training_continues_to_the_bytes_of_an_uninterrupted_one(
    project: Project, stage: str, step: int, capsys
):
    variant = VARIANTS[stage]
    whole = content(project.run(stage, variant, out="whole"))
    with pytest.raises(KeyboardInterrupt):
        project.run(stage, variant, recorder=Interrupting(step))
    assert not project.paths(stage, variant)["out"].exists()
    assert len(project.checkpoints) == (step > 1)
    capsys.readouterr()
    out = project.run(stage, variant)
    said = " ".join(capsys.readouterr().err.split())
    assert (f"resumed at step {step - 1} of" in said) == (step > 1)
    assert content(out) == whole
    assert project.checkpoints == []


def test_a_checkpoint_of_other_params_is_not_continued(project: Project, stage: str):
    variant = VARIANTS[stage]
    with pytest.raises(KeyboardInterrupt):
        project.run(stage, variant, recorder=Interrupting(3))
    other = content(project.run(stage, variant, out="resumed", seed=1))
    assert other == content(project.run(stage, variant, out="fresh", seed=1))
    assert len(project.checkpoints) == 1  # the interrupted one still waits for its own params


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_losses_on_cuda_are_those_of_the_cpu(project: Project, stage: str):
    cpu, cuda = Curves(), Curves()
    project.run(stage, VARIANTS[stage], recorder=cpu, out="cpu")
    project.run(stage, VARIANTS[stage], recorder=cuda, out="cuda", runtime={"device": "cuda"})
    assert cpu.steps.keys() == cuda.steps.keys()
    for step, losses in cpu.steps.items():
        # convolutions sum in another order, on some devices with TF32's 10 bits; the updates carry that on
        assert cuda.steps[step] == pytest.approx(losses, rel=2e-2, abs=2e-2), step
