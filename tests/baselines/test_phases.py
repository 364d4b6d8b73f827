"""Steps of other papers' systems: in the precision of a GPU, and led by landmarks."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from gwainet.baselines.gfrnet import Gfrnet
from gwainet.baselines.losses import landmark_loss, variation_loss
from gwainet.baselines.model import build_baseline
from gwainet.baselines.phases import GfrnetLandmarksPhase, GfrnetPhase, make_phase
from gwainet.dataset import Faces
from gwainet.errors import DataError
from gwainet.nets.wnet import sampling_grid
from gwainet.params import TrainBaseline, TrainBaselines
from gwainet.training.engine import PLAIN, Engine
from tests.faces import write_faces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    path = tmp_path_factory.mktemp("faces") / "faces"
    write_faces(
        path, identities={"train": 3, "validation": 2, "test": 2}, images=3, height=48, width=40, landmarks=True
    )
    return Faces(path)


def settings_of_gfrnet(warp_share: float, **changes: Any) -> TrainBaseline:
    left_out = {"same", "epochs", "critic_epochs", "learning_rates", "landmarks", "more_seeds"}
    shared = TrainBaselines().model_dump(exclude=left_out)
    values = {**shared, "batch_size": 4, "narrow": 32, "warp_share": warp_share, "validation_faces": 2}
    return TrainBaseline(**{"system": "gfrnet", "epochs": 10.0, "learning_rate": 2e-4, **values, **changes})


def led(faces: Faces, warp_share: float = 0.9, **changes: Any) -> GfrnetLandmarksPhase:
    settings = settings_of_gfrnet(warp_share, system="gfrnet_landmarks", **changes)
    phase = make_phase(build_baseline("gfrnet_landmarks", faces.means, 32, 0), None, faces, settings, CPU)
    assert isinstance(phase, GfrnetLandmarksPhase)
    return phase


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def changed(module: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(not torch.equal(value, before[name]) for name, value in module.named_parameters())


def test_the_first_step_led_by_landmarks_is_worked_out_from_the_manifests_rows(faces: Faces):
    phase = led(faces)
    drawn = phase.batches.drawn(3)
    rows, guides = drawn["rows"].numpy(), drawn["guides"].numpy()
    batch = faces.batch(rows, guides, CPU)
    assert faces.landmarks is not None
    size = torch.tensor([39.0, 47.0])  # from the first pixel's centre to the last one's
    target, guide = (2 * torch.from_numpy(faces.landmarks[which]) / size - 1 for which in (rows, guides))
    with torch.no_grad():
        _, omega = phase.network.aligned(batch.i_lru, batch.i_gi)
    distance = landmark_loss(omega, target, guide)
    expected = 10 * distance + variation_loss(omega)
    made = phase.step(3)
    assert made["landmarks"].item() == pytest.approx(distance.item(), rel=1e-5)
    assert made["warp"].item() == pytest.approx(expected.item(), rel=1e-5)
    # sampled by hand: where the absolute grid points to
    grid = sampling_grid(omega).permute(0, 3, 1, 2)
    pointed = F.grid_sample(grid, target.unsqueeze(2), align_corners=True, padding_mode="border").squeeze(3).mT
    assert distance.item() == pytest.approx((pointed - guide).square().sum().item() / 4, rel=1e-4)


@pytest.mark.parametrize("warp_share", [0.0, 0.9])
def test_landmarks_lead_warpnet_alone(faces: Faces, warp_share: float, monkeypatch: pytest.MonkeyPatch):
    """Other places of the same pictures change WarpNet's step, and neither RecNet's nor the critic's."""
    assert faces.landmarks is not None
    after = []
    for places in (faces.landmarks, faces.landmarks[::-1]):
        monkeypatch.setattr(faces, "landmarks", places)
        phase = led(faces, warp_share)
        network, critic = phase.network, phase.critic
        before = [weights(module) for module in (network.warpnet, network.recnet, critic)]
        phase.step(0)
        moved = [changed(m, b) for m, b in zip((network.warpnet, network.recnet, critic), before, strict=True)]
        assert moved == [True, warp_share == 0, warp_share == 0]
        after.append([weights(module) for module in (network.warpnet, network.recnet, critic)])
    same = [all(torch.equal(one[name], two[name]) for name in one) for one, two in zip(*after, strict=True)]
    assert same == [False, True, True]


def test_overfitting_one_batch_brings_the_landmarks_to_a_quarter_of_a_guide_left_alone(tmp_path_factory):
    path = tmp_path_factory.mktemp("few") / "faces"
    write_faces(path, {"train": 2, "validation": 2, "test": 2}, 2, 48, 40, landmarks=True)
    few = Faces(path)
    phase = led(few, 0.99, batch_size=4, epochs=400.0, learning_rate=2e-3)
    assert few.landmarks is not None
    rows = phase.batches.targets  # of two photos each is the other's guide: every step sees the same pictures
    size = torch.tensor([39.0, 47.0])
    target, guide = (2 * torch.from_numpy(few.landmarks[which]) / size - 1 for which in (rows, rows ^ 1))
    alone = landmark_loss(torch.zeros(4, 2, 48, 40), target, guide).item()
    found = [phase.step(step)["landmarks"].item() for step in range(150)]
    assert sum(found[-10:]) / 10 < 0.25 * alone
    assert sum(found[-10:]) / 10 < 0.25 * found[0]


@pytest.mark.parametrize("data", ["device", "ahead"])
def test_a_step_led_by_landmarks_is_the_same_wherever_the_data_lie(faces: Faces, data: Any):
    plain, other = led(faces), led(faces)
    other.use(Engine(data=data))
    for step in range(3):
        assert {k: v.item() for k, v in other.step(step).items()} == {k: v.item() for k, v in plain.step(step).items()}


def test_with_and_without_landmarks_begin_alike_and_answer_without_any(faces: Faces, tmp_path):
    path = write_faces(tmp_path / "faces", {"train": 3, "validation": 2, "test": 2}, 3, 48, 40)
    without = Faces(path)
    one, two = (build_baseline(system, faces.means, 32, 0).eval() for system in ("gfrnet", "gfrnet_landmarks"))
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    rows = without.targets("test")
    answers = [made.super_resolve(without.lr[rows], without.hr[without.guide_row[rows]]).sr for made in (one, two)]
    assert (answers[0] == answers[1]).all()
    with pytest.raises(DataError, match=r"gfrnet_landmarks needs landmarks: .*list_landmarks_align_celeba\.txt"):
        led(without)
    assert led(without, epochs=0.0).warp_steps == 0


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
