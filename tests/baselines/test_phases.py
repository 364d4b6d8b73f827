"""Steps of other papers' systems in the precision of a GPU."""

import pytest
import torch

from gwainet.baselines.gfrnet import Gfrnet
from gwainet.baselines.model import build_baseline
from gwainet.baselines.phases import GfrnetPhase, make_phase
from gwainet.dataset import Faces
from gwainet.nets.wnet import sampling_grid
from gwainet.params import TrainBaseline, TrainBaselines
from gwainet.training.engine import PLAIN, Engine
from tests.faces import write_faces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    path = tmp_path_factory.mktemp("faces") / "faces"
    write_faces(path, identities={"train": 3, "validation": 2, "test": 2}, images=3, height=48, width=40)
    return Faces(path)


def settings_of_gfrnet(warp_share: float) -> TrainBaseline:
    shared = TrainBaselines().model_dump(exclude={"same", "epochs", "critic_epochs", "learning_rates", "more_seeds"})
    values = {**shared, "batch_size": 4, "narrow": 32, "warp_share": warp_share, "validation_faces": 2}
    return TrainBaseline(system="gfrnet", epochs=10.0, learning_rate=2e-4, **values)


@pytest.mark.parametrize("warp_share", [0.0, 0.9])
def test_bfloat16_takes_nearly_the_same_first_step_of_gfrnet_in_both_of_its_parts(faces: Faces, warp_share: float):
    made = []
    for engine in (PLAIN, Engine(precision="bfloat16")):
        settings = settings_of_gfrnet(warp_share)
        phase = make_phase(build_baseline("gfrnet", faces.means, 32, 0), None, faces, settings, CPU)
        assert isinstance(phase, GfrnetPhase)
        with torch.no_grad():  # far enough from 0 that rounding shows in the warped guide
            phase.network.warpnet.ups[-1].get_parameter("conv.weight").mul_(20)
        phase.use(engine)
        losses = phase.step(0)
        assert {value.dtype for value in losses.values()} == {torch.float32}
        made.append({name: value.item() for name, value in losses.items()})
    assert made[0]["warp"] != made[1]["warp"]  # it was bfloat16
    assert (made[0]["content"] == made[1]["content"] == 0) == (warp_share > 0)
    assert made[1] == pytest.approx(made[0], rel=0.05, abs=0.02)


def test_under_bfloat16_gfrnets_flow_and_grid_are_float32_and_round_no_coordinate():
    torch.manual_seed(0)
    network = Gfrnet(4)
    low, guide = torch.randn(2, 1, 3, 168, 144)
    with torch.autocast("cpu", torch.bfloat16):
        warped, omega = network.aligned(low, guide)
    assert omega.dtype == warped.dtype == torch.float32
    # neighbours of bfloat16 near the border are half a pixel apart: float32 resolves far less than that
    rounded = omega.to(torch.bfloat16).float()
    assert ((omega - rounded).abs()[:, 0] * 143 / 2).max() > 0.1
    assert sampling_grid(omega).unique().numel() > 40_000
