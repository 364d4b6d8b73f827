"""Closed forms of the losses."""

from functools import partial

import pytest
import torch
from torch import Tensor

from gwainet import losses


def penalty(critic: losses.Critic, i_sr: Tensor, i_gt: Tensor, epsilon: Tensor) -> Tensor:
    """The gradient penalty by autograd; `nets/test_transposed.py` compares the form in use with it."""
    return losses.gradient_penalty(partial(losses.image_gradient, critic), i_sr, i_gt, epsilon)


def test_content_loss_of_a_constant_difference_is_that_difference():
    image = torch.rand(2, 3, 4, 5)
    assert losses.content_loss(image + 0.25, image).item() == pytest.approx(0.25, rel=1e-5)


def test_content_loss_is_the_mean_over_pixels_and_channels_of_equation_6():
    sr, gt = torch.randn(2, 1, 3, 4, 5)
    assert losses.content_loss(sr, gt).item() == pytest.approx(((sr - gt).abs().sum() / (3 * 4 * 5)).item(), rel=1e-5)


def test_identity_loss_is_the_squared_distance_over_the_embeddings_length():
    a, b = torch.zeros(2, 4096), torch.full((2, 4096), 0.5)
    assert losses.identity_loss(a, b).item() == pytest.approx(0.25)
    c = torch.zeros(1, 4096)
    c[0, 0] = 64.0
    assert losses.identity_loss(c, torch.zeros(1, 4096)).item() == pytest.approx(64**2 / 4096)


@pytest.mark.parametrize("slope", [0.0, 0.5, 1.0, 3.0])
def test_a_linear_critic_of_slope_s_has_the_penalty_s_minus_1_squared(slope):
    """The direction has norm 1 over the whole image, so a norm per pixel would give another number."""
    direction = torch.randn(3, 4, 5, dtype=torch.float64)
    direction /= direction.norm()
    sr, gt = torch.randn(2, 6, 3, 4, 5, dtype=torch.float64)
    epsilon = torch.rand(6, 1, 1, 1, dtype=torch.float64)
    found = penalty(lambda x: slope * (x * direction).sum(dim=(1, 2, 3)), sr, gt, epsilon)
    assert found.item() == pytest.approx((slope - 1) ** 2, abs=2e-6)


def test_the_penalty_looks_between_the_images_with_a_sample_of_epsilon_each():
    """A critic 0.5 x^2 has the gradient x: its norm shows where the penalty looked."""
    sr, gt = torch.zeros(2, 1, 1, 1), torch.full((2, 1, 1, 1), 4.0)
    epsilon = torch.tensor([0.25, 0.75]).view(2, 1, 1, 1)
    found = penalty(lambda x: 0.5 * x.square().sum(dim=(1, 2, 3)), sr, gt, epsilon)
    assert found.item() == pytest.approx(((1 - 1) ** 2 + (3 - 1) ** 2) / 2, abs=1e-5)


def test_the_penalty_trains_the_critic_and_not_the_generator():
    scale = torch.tensor(2.0, requires_grad=True)
    sr = torch.randn(2, 3, 4, 4, requires_grad=True)
    penalty(lambda x: scale * x.sum(dim=(1, 2, 3)), sr, torch.randn(2, 3, 4, 4), torch.rand(2, 1, 1, 1)).backward()
    assert scale.grad is not None
    assert scale.grad.item() != 0
    assert sr.grad is None


def test_the_penalty_of_a_flat_critic_has_a_finite_gradient():
    slope = torch.zeros((), requires_grad=True)
    sr, gt = torch.randn(2, 2, 3, 4, 4)
    penalty(lambda x: slope * x.sum(dim=(1, 2, 3)), sr, gt, torch.rand(2, 1, 1, 1)).backward()
    assert slope.grad is not None
    assert torch.isfinite(slope.grad)


def test_the_penalty_is_float32_whatever_autocast_says():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(3, 4, 3)
    (sr, gt), epsilon = torch.randn(2, 2, 3, 8, 8), torch.rand(2, 1, 1, 1)

    def value() -> float:
        return penalty(lambda x: conv(x).square().sum(dim=(1, 2, 3)), sr, gt, epsilon).item()

    plain = value()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert value() == plain


def test_critic_loss_is_equation_8_and_the_generators_is_minus_l_fake():
    fake, real, penalty = torch.tensor([1.0, 3.0]), torch.tensor([5.0, 7.0]), torch.tensor(0.1)
    assert losses.critic_loss(fake, real, penalty, 10.0).item() == pytest.approx(2 - 6 + 1)
    assert losses.adversarial_loss(fake).item() == -2.0


def test_total_loss_is_equation_9():
    parts = torch.tensor(1.0), torch.tensor(10.0), torch.tensor(100.0)
    assert losses.total_loss(*parts, 0.001, 0.05).item() == pytest.approx(1 + 0.01 + 5)


def test_pair_loss_is_the_cross_entropy_of_equation_5():
    logit = torch.tensor([0.0, 2.0, -3.0])
    same = torch.tensor([1.0, 1.0, 0.0])
    y = torch.sigmoid(logit)
    expected = -(same * y.log() + (1 - same) * (1 - y).log()).mean()
    assert losses.pair_loss(logit, same).item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_linear_critic_of_slope_s_has_r1_of_half_s_squared():
    slope = torch.full((3, 5, 4), 0.3, dtype=torch.float64)
    gradient_at = partial(losses.image_gradient, lambda x: (x * slope).sum(dim=(1, 2, 3)))
    i_gt = torch.rand(2, 3, 5, 4, dtype=torch.float64)
    assert losses.r1_penalty(gradient_at, i_gt).item() == pytest.approx(0.5 * 60 * 0.09)


def test_logistic_losses_are_minus_the_log_of_being_right():
    fake, real = torch.tensor([-1.0, 2.0]), torch.tensor([0.5, -3.0])
    right = -(1 - fake.sigmoid()).log().mean() - real.sigmoid().log().mean()
    penalty = torch.tensor(0.25)
    assert losses.logistic_critic_loss(fake, real, penalty, 4.0).item() == pytest.approx(right.item() + 1.0)
    assert losses.logistic_adversarial_loss(fake).item() == pytest.approx(-fake.sigmoid().log().mean().item())
    assert losses.logistic_critic_loss(torch.tensor([1e4]), torch.tensor([-1e4]), penalty, 0.0).item() == 2e4
