"""Losses of other papers' systems on pictures whose loss can be worked out."""

import pytest
import torch
from torch import nn

from gwainet.baselines.losses import feature_loss, variation_loss, wavelet_loss

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
