"""The phases: who learns, who stays as it is, what is measured."""

import numpy as np
import pytest
import torch

from gwainet.dataset import Faces
from gwainet.nets.blocks import initialise
from gwainet.nets.inet import PairHead
from gwainet.nets.model import build_cnet, build_generator, build_inet, build_wnet
from gwainet.params import Networks, PretrainInet, PretrainWnet, SchedulePart, TrainAdversarial, TrainPsnr
from gwainet.psnr import psnr
from gwainet.training.phases import (
    AdversarialPhase,
    IdentityPhase,
    PsnrPhase,
    WarpPhase,
    mean_psnr,
    schedule_steps,
    steps_of,
    validation_rows,
)
from tests.faces import write_faces

CPU = torch.device("cpu")
SMALL = Networks(width=4, blocks_per_group=1, warp_blocks=1, critic_width=2, inet_width=4, inet_features=8)


@pytest.fixture(scope="module", name="faces")
def _faces(tmp_path_factory):
    return Faces(write_faces(tmp_path_factory.mktemp("faces") / "faces", identities=10, images=3))


def weights(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module, before):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


def adversarial(faces, with_inet=True, **settings):
    generator = build_generator(SMALL, faces.means, guided=True, seed=0)
    critic = build_cnet(SMALL, faces.height, faces.width, seed=0)
    inet = build_inet(SMALL, faces.height, faces.width, seed=0).eval().requires_grad_(False) if with_inet else None
    return AdversarialPhase(generator, critic, inet, faces, TrainAdversarial(**settings), CPU)


def test_adam_has_the_settings_of_section_4_2_in_each_phase(faces):
    wnet, generator = build_wnet(SMALL, 0), build_generator(SMALL, faces.means, guided=True, seed=0)
    phases = {
        WarpPhase(wnet, "paper", faces, PretrainWnet(), CPU): (0.9, 0.999),
        PsnrPhase(generator, faces, TrainPsnr(), CPU): (0.9, 0.999),
        IdentityPhase(build_inet(SMALL, 48, 40, 0), PairHead(8), faces, PretrainInet(), CPU): (0.9, 0.999),
        adversarial(faces): (0.5, 0.9),
    }
    for phase, betas in phases.items():
        for optimiser in phase.optimisers.values():
            assert isinstance(optimiser, torch.optim.Adam)
            for group in optimiser.param_groups:
                assert (group["betas"], group["eps"], group["lr"]) == (betas, 1e-8, 1e-4)


def test_the_warp_phase_compares_guide_and_truth_in_minus_1_to_1(faces):
    networks = SMALL.model_copy(update={"zero_flow": True})
    phase = WarpPhase(build_wnet(networks, 0), "paper", faces, PretrainWnet(batch_size=4), CPU)
    batch = phase.batches.batch(0, CPU)
    guide = (batch.i_gi + torch.tensor(faces.means.hr).view(1, 3, 1, 1)) * 2 - 1
    expected = (guide - batch.i_gt).abs().mean().item()  # zero flow: the warped guide is the guide
    assert phase.step(0)["warp"].item() == pytest.approx(expected, rel=1e-4)
    values = WarpPhase(build_wnet(networks, 0), "paper", faces, PretrainWnet(), CPU).validate()
    assert values["psnr_warped"] == pytest.approx(values["psnr_guide"], abs=0.05)


def test_the_psnr_phase_trains_warper_and_generator_and_lowers_the_loss(faces):
    networks = SMALL.model_copy(update={"width": 8, "zero_flow": True, "encoder_gain": "he"})
    generator = build_generator(networks, faces.means, guided=True, seed=0)
    phase = PsnrPhase(generator, faces, TrainPsnr(batch_size=4, learning_rate=3e-3), CPU)
    before = weights(generator)
    losses = [phase.step(step)["content"].item() for step in range(60)]
    assert {name.split(".")[0] for name in changed(generator, before)} == {"wnet", "gnet"}
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])


def test_critic_updates_leave_the_generator_and_generator_updates_leave_critic_and_inet(faces):
    phase = adversarial(faces)
    generator, critic, inet = weights(phase.generator), weights(phase.critic), weights(phase.inet)
    phase.critic_step(0)
    assert changed(phase.critic, critic)
    assert all(parameter.grad is None for parameter in phase.generator.parameters())
    assert not changed(phase.generator, generator)
    critic = weights(phase.critic)
    phase.generator_step(0)
    assert {name.split(".")[0] for name in changed(phase.generator, generator)} == {"wnet", "gnet"}
    assert not changed(phase.critic, critic)
    assert not changed(phase.inet, inet)
    assert all(parameter.requires_grad for parameter in phase.critic.parameters())


def test_a_step_makes_five_critic_updates_on_fresh_batches_and_one_of_the_generator(faces):
    phase = adversarial(faces, batch_size=2)
    seen = []
    original = phase.critic_batches.batch

    def watched(step, device):
        seen.append(step)
        return original(step, device)

    phase.critic_batches.batch = watched
    phase.step(0)
    phase.step(1)
    assert seen == list(range(10))


def test_adversarial_and_identity_losses_reach_warper_and_generator(faces):
    """The gradient of a step is that of Eq. 9 written out, nothing detached (L4) and nothing clamped (N12)."""
    settings = {"batch_size": 2, "lambda_adv": 0.7, "lambda_id": 1e5}  # parts of one size
    phase, plain = adversarial(faces, **settings), adversarial(faces, **settings)
    for each in (phase, plain):  # values on both sides of [-1, 1]
        each.generator.gnet.srnet.conv_out.bias.data = torch.tensor([1.5, -1.5, 0.0])
    batch = plain.batches.batch(0, CPU)
    i_sr = plain.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr
    assert i_sr.max() > 1
    adversarial_part = -0.7 * plain.critic(i_sr).mean()
    identity_part = 1e5 * (plain.inet(i_sr) - plain.inet(batch.i_gt)).square().mean()
    parameters = dict(plain.generator.named_parameters())
    for part in (adversarial_part, identity_part):  # each reaches every part of the generator
        gradients = torch.autograd.grad(part, list(parameters.values()), retain_graph=True)
        reached = {name.split(".")[0] for name, g in zip(parameters, gradients, strict=True) if g.abs().max() > 0}
        assert reached == {"wnet", "gnet"}
    ((i_sr - batch.i_gt).abs().mean() + adversarial_part + identity_part).backward()
    phase.generator_step(0)
    for name, parameter in phase.generator.named_parameters():
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=1e-3, atol=1e-6)


def test_a_critic_update_follows_equation_8(faces):
    """The critic meets I_SR not clamped (N12) and I_GT, with lambda_gp times the penalty between them."""
    phase, plain = (adversarial(faces, batch_size=2, lambda_gp=7.0) for _ in range(2))
    for each in (phase, plain):
        each.generator.gnet.srnet.conv_out.bias.data = torch.tensor([1.5, -1.5, 0.0])
    batch, epsilon = plain.critic_batches.batch(3, CPU), plain.critic_batches.epsilon(3, CPU)
    i_sr = plain.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr.detach()
    between = (epsilon * batch.i_gt + (1 - epsilon) * i_sr).requires_grad_()
    (slope,) = torch.autograd.grad(plain.critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = plain.critic(i_sr).mean() - plain.critic(batch.i_gt).mean() + 7.0 * penalty
    loss.backward()
    assert phase.critic_step(3)["critic"].item() == pytest.approx(loss.item(), rel=1e-5)
    for found, expected in zip(phase.critic.parameters(), plain.critic.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-7)


def test_lambda_id_weighs_the_identity_loss_and_gwanet_has_none(faces):
    with_inet = adversarial(faces, batch_size=2, lambda_id=0.5, lambda_adv=0.25).generator_step(0)
    total = with_inet["content"] + 0.25 * with_inet["adversarial"] + 0.5 * with_inet["identity"]
    assert with_inet["total"].item() == pytest.approx(total.item(), rel=1e-6)
    without = adversarial(faces, with_inet=False, batch_size=2).generator_step(0)
    assert without["identity"].item() == 0
    assert with_inet["identity"].item() > 0


def test_the_schedule_changes_the_learning_rate_at_the_parts_border(faces):
    schedule = (SchedulePart(epochs=0.5, learning_rate=1e-3), SchedulePart(epochs=0.25, learning_rate=1e-5))
    phase = adversarial(faces, schedule=schedule, batch_size=2, critic_updates=1)
    targets = len(phase.batches.targets)
    border, end = round(0.5 * targets / 2), round(0.75 * targets / 2)
    assert phase.parts == [(border, 1e-3), (end, 1e-5)]
    phase.step(border - 1)
    assert phase.optimisers["generator"].param_groups[0]["lr"] == 1e-3
    phase.step(border)
    assert {o.param_groups[0]["lr"] for o in phase.optimisers.values()} == {1e-5}
    with pytest.raises(ValueError, match="behind the schedule"):
        phase.step(end)


def test_steps_follow_the_papers_epochs():
    assert steps_of(1.25, 162_734, 4) == 50_854
    assert steps_of(12.0, 18_000, 8) == 27_000
    assert steps_of(0.0, 100, 4) == 0
    assert steps_of(0.001, 100, 4) == 1
    settings = TrainAdversarial(
        schedule=(SchedulePart(epochs=4.0, learning_rate=1e-4), SchedulePart(epochs=2.0, learning_rate=5e-5))
    )
    assert schedule_steps(settings, 162_734) == [(162_734, 1e-4), (244_101, 5e-5)]


def test_inet_learns_to_tell_people_apart(faces):
    networks = SMALL.model_copy(update={"inet_width": 4, "inet_features": 32})
    inet, head = build_inet(networks, faces.height, faces.width, seed=0), PairHead(32)
    initialise(head, torch.Generator().manual_seed(0))
    phase = IdentityPhase(inet, head, faces, PretrainInet(batch_size=8, learning_rate=2e-3), CPU)
    losses = [phase.step(step)["pair"].item() for step in range(160)]
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:10])


def test_inet_sees_pictures_in_minus_1_to_1(faces):
    phase = IdentityPhase(build_inet(SMALL, 48, 40, 0), PairHead(8), faces, PretrainInet(), CPU)
    rows = faces.targets("train")[:3]
    assert torch.equal(phase._pictures(rows), faces.batch(rows, rows, CPU).i_gt)


def test_the_auc_is_one_for_a_perfect_and_zero_for_an_inverted_judge(faces):
    inet, head = build_inet(SMALL, faces.height, faces.width, seed=0), PairHead(8)
    phase = IdentityPhase(inet, head, faces, PretrainInet(), CPU)
    identity = torch.from_numpy(faces.identity)
    for sign in (1.0, -1.0):

        def same(a, b, sign=sign):
            return sign * (identity[a] == identity[b]).float()

        phase._logits = same
        assert phase.validate()["auc"] == (1.0 if sign > 0 else 0.0)


def test_mean_psnr_is_the_mean_of_the_images_values(faces):
    generator = build_generator(SMALL, faces.means, guided=False, seed=0)
    rows = faces.targets("validation")
    made = generator.super_resolve(faces.lr[rows]).sr
    expected = np.mean([psnr(a, b) for a, b in zip(made, faces.hr[rows], strict=True)])
    assert mean_psnr(generator, faces, rows) == pytest.approx(expected)


def test_validation_faces_are_spread_over_the_identities(faces):
    rows = validation_rows(faces, TrainPsnr(validation_faces=2))
    assert len(rows) == 2
    assert len(set(faces.identity[rows])) == 2
    assert len(validation_rows(faces, TrainPsnr(validation_faces=1000))) == len(faces.targets("validation"))
