"""Stage `train_psnr`: warper and generator, or SRnet alone, with L_content."""

import json
from typing import Any

import pandas as pd
import pytest
import torch

from gwainet.errors import CheckpointError, ParamsError
from gwainet.nets.model import build_generator, build_wnet, load_generator, read_weights
from tests.training_params import SEEDS_FILE, Interrupting, Project, alone, check_outputs, content, metrics

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
    out, faces, guided = warped.run(STAGE, variant), warped.faces, variant == "guided"
    validated, pictures = {"psnr"}, 7 if guided else 4
    check_outputs(
        warped,
        STAGE,
        out,
        kind="generator",
        steps=STEPS,
        losses={"content"},
        validated=validated,
        pictures=pictures,
        guided=guided,
    )
    generator = load_generator(out / "weights.safetensors", CPU)
    rows = faces.targets("test")[:1]
    assert generator.super_resolve(faces.lr[rows], faces.hr[rows]).sr.shape == (1, faces.height, faces.width, 3)


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


PLUS: dict[str, Any] = {
    "ema_decay": 0.5,
    "guide_dropout": 0.25,
    "other_guides": 0.25,
    "horizontal_flip": True,
    "warm_up_steps": 2,
    "decay": "cosine",
    "networks": {"image_skip": True},
}


def test_with_every_param_that_is_not_the_papers_an_interrupted_training_ends_with_the_same_bytes(warped: Project):
    whole = warped.run(STAGE, "guided", out="whole", **PLUS)
    with pytest.raises(KeyboardInterrupt):
        warped.run(STAGE, "guided", Interrupting(5), out="again", **PLUS)
    again = warped.run(STAGE, "guided", out="again", **PLUS)
    assert content(again) == content(whole)


def test_the_averaged_weights_are_what_is_written_and_their_guide_may_be_left_out(warped: Project):
    settings = {**PLUS, "networks": {}}  # with the skip nothing becomes better than bicubic in so few steps
    out = warped.run(STAGE, "guided", **settings)
    plain = warped.run(STAGE, "guided", out="plain", **{**settings, "ema_decay": 0.0})
    assert metrics(out)["kept_step"] > 1
    faces, generator = warped.faces, load_generator(out / "weights.safetensors", CPU)
    averaged, trained = (read_weights(path / "weights.safetensors", "generator") for path in (out, plain))
    assert averaged[0].keys() == trained[0].keys()  # a file like any other
    assert not torch.equal(averaged[0]["gnet.srnet.conv_in.weight"], trained[0]["gnet.srnet.conv_in.weight"])
    assert averaged[1].guide_optional
    low = faces.lr[faces.targets("test")[:1]]
    assert generator.super_resolve(low).sr.shape == (1, faces.height, faces.width, 3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_more_seeds_are_trained_each_as_if_it_were_the_only_one(warped: Project, variant):
    out = warped.run(STAGE, variant, epochs=0.25, more_seeds=[3, 1], out="several")
    assert json.loads((out / SEEDS_FILE).read_text()) == {"seeds": [0, 3, 1]}
    assert sorted(path.name for path in (out / "seeds").iterdir()) == ["1", "3", "seeds.json"]
    assert not list((warped.root / ".gwainet").rglob("weights.safetensors"))
    for seed, folder in {0: out, 3: out / "seeds/3", 1: out / "seeds/1"}.items():
        assert alone(folder) == alone(warped.run(STAGE, variant, epochs=0.25, seed=seed, out=f"seed-{seed}"))
    assert len({(folder / "weights.safetensors").read_bytes() for folder in (out, *(out / "seeds").glob("?"))}) == 3


def test_a_stage_killed_between_its_seeds_trains_no_finished_one_again(warped: Project, capsys):
    settings: dict[str, Any] = {"more_seeds": [3]}
    whole = content(warped.run(STAGE, "guided", out="whole", **settings))
    with pytest.raises(KeyboardInterrupt):
        warped.run(STAGE, "guided", Interrupting(5), out="continued", **settings)
    assert not (warped.root / "continued").exists()
    capsys.readouterr()
    assert content(warped.run(STAGE, "guided", out="continued", **settings)) == whole
    shown = " ".join(capsys.readouterr().err.split())
    assert "train_psnr@guided: seed 3 is trained already" in shown
    assert "resumed at step" in shown


def test_a_training_that_was_killed_before_it_got_more_seeds_is_continued(warped: Project, capsys):
    with pytest.raises(KeyboardInterrupt):
        warped.run(STAGE, "guided", Interrupting(5))
    warped.run(STAGE, "guided", more_seeds=[1])
    assert "resumed at step" in " ".join(capsys.readouterr().err.split())


def test_seeds_must_differ(project: Project):
    for stage in (STAGE, "train_adversarial"):
        for more in ([0], [1, 1]):
            with pytest.raises(ParamsError, match="must differ"):
                project.params(stage, more_seeds=more)
