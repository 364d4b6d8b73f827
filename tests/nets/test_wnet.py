"""The warper and its sampler."""

import numpy as np
import pytest
import torch

from gwainet.nets.wnet import Wnet, sampling_grid, warp


def loop_warp(guide, omega):
    """Eqs. 3 and 4 as printed, one pixel after the other, x first."""
    batch, _, height, width = guide.shape
    out = np.zeros_like(guide)
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                x = (omega[b, 0, i, j] + 2 * j / (width - 1) - 1 + 1) * (width - 1) / 2
                y = (omega[b, 1, i, j] + 2 * i / (height - 1) - 1 + 1) * (height - 1) / 2
                for row in range(height):
                    for column in range(width):
                        weight = max(0.0, 1 - abs(y - row)) * max(0.0, 1 - abs(x - column))
                        out[b, :, i, j] += weight * guide[b, :, row, column]
    return out


@pytest.fixture(name="case")
def _case():
    random = np.random.default_rng(0)
    # a spread of 0.8 grid units puts many coordinates outside, and many in the rim of one pixel
    return random.normal(size=(2, 3, 6, 5)), random.normal(scale=0.8, size=(2, 2, 6, 5))


def test_the_paper_sampler_is_equations_3_and_4_inside_and_outside_the_image(case):
    guide, omega = case
    made = warp(torch.from_numpy(guide), torch.from_numpy(omega), "paper").numpy()
    assert np.abs(made - loop_warp(guide, omega)).max() < 1e-12


def test_zero_flow_is_the_identity_for_paper_and_border(case):
    guide = torch.from_numpy(case[0])
    flow = torch.zeros(2, 2, 6, 5, dtype=torch.float64)
    for sampler in ("paper", "border"):
        assert torch.allclose(warp(guide, flow, sampler), guide, atol=1e-12)


def test_zero_flow_of_the_released_sampler_blacks_out_the_last_row_and_column(case):
    guide = torch.from_numpy(case[0])
    made = warp(guide, torch.zeros(2, 2, 6, 5, dtype=torch.float64), "released")
    assert torch.allclose(made[:, :, :-1, :-1], guide[:, :, :-1, :-1], atol=1e-12)
    assert not made[:, :, -1].any()
    assert not made[:, :, :, -1].any()


def test_the_border_sampler_clamps_the_coordinate_first(case):
    guide, omega = (torch.from_numpy(part) for part in case)
    rho = sampling_grid(omega).clamp(-1, 1)
    delta = sampling_grid(torch.zeros_like(omega))
    clamped = (rho - delta).permute(0, 3, 1, 2)
    assert torch.allclose(warp(guide, omega, "border"), warp(guide, clamped, "paper"), atol=1e-12)


def test_the_released_sampler_is_the_border_sampler_inside_and_zero_outside(case):
    guide, omega = (torch.from_numpy(part) for part in case)
    x, y = sampling_grid(omega).unbind(-1)
    inside = (x >= -1) & (x < 1) & (y >= -1) & (y < 1)
    released, border = warp(guide, omega, "released"), warp(guide, omega, "border")
    assert 0 < inside.float().mean() < 1
    assert torch.equal(released, border * inside.unsqueeze(1))


def test_flow_channel_0_moves_along_x_by_pixels_of_half_the_width():
    guide = torch.arange(5.0).expand(1, 1, 4, 5).clone()
    flow = torch.zeros(1, 2, 4, 5)
    flow[:, 0] = 2 / (5 - 1)  # one pixel to the right
    assert torch.allclose(warp(guide, flow)[0, 0, :, :-1], guide[0, 0, :, 1:], atol=1e-6)


@pytest.mark.parametrize("sampler", ["paper", "border"])
def test_gradients_of_guide_and_flow_are_right(sampler):
    torch.manual_seed(0)
    guide = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    omega = torch.randn(1, 2, 4, 3, dtype=torch.float64) * 0.3
    omega.requires_grad_()
    assert torch.autograd.gradcheck(lambda g, o: warp(g, o, sampler), (guide, omega))


def test_the_grid_is_float32_even_for_a_half_precision_flow():
    assert sampling_grid(torch.zeros(1, 2, 8, 8, dtype=torch.bfloat16)).dtype == torch.float32
    assert sampling_grid(torch.zeros(1, 2, 8, 8, dtype=torch.float64)).dtype == torch.float64


def test_wnet_has_the_papers_parameters_and_gives_two_channels_at_full_size():
    wnet = Wnet()
    assert sum(p.numel() for p in wnet.parameters()) == 1_297_154
    assert Wnet(4, 1)(torch.zeros(1, 3, 24, 16), torch.zeros(1, 3, 24, 16)).shape == (1, 2, 24, 16)


def test_the_low_resolution_picture_comes_first_and_the_guide_second():
    torch.manual_seed(0)
    wnet = Wnet(4, 1)
    torch.nn.init.zeros_(wnet.encoder[0].get_parameter("weight")[:, 3:].data)  # blind to the last three channels
    picture, other = torch.randn(2, 1, 3, 16, 16)
    assert torch.equal(wnet(picture, picture), wnet(picture, other))
    assert not torch.equal(wnet(picture, picture), wnet(other, picture))


def test_wnet_adds_its_first_features_to_what_its_blocks_make_of_them():
    torch.manual_seed(0)
    wnet = Wnet(4, 2)
    i_lru, i_gi = torch.randn(2, 1, 3, 16, 24)
    first = wnet.conv_in(wnet.encoder(torch.cat([i_lru, i_gi], dim=1)))
    expected = wnet.conv_flow(wnet.upscale(first + wnet.conv_before_skip(wnet.blocks(first))))
    assert torch.allclose(wnet(i_lru, i_gi), expected, atol=1e-6)


def test_the_flow_has_no_bound():
    wnet = Wnet(4, 1)
    torch.nn.init.zeros_(wnet.conv_flow.weight)
    wnet.conv_flow.get_parameter("bias").data = torch.tensor([5.0, -5.0])
    omega = wnet(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    assert torch.equal(omega, torch.tensor([5.0, -5.0]).view(1, 2, 1, 1).expand(1, 2, 8, 8))
