"""Stage `pretrain_wnet`: the warper alone."""

import pandas as pd
import torch

from gwainet.nets.model import build_wnet, load_into, read_weights
from tests.training_params import Project, check_outputs, metrics

STAGE = "pretrain_wnet"
CPU = torch.device("cpu")
STEPS = 8  # 1 epoch of 15 faces in batches of 2


def test_the_files_of_the_formats_are_written_and_the_weights_say_what_they_are(project: Project):
    out, validated = project.run(STAGE), {"psnr_warped", "psnr_guide"}
    check_outputs(project, STAGE, out, kind="wnet", steps=STEPS, losses={"warp"}, validated=validated, pictures=6)
    assert metrics(out)["kept_step"] == STEPS
    load_into(
        build_wnet(project.params(STAGE).networks, seed=1), read_weights(out / "weights.safetensors", "wnet")[0], out
    )


def test_training_changes_every_layer(project: Project):
    trained, _ = read_weights(project.run(STAGE) / "weights.safetensors", "wnet")
    fresh = build_wnet(project.params(STAGE).networks, 0).state_dict()
    assert [name for name, tensor in trained.items() if torch.equal(tensor, fresh[name])] == []


def test_no_epochs_write_the_untrained_weights_of_the_seed(project: Project):
    out = project.run(STAGE, epochs=0.0, seed=7)
    tensors, _ = read_weights(out / "weights.safetensors", "wnet")
    fresh = build_wnet(project.params(STAGE).networks, 7).state_dict()
    assert tensors.keys() == fresh.keys()
    assert all(torch.equal(tensors[name], fresh[name]) for name in fresh)
    assert metrics(out) == {"steps": 0, "kept_step": 0}
    assert pd.read_csv(out / "curves.csv").empty
    assert project.checkpoints == []
