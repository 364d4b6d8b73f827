"""Stage `train_baselines`: other papers' systems, each trained as long as ours."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from gwainet.baselines.budget import settings_for
from gwainet.baselines.model import SYSTEMS, BaselineMetadata, build_baseline, load_baseline
from gwainet.errors import CheckpointError, DataError, ParamsError
from gwainet.files import write_json
from gwainet.nets.model import build_inet, load_generator, open_weights
from gwainet.params import load_params
from gwainet.training.took import Took
from tests.training_params import SEEDS_FILE, Interrupting, Project, content, metrics

STAGE = "train_baselines"
CPU = torch.device("cpu")
# 15 faces in batches of 2: 1 epoch as train_psnr, 0.75 as train_adversarial, both of them
STEPS = dict.fromkeys(SYSTEMS, 8) | {"srgan": 6, "gfrnet": 13, "gfrnet_landmarks": 13}
LOSSES = {
    **{system: {"total", "content"} for system in ("srcnn", "vdsr", "edsr", "srresnet", "cascade", "tdae_style")},
    "waveletsrnet": {"total", "high", "low", "image", "texture"},
    "srgan": {"total", "content", "features", "adversarial", "critic"},
    "gfrnet": {"total", "content", "features", "adversarial", "critic", "warp"},
    "gfrnet_landmarks": {"total", "content", "features", "adversarial", "critic", "warp", "landmarks"},
}


@pytest.fixture
def started(project: Project) -> Project:
    """A project with Inet and SRResNet."""
    project.run("pretrain_inet", epochs=0.25)
    project.run(STAGE, "srresnet")
    return project


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_files_of_the_formats_are_written_and_the_weights_say_what_they_are(started: Project, system):
    out, faces = started.run(STAGE, system), started.faces
    assert set(content(out)) == {
        "weights.safetensors", "metrics.json", "curves.csv", "validation.csv", "samples.png", "gains.csv", SEEDS_FILE
    }  # fmt: skip
    baseline, metadata = load_baseline(out / "weights.safetensors", CPU)
    images = 2 * (STEPS[system] + (STEPS["srresnet"] if system == "srgan" else 0))
    assert metadata == BaselineMetadata(system, 32, faces.means, faces.height, faces.width, images)
    assert metrics(out)["steps"] == STEPS[system]
    curves, validations, gains = (pd.read_csv(out / f"{name}.csv") for name in ("curves", "validation", "gains"))
    assert set(curves.columns) == {"step"} | LOSSES[system]
    assert curves.notna().all(axis=None)
    assert validations["step"].tolist() == sorted({*range(0, STEPS[system], 4), STEPS[system]})
    assert gains["row"].tolist() == faces.targets("validation").tolist()
    with Image.open(out / "samples.png") as picture:
        assert picture.width > (7 if SYSTEMS[system].guided else 4) * faces.width
    # what is loaded answers as what was measured when the training ended
    rows = faces.targets("validation")
    made = baseline.super_resolve(faces.lr[rows], faces.hr[faces.guide_row[rows]])
    assert made.sr.shape == faces.hr[rows].shape
    assert (made.warped is not None) == SYSTEMS[system].guided
    kept = validations[validations["step"] == metrics(out)["kept_step"]]["psnr"].item()
    assert metrics(out)["psnr"] == pytest.approx(kept)
    assert gains["psnr"].mean() == pytest.approx(kept)


@pytest.mark.parametrize("system", ["srresnet", "srgan", "gfrnet", "gfrnet_landmarks", "waveletsrnet"])
def test_a_killed_training_continues_to_the_very_same_weights(started: Project, system):
    whole = content(started.run(STAGE, system, out="whole"))
    with pytest.raises(KeyboardInterrupt):
        started.run(STAGE, system, recorder=Interrupting(5), out="continued")
    assert started.checkpoints
    assert content(started.run(STAGE, system, out="continued")) == whole
    assert not started.checkpoints


def test_srgan_starts_from_srresnet_and_says_when_it_is_of_another_width(started: Project):
    out = started.run(STAGE, "srgan", critic_epochs=0.0)
    before, _ = open_weights(started.paths(STAGE, "srgan")["start"] / "weights.safetensors")
    after, strings = open_weights(out / "weights.safetensors")
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert strings["images"] == "0"  # untrained, whatever it starts from
    with pytest.raises(CheckpointError, match="another width"):
        started.run(STAGE, "srgan", narrow=16)


def test_without_epochs_the_weights_are_fresh_and_say_so(project: Project):
    out = project.run(STAGE, "vdsr", epochs=0.0, seed=4)
    tensors, strings = open_weights(out / "weights.safetensors")
    fresh = build_baseline("vdsr", project.faces.means, 32, 4).state_dict()
    assert all(torch.equal(tensors[name], fresh[name]) for name in fresh)
    assert strings["images"] == "0"
    assert metrics(out) == {"steps": 0, "kept_step": 0}


def test_only_a_system_with_a_critic_reads_inet(project: Project):
    project.run(STAGE, "srcnn")
    with pytest.raises(CheckpointError, match=r"pretrain_inet/weights\.safetensors does not exist"):
        project.run(STAGE, "gfrnet")
    project.run(STAGE, "gfrnet", lambda_features=0.0)


def test_gfrnets_first_steps_train_its_warpnet_alone(started: Project):
    curves = pd.read_csv(started.run(STAGE, "gfrnet", warp_share=0.5) / "curves.csv")
    assert (curves["warp"] > 0).all()
    first = curves["step"] <= 6  # half of 13 steps, to the even number
    assert (curves.loc[first, "content"] == 0).all()
    assert (curves.loc[~first, "content"] > 0).all()


@pytest.fixture
def without_landmarks(started: Project) -> Project:
    """The same faces, of a source that brings none."""
    folder = started.paths(STAGE, "gfrnet")["faces"]
    info = json.loads((folder / "faces.json").read_text())
    del info["landmarks"]
    write_json(folder / "faces.json", info)
    (folder / "landmarks.npy").unlink()
    return started


def test_without_landmarks_the_system_that_needs_them_is_written_untrained_and_says_why(
    without_landmarks: Project, capsys
):
    out = without_landmarks.run(STAGE, "gfrnet_landmarks", more_seeds=[3])
    shown = " ".join(capsys.readouterr().err.split())
    assert "train_baselines@gfrnet_landmarks is not trained" in shown
    assert "list_landmarks_align_celeba.txt" in shown
    assert load_baseline(out / "weights.safetensors", CPU)[1].images == 0
    assert metrics(out)["steps"] == 0
    assert {"gains.csv", "training.json", "samples.png", "curves.csv"} <= {path.name for path in out.iterdir()}
    gfrnet = without_landmarks.run(STAGE, "gfrnet")
    assert load_baseline(gfrnet / "weights.safetensors", CPU)[1].images > 0


def test_who_asks_for_landmarks_that_are_not_there_is_told_which_file_to_add(without_landmarks: Project):
    with pytest.raises(DataError, match=r"gfrnet_landmarks needs landmarks .*list_landmarks_align_celeba\.txt beside"):
        without_landmarks.run(STAGE, "gfrnet_landmarks", landmarks="on")
    assert not without_landmarks.paths(STAGE, "gfrnet_landmarks")["out"].exists()
    without_landmarks.run(STAGE, "srcnn", landmarks="on")  # nobody else needs them


def test_landmarks_may_be_left_aside(started: Project, capsys):
    out = started.run(STAGE, "gfrnet_landmarks", landmarks="off")
    assert "train_baselines.landmarks is off" in " ".join(capsys.readouterr().err.split())
    assert load_baseline(out / "weights.safetensors", CPU)[1].images == 0
    assert metrics(started.run(STAGE, "gfrnet_landmarks", landmarks="on"))["steps"] == STEPS["gfrnet_landmarks"]


def test_a_system_that_does_not_exist_is_named(project: Project):
    with pytest.raises(ParamsError, match="no system `cbn`; there are srcnn, vdsr"):
        project.run(STAGE, "cbn")


def test_weights_of_ours_are_no_baseline_and_the_other_way_round(started: Project):
    weights = started.paths(STAGE, "srresnet")["out"] / "weights.safetensors"
    with pytest.raises(CheckpointError, match="kind `baseline`, not `generator`"):
        load_generator(weights, CPU)
    with pytest.raises(CheckpointError, match="kind `inet`, not `baseline`"):
        load_baseline(started.paths("pretrain_inet")["out"] / "weights.safetensors", CPU)


def test_a_system_with_a_critic_sees_more_images(project: Project):
    params = project.params(STAGE, epochs=0.5, critic_epochs=0.375)
    epochs = {system: settings_for(params, system, 48, 40).epochs for system in SYSTEMS}
    assert epochs == dict.fromkeys(SYSTEMS, 0.5) | {"srgan": 0.375, "gfrnet": 0.875, "gfrnet_landmarks": 0.875}


def test_the_budget_by_compute_gives_a_small_network_more_images_and_a_large_one_fewer(project: Project):
    params = project.params(STAGE, same="compute", narrow=8, networks={"width": 8})
    epochs = {system: settings_for(params, system, 48, 40).epochs for system in ("srcnn", "edsr", "vdsr")}
    assert epochs["edsr"] > epochs["srcnn"] > epochs["vdsr"] > 0
    again = settings_for(params, "vdsr", 168, 144).epochs
    assert again == pytest.approx(epochs["vdsr"], rel=1e-6)  # both are convolutions alone: no size matters


@pytest.mark.parametrize("profile", ["celeba", "pairs"])
def test_the_papers_profiles_train_others_as_long_as_ours(profile):
    params = load_params(Path(__file__).parents[2] / "params.yaml", profile)
    assert params.train_baselines.same == "images"
    assert params.train_baselines.epochs == params.train_psnr.epochs
    assert params.train_baselines.critic_epochs == sum(part.epochs for part in params.train_adversarial.schedule)
    assert params.train_baselines.narrow == 1


def test_each_system_has_its_own_learning_rate_and_gfrnet_its_papers_momentum(project: Project):
    params = project.params(STAGE, learning_rates={"vdsr": 3e-4})
    assert settings_for(params, "vdsr", 48, 40).learning_rate == 3e-4
    assert settings_for(params, "srcnn", 48, 40).learning_rate == 1e-4
    assert settings_for(params, "gfrnet", 48, 40).beta1 == 0.5
    assert settings_for(params, "gfrnet_landmarks", 48, 40).beta1 == 0.5
    assert settings_for(params, "srgan", 48, 40).beta1 == 0.9


def test_inet_is_left_as_it_is(started: Project):
    before = content(started.paths("pretrain_inet")["out"])
    started.run(STAGE, "srgan")
    assert content(started.paths("pretrain_inet")["out"]) == before
    assert build_inet(started.params(STAGE).networks, 48, 40, 0) is not None


def test_more_seeds_are_trained_each_as_if_it_were_the_only_one(started: Project):
    out = started.run(STAGE, "vdsr", more_seeds=[3, 1], out="several")
    assert json.loads((out / SEEDS_FILE).read_text()) == {"seeds": [0, 3, 1]}
    assert not list((started.root / ".gwainet").rglob("weights.safetensors"))
    several = content(out)
    for seed in (0, 3, 1):
        alone = content(started.run(STAGE, "vdsr", seed=seed, out=f"seed-{seed}"))
        prefix = f"seeds/{seed}/" if seed else ""
        assert {name: several[prefix + name] for name in alone if name != SEEDS_FILE} == {
            name: value for name, value in alone.items() if name != SEEDS_FILE
        }
    assert several["weights.safetensors"] != several["seeds/3/weights.safetensors"]


def test_srgan_with_another_seed_starts_from_srresnet_with_that_seed(started: Project):
    started.run(STAGE, "srresnet", more_seeds=[2])
    out = started.run(STAGE, "srgan", more_seeds=[2], critic_epochs=0.0)
    start = started.paths(STAGE, "srgan")["start"]
    for folder in ("", "seeds/2"):
        before, _ = open_weights(start / folder / "weights.safetensors")
        after, _ = open_weights(out / folder / "weights.safetensors")
        assert all(torch.equal(after[name], before[name]) for name in before)
    with pytest.raises(CheckpointError, match=r"seeds/5/weights\.safetensors does not exist"):
        started.run(STAGE, "srgan", more_seeds=[5])


def test_a_stage_killed_between_its_seeds_trains_no_finished_one_again(started: Project, capsys):
    whole = content(started.run(STAGE, "vdsr", more_seeds=[3], out="whole"))
    with pytest.raises(KeyboardInterrupt):
        started.run(STAGE, "vdsr", more_seeds=[3], recorder=Interrupting(5), out="continued")
    capsys.readouterr()
    assert content(started.run(STAGE, "vdsr", more_seeds=[3], out="continued")) == whole
    shown = " ".join(capsys.readouterr().err.split())
    assert "seed 3 is trained already" in shown
    assert "resumed at step" in shown


def test_seeds_must_differ(project: Project):
    for more in ([0], [1, 1]):
        with pytest.raises(ParamsError, match="must differ"):
            project.params(STAGE, more_seeds=more)


def test_what_a_training_took_lies_beside_its_weights_and_adds_up_over_interruptions(started: Project):
    whole = Took.read(started.run(STAGE, "srresnet", out="whole"))
    assert whole is not None
    assert (whole.images, whole.processes) == (2 * STEPS["srresnet"], 1)
    epochs = started.params(STAGE).train_baselines.epochs
    assert (whole.same, whole.epochs, whole.learning_rate) == ("images", epochs, 1e-4)
    assert whole.device.startswith("CPU, 1 threads")
    assert whole.seconds > 0
    with pytest.raises(KeyboardInterrupt):
        started.run(STAGE, "srresnet", recorder=Interrupting(5), out="continued")
    state = torch.load(started.checkpoints[0], weights_only=True)
    took = Took.read(started.run(STAGE, "srresnet", out="continued"))
    assert took is not None
    assert took.images == whole.images
    assert took.seconds > state["outcome"]["seconds"] > 0
    assert Took.read(started.root) is None
    (started.root / "training.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"training\.json is damaged"):
        Took.read(started.root)
