"""Losses of other papers' systems on pictures whose loss can be worked out."""

import pytest
import torch
from torch import nn

from gwainet.baselines.losses import feature_loss, landmark_loss, variation_loss, wavelet_loss

SHAPE = 2, 3, 16, 8


def values(i_sr: torch.Tensor, i_gt: torch.Tensor) -> dict[str, float]:
    return {name: loss.item() for name, loss in wavelet_loss(i_sr, i_gt).items()}


def test_a_shift_of_colour_costs_wavelet_srnet_the_low_band_and_the_picture_alone():
    """A flat picture of 0.5 has a low band of 8 x 0.5, and no other."""
    found = values(torch.full(SHAPE, 0.5), torch.zeros(SHAPE))
    assert found == pytest.approx({"high": 0, "low": 0.01 * 16, "image": 0.1 * 0.25, "texture": 0}, abs=1e-6)


def test_stripes_that_are_missing_cost_wavelet_srnet_the_high_bands_and_their_texture():
    """Stripes of +-0.5 across are one band of +-4 of the 63 high ones: 16 / 63 of squared error, 1.2 x 16 of energy."""
    stripes = torch.tensor([0.5, -0.5]).repeat(4).expand(SHAPE)
    expected = {"high": 0.99 * 16 / 63, "low": 0, "image": 0.1 * 0.25, "texture": 1.2 * 16 / 63}
    assert values(torch.zeros(SHAPE), stripes) == pytest.approx(expected, abs=1e-6)
    # right stripes lack a sixth of the energy that is asked for; stripes of twice the size none
    assert values(stripes, stripes)["texture"] == pytest.approx(0.2 * 16 / 63, abs=1e-6)
    assert values(2 * stripes, stripes)["texture"] == pytest.approx(0, abs=1e-6)


def test_a_ramp_of_the_flow_varies_by_the_square_of_its_slope_and_a_shift_not_at_all():
    ramp = torch.zeros(2, 2, 5, 7)
    ramp[:, 0] = 0.3 * torch.arange(7.0)  # across, of one of two channels
    assert variation_loss(ramp).item() == pytest.approx(0.3**2 / 2)
    ramp[:, 1] = 0.1 * torch.arange(5.0)[:, None]
    assert variation_loss(ramp).item() == pytest.approx(0.3**2 / 2 + 0.1**2 / 2)
    assert variation_loss(torch.full((2, 2, 5, 7), 0.4)).item() == 0


TARGET = torch.tensor([[[-0.5, -0.25], [0.5, -0.25], [0.0, 0.1], [-0.3, 0.6], [0.3, 0.6]]]).repeat(2, 1, 1)


def test_a_grid_that_points_at_the_guides_landmarks_costs_nothing_and_a_shifted_one_its_squares():
    """An affine flow is what it is between the pixels, too: bilinear sampling adds nothing."""
    height, width = 17, 13
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")

    def flow(at_x: torch.Tensor, at_y: torch.Tensor) -> list[torch.Tensor]:
        return [0.1 - 0.2 * at_x + 0.3 * at_y, -0.05 + 0.25 * at_x]

    omega = torch.stack(flow(x, y)).repeat(2, 1, 1, 1)
    guide = TARGET + torch.stack(flow(TARGET[..., 0], TARGET[..., 1]), dim=-1)
    assert landmark_loss(omega, TARGET, guide).item() == pytest.approx(0, abs=1e-12)
    # five landmarks a picture, 0.03 to the right and 0.04 up of where they are
    shift = torch.tensor([0.03, -0.04]).view(1, 2, 1, 1)
    assert landmark_loss(omega + shift, TARGET, guide).item() == pytest.approx(5 * 0.05**2, rel=1e-4)
    # of one of two pictures alone: the mean over pictures
    half = omega + shift * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    assert landmark_loss(half, TARGET, guide).item() == pytest.approx(5 * 0.05**2 / 2, rel=1e-4)
    # a guide left as it is: the distance of the landmarks themselves
    plain = landmark_loss(torch.zeros_like(omega), TARGET, guide)
    assert plain.item() == pytest.approx((TARGET - guide).square().sum().item() / 2, rel=1e-5)


def test_the_flow_is_that_of_the_targets_places_not_of_the_guides():
    """One pixel's flow: who looks it up at the guide's place finds 0."""
    omega = torch.zeros(1, 2, 5, 5)
    omega[0, 0, 1, 3] = 1.0  # at x 0.5, y -0.5
    target, guide = torch.tensor([[[0.5, -0.5]]]), torch.tensor([[[-0.5, -0.5]]])
    assert landmark_loss(omega, target, guide).item() == pytest.approx(2.0**2)
    assert landmark_loss(-omega, target, guide).item() == pytest.approx(0)


def test_landmarks_that_one_of_both_pictures_lacks_cost_nothing_and_leave_gradients_finite():
    omega = torch.zeros(2, 2, 9, 9, requires_grad=True)
    target, guide = TARGET.clone(), TARGET + 0.1
    target[0, 1], guide[0, 2], guide[1] = float("nan"), float("nan"), float("nan")
    loss = landmark_loss(omega, target, guide)
    assert loss.item() == pytest.approx(3 * 2 * 0.1**2 / 2, rel=1e-4)
    loss.backward()
    assert omega.grad is not None
    assert omega.grad.isfinite().all()
    assert (omega.grad[1] == 0).all()
    assert (omega.grad[0] != 0).any()


def test_features_are_compared_by_their_mean_square_and_the_truth_carries_no_gradient():
    double = nn.Conv2d(3, 3, 1, bias=False).requires_grad_(False)
    double.weight.copy_(2 * torch.eye(3)[:, :, None, None])
    made, true = (torch.full(SHAPE, value, requires_grad=True) for value in (0.75, 0.5))
    loss = feature_loss(double, made, true)
    assert loss.item() == pytest.approx((2 * 0.25) ** 2)
    loss.backward()
    assert true.grad is None
    assert made.grad is not None
    assert made.grad.sum().item() == pytest.approx(2 * 2 * 0.5)  # of a mean: 2 x 2 x (1.5 - 1)
