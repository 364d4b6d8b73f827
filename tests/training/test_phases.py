"""The phases: who learns, who stays as it is, what is measured."""

import numpy as np
import pytest
import torch

from gwainet import losses
from gwainet.dataset import Faces
from gwainet.nets.blocks import initialise
from gwainet.nets.inet import PairHead
from gwainet.nets.model import build_cnet, build_generator, build_inet, build_wnet
from gwainet.params import Networks, PretrainInet, PretrainWnet, SchedulePart, TrainAdversarial, TrainPsnr
from gwainet.training.engine import PLAIN, Engine
from gwainet.training.loop import continue_optimiser
from gwainet.training.phases import (
    AdversarialPhase,
    IdentityPhase,
    PsnrPhase,
    WarpPhase,
    schedule_steps,
    steps_of,
    total_steps,
)
from gwainet.training.validation import mean_psnr
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
    critic_step(phase, 0)
    assert changed(phase.critic, critic)
    assert all(parameter.grad is None for parameter in phase.generator.parameters())
    assert not changed(phase.generator, generator)
    critic = weights(phase.critic)
    generator_step(phase)
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
    generator_step(phase)
    for name, parameter in phase.generator.named_parameters():
        torch.testing.assert_close(parameter.grad, parameters[name].grad, rtol=1e-3, atol=1e-6)


def test_a_critic_update_follows_equation_8(faces):
    """The critic meets I_SR not clamped (N12) and I_GT, with lambda_gp times the penalty between them."""
    phase, plain = (adversarial(faces, batch_size=2, lambda_gp=7.0) for _ in range(2))
    for each in (phase, plain):
        each.generator.gnet.srnet.conv_out.bias.data = torch.tensor([1.5, -1.5, 0.0])
    batch, epsilon = plain.critic_batches.batch(3, CPU), plain.critic_batches.drawn(3)["epsilon"].view(-1, 1, 1, 1)
    i_sr = plain.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr.detach()
    between = (epsilon * batch.i_gt + (1 - epsilon) * i_sr).requires_grad_()
    (slope,) = torch.autograd.grad(plain.critic(between).sum(), between, create_graph=True)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    loss = plain.critic(i_sr).mean() - plain.critic(batch.i_gt).mean() + 7.0 * penalty
    loss.backward()
    assert critic_step(phase, 3)["critic"].item() == pytest.approx(loss.item(), rel=1e-5)
    for found, expected in zip(phase.critic.parameters(), plain.critic.parameters(), strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-7)


def test_lambda_id_weighs_the_identity_loss_and_gwanet_has_none(faces):
    with_inet = adversarial(faces, batch_size=2, lambda_id=0.5, lambda_adv=0.25)
    with_inet = generator_step(with_inet)
    total = with_inet["content"] + 0.25 * with_inet["adversarial"] + 0.5 * with_inet["identity"]
    assert with_inet["total"].item() == pytest.approx(total.item(), rel=1e-6)
    without = adversarial(faces, with_inet=False, batch_size=2)
    without = generator_step(without)
    assert without["identity"].item() == 0
    assert with_inet["identity"].item() > 0


def test_the_schedule_changes_the_learning_rate_at_the_parts_border(faces):
    schedule = (SchedulePart(epochs=0.5, learning_rate=1e-3), SchedulePart(epochs=0.25, learning_rate=1e-5))
    phase = adversarial(faces, schedule=schedule, batch_size=2, critic_updates=1)
    targets = len(phase.batches.targets)
    border, end = round(0.5 * targets / 2), round(0.75 * targets / 2)
    assert phase.rates.parts == [(border, 1e-3), (end, 1e-5)]
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


def test_the_auc_is_one_for_a_perfect_and_zero_for_an_inverted_judge(faces):
    inet, head = build_inet(SMALL, faces.height, faces.width, seed=0), PairHead(8)
    phase = IdentityPhase(inet, head, faces, PretrainInet(), CPU)
    identity = torch.from_numpy(faces.identity)
    for sign in (1.0, -1.0):

        def same(a, b, sign=sign):
            return sign * (identity[a] == identity[b]).float()

        phase._logits = same
        assert phase.validate()["auc"] == (1.0 if sign > 0 else 0.0)


def test_the_learning_rate_warms_up_then_falls_by_a_cosine(faces):
    settings = TrainPsnr(batch_size=4, epochs=2.0, warm_up_steps=3, decay="cosine", wnet_learning_rate_factor=0.5)
    phase = PsnrPhase(build_generator(SMALL, faces.means, guided=True, seed=0), faces, settings, CPU)
    steps = total_steps(settings, len(phase.batches.targets))
    gnet, wnet = phase.optimisers["generator"].param_groups
    for step in (0, 1, 3, steps // 2, steps - 1):
        phase.step(step)
        rising = min(1.0, (step + 1) / 4)
        expected = settings.learning_rate * rising * (1 + np.cos(np.pi * step / steps)) / 2
        assert gnet["lr"] == pytest.approx(expected)
        assert wnet["lr"] == pytest.approx(expected / 2)


def test_a_resumed_training_has_the_learning_rate_of_its_step_not_of_its_checkpoint(faces):
    settings = TrainPsnr(batch_size=4, epochs=2.0, decay="cosine", wnet_learning_rate_factor=0.5)
    generator = build_generator(SMALL, faces.means, guided=True, seed=0)
    first = PsnrPhase(generator, faces, settings, CPU)
    first.step(3)
    second = PsnrPhase(generator, faces, settings, CPU)
    second.optimisers["generator"].load_state_dict(first.optimisers["generator"].state_dict())
    first.step(4)
    second.step(4)
    rates = [[group["lr"] for group in phase.optimisers["generator"].param_groups] for phase in (first, second)]
    assert rates[0] == rates[1]
    assert rates[0][0] == pytest.approx(2 * rates[0][1])


def test_a_state_of_another_memory_layout_and_way_to_compute_is_taken_up(faces):
    """A checkpoint of a CPU goes on on a GPU, and the other way round."""
    phases = []
    for engine in (PLAIN, Engine(channels_last=True)):
        phase = PsnrPhase(build_generator(SMALL, faces.means, guided=True, seed=0), faces, TrainPsnr(batch_size=4), CPU)
        phase.use(engine)
        phases.append(phase)
    first, second = phases
    first.step(0)
    second.generator.load_state_dict(first.generator.state_dict())
    state, rate = first.optimisers["generator"].state_dict(), torch.tensor(0.5)
    for group in second.optimisers["generator"].param_groups:
        group["lr"] = rate  # as on a GPU
    continue_optimiser(second.optimisers["generator"], state)
    assert all(group["lr"] is rate for group in second.optimisers["generator"].param_groups)
    for parameter, of in second.optimisers["generator"].state.items():
        assert {of[key].stride() for key in ("exp_avg", "exp_avg_sq")} == {parameter.stride()}
    losses = [phase.step(1)["content"].item() for phase in phases]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    losses = [phase.step(2)["content"].item() for phase in phases]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_the_kept_generator_is_the_exponential_average_of_the_steps(faces):
    generator = build_generator(SMALL, faces.means, guided=True, seed=0)
    phase = PsnrPhase(generator, faces, TrainPsnr(batch_size=2, ema_decay=0.75, learning_rate=1e-2), CPU)
    seen = []
    for step in range(3):
        phase.step(step)
        seen.append(weights(generator))
    for name, kept in phase.kept.state_dict().items():
        expected = 0.75 * (0.75 * seen[0][name] + 0.25 * seen[1][name]) + 0.25 * seen[2][name]
        torch.testing.assert_close(kept, expected, msg=name)
    assert changed(phase.kept, seen[2])
    assert set(phase.modules) == {"generator", "average"}  # both are saved in a checkpoint
    assert phase.validate()["psnr"] == mean_psnr(phase.kept, faces, phase.rows)
    assert phase.validate()["psnr"] != mean_psnr(generator, faces, phase.rows)


def test_without_an_average_the_trained_generator_itself_is_kept(faces):
    phase = adversarial(faces)
    assert phase.kept is phase.generator
    assert set(phase.modules) == {"generator", "critic"}


def test_the_adversarial_phase_averages_once_a_generator_update(faces):
    phase = adversarial(faces, with_inet=False, batch_size=2, critic_updates=2, ema_decay=0.5)
    phase.step(0)
    assert not changed(phase.kept, weights(phase.generator))
    phase.step(1)
    assert changed(phase.kept, weights(phase.generator))
    assert int(phase.average.model.n_averaged) == 2


def test_r1_trains_the_critic_by_the_logistic_loss_and_the_gradient_at_real_images(faces):
    phase = adversarial(faces, with_inet=False, batch_size=2, objective="r1", lambda_r1=3.0, critic_updates=1)
    batch = phase.critic_batches.batch(0, CPU)
    with torch.no_grad():
        i_sr = phase.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr
    gradient = losses.image_gradient(phase.critic, batch.i_gt)
    penalty = gradient.square().sum(dim=(1, 2, 3)).mean() / 2
    fake, real = phase.critic(i_sr), phase.critic(batch.i_gt)
    expected = (1 + fake.exp()).log().mean() + (1 + (-real).exp()).log().mean() + 3 * penalty
    made = critic_step(phase, 0)
    assert made["critic"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(made) == {"critic", "margin", "penalty"}  # not the Wasserstein distance
    fake = phase.critic(phase.generator(*_inputs(phase)).i_sr)
    assert generator_step(phase)["adversarial"].item() == pytest.approx((1 + (-fake).exp()).log().mean().item())


def critic_step(phase, number):
    """The critic's update by the batch of a number, counted from the training's start."""
    updates = phase.settings.critic_updates
    phase.ready(number // updates)
    pictures = list(phase.critic_pictures())
    return phase.critic_update(*pictures[number % updates], number % updates)


def generator_step(phase):
    phase.ready(0)
    return phase.generator_update()


def _inputs(phase):
    batch = phase.batches.batch(0, CPU)
    return batch.i_lr, batch.i_lru, batch.i_gi
