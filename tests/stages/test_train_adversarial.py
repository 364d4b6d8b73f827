"""Stage `train_adversarial`: the generator with critic and identity loss."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from gwainet.errors import CheckpointError, TrainingError
from gwainet.nets.model import build_cnet, load_generator, load_into, read_weights
from gwainet.training.took import Took
from tests.training_params import SEEDS_FILE, Interrupting, Project, alone, check_outputs, content, metrics

STAGE, PSNR = "train_adversarial", "train_psnr"
CPU = torch.device("cpu")
STEPS = 6  # 0.75 epochs of 15 faces in batches of 2
VARIANTS = ("gwainet", "gwanet", "banet")


@pytest.fixture
def started(project: Project) -> Project:
    """A project with all that this stage starts from, untrained."""
    for stage, variant in (("pretrain_inet", None), ("pretrain_wnet", None), (PSNR, "guided"), (PSNR, "banet")):
        project.run(stage, variant, epochs=0.0)
    return project


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_files_of_the_formats_are_written_and_the_weights_say_what_they_are(started: Project, variant):
    out, faces, guided = started.run(STAGE, variant), started.faces, variant != "banet"
    check_outputs(
        started,
        STAGE,
        out,
        kind="generator",
        steps=STEPS,
        losses={"critic", "wasserstein", "penalty", "total", "content", "adversarial", "identity"},
        validated={"psnr"},
        pictures=7 if guided else 4,
        guided=guided,
    )
    assert metrics(out)["critic_updates"] == 2 * STEPS
    took = Took.read(out)
    assert took is not None
    assert took.images == 2 * STEPS * (1 + 2)  # the generator's batch of 2, and the critic's two
    assert (took.epochs, took.same) == (0.75, None)
    generator = load_generator(out / "weights.safetensors", CPU)
    rows = faces.targets("test")[:1]
    assert generator.super_resolve(faces.lr[rows], faces.hr[rows]).sr.shape == (1, faces.height, faces.width, 3)
    tensors, metadata = read_weights(out / "critic.safetensors", "critic")
    assert (metadata.kind, metadata.height, metadata.width) == ("critic", faces.height, faces.width)
    critic = build_cnet(started.params(STAGE).networks, faces.height, faces.width, seed=0)
    fresh = {name: tensor.clone() for name, tensor in critic.state_dict().items()}
    load_into(critic, tensors, out)
    assert all(not torch.equal(tensors[name], fresh[name]) for name in fresh if name.endswith("weight"))
    identity = pd.read_csv(out / "curves.csv")["identity"].abs().max()
    assert (identity > 0) == (variant == "gwainet")


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return read_weights(directory / "weights.safetensors", "generator")[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("variant", "start"), [("gwainet", "guided"), ("gwanet", "guided"), ("banet", "banet")])
def test_an_empty_schedule_leaves_the_weights_of_the_psnr_phase(started: Project, variant, start):
    out = started.run(STAGE, variant, schedule=[])
    assert same(weights(out), weights(started.paths(PSNR, start)["out"]))
    assert metrics(out) == {"steps": 0, "kept_step": 0, "critic_updates": 0}


def test_the_identity_loss_makes_gwainet_another_network_than_gwanet(started: Project):
    gwainet, gwanet = weights(started.run(STAGE, "gwainet")), weights(started.run(STAGE, "gwanet"))
    assert gwainet.keys() == gwanet.keys()
    assert not same(gwainet, gwanet)


def test_without_lambda_id_gwainet_is_gwanet(started: Project):
    assert same(
        weights(started.run(STAGE, "gwainet", lambda_id=0.0)), weights(started.run(STAGE, "gwanet", lambda_id=0.0))
    )


@pytest.mark.parametrize("variant", ["gwanet", "banet"])
def test_the_variants_without_an_identity_loss_do_not_read_inet(started: Project, variant):
    with_inet = content(started.run(STAGE, variant, out="with"))
    shutil.rmtree(started.paths(STAGE, variant)["inet"])
    assert content(started.run(STAGE, variant, out="without")) == with_inet


def test_gwainet_without_inet_is_refused_and_nothing_is_written(started: Project):
    shutil.rmtree(started.paths(STAGE, "gwainet")["inet"])
    with pytest.raises(CheckpointError, match=r"pretrain_inet/weights\.safetensors does not exist"):
        started.run(STAGE, "gwainet")
    assert not started.paths(STAGE, "gwainet")["out"].exists()
    assert started.checkpoints == []


def test_inet_of_another_training_makes_other_weights(started: Project):
    first = weights(started.run(STAGE, "gwainet", out="first"))
    started.run("pretrain_inet", epochs=0.0, seed=5)
    assert not same(first, weights(started.run(STAGE, "gwainet", out="second")))


def test_r1_with_an_average_and_one_critic_update_resumes_to_the_same_bytes(started: Project):
    settings: dict[str, Any] = {
        "objective": "r1",
        "critic_updates": 1,
        "ema_decay": 0.5,
        "warm_up_steps": 2,
        "decay": "cosine",
    }
    whole = started.run(STAGE, "gwainet", out="whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        started.run(STAGE, "gwainet", Interrupting(3), out="again", **settings)
    again = started.run(STAGE, "gwainet", out="again", **settings)
    assert content(again) == content(whole)
    assert "margin" in pd.read_csv(whole / "curves.csv").columns


def test_a_critic_beyond_its_limit_stops_the_training_and_writes_nothing(started: Project):
    with pytest.raises(TrainingError, match=r"train_adversarial@gwanet: critic has exploded.*critic_limit"):
        started.run(STAGE, "gwanet", critic_limit=1e-6)
    assert not started.paths(STAGE, "gwanet")["out"].exists()


def test_a_guide_that_could_be_left_out_may_still_be_after_this_phase(started: Project):
    started.run(PSNR, "guided", epochs=0.0, guide_dropout=0.5)
    out = started.run(STAGE, "gwanet")
    assert read_weights(out / "weights.safetensors", "generator")[1].guide_optional


# ---------------------------------------------------------------- several seeds


@pytest.fixture
def seeded(started: Project) -> Project:
    """A project with what the PSNR phase writes for seeds 0, 2 and 1: untrained, so that they differ by their seed."""
    for variant in ("guided", "banet"):
        started.run(PSNR, variant, epochs=0.0, more_seeds=[2, 1])
    return started


@pytest.mark.parametrize(("variant", "start"), [("gwainet", "guided"), ("gwanet", "guided"), ("banet", "banet")])
def test_each_seed_goes_on_from_the_psnr_phases_of_the_same_seed(seeded: Project, variant, start):
    out = seeded.run(STAGE, variant, schedule=[], more_seeds=[1, 2])
    before = seeded.paths(PSNR, start)["out"]
    assert json.loads((out / SEEDS_FILE).read_text()) == {"seeds": [0, 1, 2]}
    for folder in ("", "seeds/1", "seeds/2"):
        assert same(weights(out / folder), weights(before / folder))
    assert not same(weights(out), weights(out / "seeds/1"))


def test_a_further_seed_is_trained_as_if_it_were_the_only_one(seeded: Project):
    out = seeded.run(STAGE, "gwainet", more_seeds=[2], out="several")
    first = alone(seeded.run(STAGE, "gwainet", out="first"))
    assert alone(out) == first
    seeded.run(PSNR, "guided", epochs=0.0, seed=2)
    second = alone(seeded.run(STAGE, "gwainet", seed=2, out="second"))
    assert alone(out / "seeds/2") == second
    assert not same(weights(out), weights(out / "seeds/2"))
    took = Took.read(out / "seeds/2")
    assert took is not None
    assert took.images == 2 * STEPS * (1 + 2)


def test_a_stage_killed_between_its_seeds_trains_no_finished_one_again(seeded: Project, capsys):
    whole = content(seeded.run(STAGE, "gwanet", more_seeds=[2], out="whole"))
    with pytest.raises(KeyboardInterrupt):
        seeded.run(STAGE, "gwanet", Interrupting(3), more_seeds=[2], out="continued")
    capsys.readouterr()
    assert content(seeded.run(STAGE, "gwanet", more_seeds=[2], out="continued")) == whole
    assert "train_adversarial@gwanet: seed 2 is trained already" in " ".join(capsys.readouterr().err.split())


def test_a_seed_that_the_psnr_phase_was_not_trained_with_is_told_before_any_training(seeded: Project):
    wrong = (
        r"seeds/7/weights\.safetensors does not exist: .* Have 7 in train_psnr\.more_seeds, and run train_psnr again"
    )
    with pytest.raises(CheckpointError, match=wrong):
        seeded.run(STAGE, "gwanet", more_seeds=[2, 7])
    assert not list((seeded.root / ".gwainet").rglob("train_adversarial@*"))
    assert not seeded.paths(STAGE, "gwanet")["out"].exists()


def test_with_more_seeds_the_first_one_must_be_the_psnr_phases_first(seeded: Project):
    with pytest.raises(CheckpointError, match=r"trained with seed 0, and train_adversarial\.seed is 5"):
        seeded.run(STAGE, "gwanet", seed=5, more_seeds=[2])
    seeded.run(STAGE, "gwanet", seed=5)  # alone it goes on from whatever there is, as ever
