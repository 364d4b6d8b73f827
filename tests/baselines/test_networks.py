"""Sizes of other papers' networks against what they published, shapes, and that each can learn."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from gwainet.baselines.gfrnet import Gfrnet
from gwainet.baselines.model import SYSTEMS, Baseline, build_baseline, forward_macs
from gwainet.baselines.srresnet import SrganCritic
from gwainet.baselines.tdae import SpatialTransformer, TdaeStyle
from gwainet.baselines.vdsr import LAYERS
from gwainet.baselines.waveletsrnet import WaveletSRNet
from gwainet.macs import without_memory
from gwainet.tensors import Means

MEANS = Means((0.5, 0.4, 0.3), (0.5, 0.4, 0.3))


def parameters(system) -> int:
    with without_memory():
        return sum(parameter.numel() for parameter in Baseline(system, MEANS).parameters())


def conv(before: int, after: int, kernel: int, bias: bool = True) -> int:
    return before * after * kernel * kernel + bias * after


def test_srcnn_has_the_parameters_of_its_three_layers():
    assert parameters("srcnn") == conv(3, 64, 9) + conv(64, 32, 1) + conv(32, 3, 5) == 20_099


def test_vdsr_has_the_published_667_thousand_weights():
    assert parameters("vdsr") == conv(3, 64, 3, False) + 18 * conv(64, 64, 3, False) + conv(64, 3, 3, False) == 667_008


def test_edsr_has_the_published_size_with_three_upscalings():
    blocks = 16 * 2 * conv(64, 64, 3)
    assert parameters("edsr") == conv(3, 64, 3) + blocks + conv(64, 64, 3) + 3 * conv(64, 256, 3) + conv(64, 3, 3)
    assert parameters("edsr") == pytest.approx(1.665e6, rel=1e-3)


@pytest.mark.parametrize("system", ["srresnet", "srgan"])
def test_srresnet_has_the_published_size_with_three_upscalings(system):
    block = 2 * (conv(64, 64, 3) + 128) + 1
    ends = conv(3, 64, 9) + 1 + conv(64, 64, 3) + 128 + conv(64, 3, 9)
    assert parameters(system) == 16 * block + ends + 3 * (conv(64, 256, 3) + 1)
    assert parameters(system) == pytest.approx(1.70e6, rel=2e-3)


def test_the_cascade_has_the_parameters_of_its_three_doublings():
    step = conv(3, 64, 3) + 6 * conv(64, 64, 3) + conv(64, 3, 3)
    assert parameters("cascade") == 3 * step == 675_273


def test_the_tdae_style_network_has_the_parameters_of_its_two_decoders_and_its_encoder():
    def transformer(channels: int) -> int:
        return 16 * channels * 32 + 32 + 32 * 6 + 6

    ups = sum(conv(a, b, 4) + 2 * b for a, b in ((512, 256), (256, 128), (128, 64)))
    decoder = conv(3, 512, 3) + transformer(512) + transformer(256) + ups + conv(64, 3, 3)
    downs = sum(conv(a, b, 4) + 2 * b for a, b in ((3, 128), (128, 256), (256, 512)))
    assert parameters("tdae_style") == 2 * decoder + downs + conv(512, 3, 3) == 8_971_297


def test_a_cascade_without_residuals_is_the_upscaled_picture():
    baseline = build_baseline("cascade", MEANS, 32, 0)
    with torch.no_grad():
        for step in range(3):
            baseline.network.get_parameter(f"steps.{step}.layers.14.weight").zero_()
    picture = torch.rand(1, 3, 3, 4)
    expected = picture
    for _ in range(3):
        expected = F.interpolate(expected, scale_factor=2, mode="bicubic", align_corners=False)
    made = baseline(picture - torch.tensor(MEANS.lr).view(1, 3, 1, 1), torch.zeros(1, 3, 24, 32))
    torch.testing.assert_close(made.i_sr, expected * 2 - 1, atol=1e-5, rtol=0)


def test_the_tdae_style_network_begins_with_transformers_that_change_nothing_and_can_move_a_face():
    network = build_baseline("tdae_style", MEANS, 32, 0).network
    assert isinstance(network, TdaeStyle)
    transformer = network.second.layers[2]
    assert isinstance(transformer, SpatialTransformer)
    features = torch.rand(2, 16, 6, 5)
    torch.testing.assert_close(transformer(features), features)
    with torch.no_grad():
        transformer.find[-1].get_parameter("bias")[2] = 2 / 5  # a pixel of five
    torch.testing.assert_close(transformer(features)[..., :-1], features[..., 1:])


def test_waveletsrnet_has_about_the_published_75_million_parameters():
    assert parameters("waveletsrnet") == pytest.approx(75e6, rel=2e-3)


def test_waveletsrnets_heads_see_only_their_own_bands():
    """A group's convolutions reach one band: three of four heads' bands stay when one filter changes."""
    torch.manual_seed(0)
    network = WaveletSRNet(4).eval()
    low = torch.randn(1, 3, 4, 5)
    before = network.bands(low)
    with torch.no_grad():
        network.heads[2].get_parameter("3.weight")[0] += 1.0  # the first colour of the fifth band
    changed = (network.bands(low) - before).abs().amax(dim=(0, 3, 4)) > 0
    assert changed.nonzero().tolist() == [[4, 0]]


@pytest.mark.parametrize(("system", "giga"), [("srcnn", 1.31), ("vdsr", 43.7), ("edsr", 4.5), ("waveletsrnet", 76.7)])
def test_operations_at_256_are_the_published_ones(system, giga):
    macs = forward_macs(lambda: Baseline(system, MEANS), 256, 256)
    assert macs / 1e9 == pytest.approx(giga, rel=8e-3)


@pytest.mark.parametrize(("system", "giga"), [("cascade", 19.3), ("tdae_style", 17.6)])
def test_operations_of_what_has_no_published_size_are_those_of_the_page(system, giga):
    macs = forward_macs(lambda: Baseline(system, MEANS), 256, 256)
    assert macs / 1e9 == pytest.approx(giga, abs=0.05)
    page = (Path(__file__).parents[2] / "docs" / "baselines.md").read_text()
    assert f"{parameters(system):,} | {giga}" in page


def test_counting_leaves_a_network_of_ours_as_it_is():
    torch.manual_seed(0)
    assert forward_macs(lambda: Baseline("srcnn", MEANS, 8), 16, 8) == (8 * 243 + 4 * 8 + 3 * 4 * 25) * 128


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("height", "width"), [(8, 8), (48, 40), (168, 144)])
def test_a_system_answers_at_any_size_that_8_divides(system, height, width):
    baseline = build_baseline(system, MEANS, 32, 0).train()
    image = torch.randn(2, 3, height, width)
    made = baseline(image[:, :, ::8, ::8], image, image)
    assert made.i_sr.shape == image.shape
    assert made.i_sr.isfinite().all()
    assert (made.i_gw is not None) == (made.omega is not None) == SYSTEMS[system].guided


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_same_seed_gives_the_same_weights_and_another_one_others(system):
    first, again, other = (build_baseline(system, MEANS, 32, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_system_overfits_one_batch(system):
    """In 120 steps its error falls to less than a fifth of the two pictures' own variance, and below where it began."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    baseline = build_baseline(system, MEANS, 8, 0).train()
    small = torch.rand(2, 3, 6, 5)
    i_gt = F.interpolate(small, scale_factor=8, mode="bicubic").clamp(0, 1) * 2 - 1
    i_lr = F.interpolate((i_gt + 1) / 2, scale_factor=1 / 8, mode="area") - 0.4
    i_lru = F.interpolate(i_lr, scale_factor=8, mode="nearest")
    guide = (i_gt + 1) / 2 - 0.4
    optimiser = torch.optim.Adam(baseline.parameters(), lr=2e-3)
    errors = []
    for _ in range(120):
        made = baseline(i_lr, i_lru, guide)
        loss = F.mse_loss(made.i_sr, i_gt)
        errors.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert errors[-1] < min(i_gt.var().item() / 5, errors[0] / 2), errors[::20]


def test_vdsr_without_weights_is_the_upscaled_picture():
    baseline = build_baseline("vdsr", MEANS, 32, 0)
    with torch.no_grad():
        baseline.network.get_parameter(f"layers.{2 * LAYERS - 2}.weight").zero_()
    picture = torch.rand(1, 3, 16, 24)
    made = baseline(torch.zeros(1, 3, 2, 3), picture - torch.tensor(MEANS.lr).view(1, 3, 1, 1))
    torch.testing.assert_close(made.i_sr, picture * 2 - 1)


def test_gfrnets_flow_is_its_grid_less_that_of_a_guide_left_alone():
    """A WarpNet whose output is 0 looks at the guide's middle from everywhere."""
    network = Gfrnet(4).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            network.warpnet.ups[-1].get_parameter(f"conv.{name}").zero_()
    guide = torch.zeros(1, 3, 9, 17)
    guide[:, :, 4, 8] = 1.0
    warped, omega = network.aligned(torch.randn(1, 3, 9, 17), guide)
    torch.testing.assert_close(warped, torch.ones_like(warped))
    assert omega[0, 0, 0, 0] == omega[0, 1, 0, 0] == 1
    assert omega[0, 0, 0, -1] == omega[0, 1, -1, 0] == -1


def test_no_gradient_of_recnets_answer_reaches_warpnet():
    network = Gfrnet(2)
    image = torch.randn(2, 3, 16, 16)
    network(image[:, :, ::8, ::8], image, image).i_sr.sum().backward()
    assert all(parameter.grad is None for parameter in network.warpnet.parameters())
    assert any(parameter.grad is not None for parameter in network.recnet.parameters())


@pytest.mark.parametrize(("height", "width"), [(8, 8), (48, 40)])
def test_the_critic_gives_a_number_a_picture_at_any_size(height, width):
    assert SrganCritic(2)(torch.randn(3, 3, height, width)).shape == (3,)
