"""The generator network."""

import pytest
import torch

from gwainet.nets.gnet import GFEnet, Gnet, SRnet


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_parts_have_the_papers_parameters():
    assert count(GFEnet()) == 1_109_632
    assert count(SRnet(guided=False)) == 1_665_283
    assert count(SRnet().fusions) == 221_376
    assert count(Gnet()) == 1_109_632 + 1_665_283 + 221_376


@pytest.mark.parametrize(("height", "width"), [(168, 144), (256, 256), (64, 48)])
def test_the_output_is_8_times_the_input(height, width):
    gnet = Gnet(4, 1)
    assert gnet(torch.zeros(1, 3, height // 8, width // 8), torch.zeros(1, 3, height, width)).shape == (
        1,
        3,
        height,
        width,
    )


def test_srnet_has_four_groups_and_fuses_after_the_first_three():
    srnet = SRnet(4, 4)
    assert [len(list(group.children())) for group in srnet.groups] == [4, 4, 4, 4]
    assert len(srnet.fusions) == 3


def test_every_fusion_lets_its_guide_features_reach_the_output():
    torch.manual_seed(0)
    srnet = SRnet(4, 1)
    low = torch.randn(1, 3, 3, 3)
    features = [torch.randn(1, 4, 3, 3) for _ in range(3)]
    base = srnet(low, features)
    for index in range(3):
        changed = [f + (i == index) for i, f in enumerate(features)]
        assert not torch.equal(srnet(low, changed), base)


def test_the_fusion_concatenates_super_resolution_features_first():
    srnet = SRnet(2, 1)
    for fusion in srnet.fusions:
        weight = torch.nn.init.zeros_(fusion.get_parameter("weight"))
        weight.data[:, :2, 1, 1] = torch.eye(2)  # the centre tap of the first half passes: the guide is ignored
        torch.nn.init.zeros_(fusion.get_parameter("bias"))
    unguided = SRnet(2, 1, guided=False)
    unguided.load_state_dict({k: v for k, v in srnet.state_dict().items() if not k.startswith("fusions")})
    low = torch.randn(1, 3, 4, 4)
    assert torch.allclose(srnet(low, [torch.randn(1, 2, 4, 4)] * 3), unguided(low), atol=1e-6)


def test_srnet_fuses_after_each_of_three_groups_and_goes_on_with_the_result_alone():
    torch.manual_seed(0)
    srnet = SRnet(4, 2)
    low, features = torch.randn(1, 3, 3, 4), [torch.randn(1, 4, 3, 4) for _ in range(3)]
    first = x = srnet.conv_in(low)
    for group, fusion, guide in zip(srnet.groups, srnet.fusions, features, strict=False):
        x = fusion(torch.cat([group(x), guide], dim=1))
    x = first + srnet.conv_before_skip(srnet.groups[3](x))
    assert torch.allclose(srnet(low, features), srnet.conv_out(srnet.upscale(x)), atol=1e-5)


def test_gfenet_gives_the_features_after_each_group_of_blocks():
    torch.manual_seed(0)
    gfenet = GFEnet(4, 2)
    guide = torch.randn(1, 3, 24, 16)
    x = gfenet.conv_in(gfenet.encoder(guide))
    assert x.min() < 0  # no activation before the residual blocks
    for found, group in zip(gfenet(guide), gfenet.groups, strict=True):
        x = group(x)
        assert torch.allclose(found, x, atol=1e-6)


def test_the_output_is_not_clamped():
    srnet = SRnet(2, 1, guided=False)
    torch.nn.init.constant_(srnet.conv_out.get_parameter("bias"), 5.0)
    assert srnet(torch.zeros(1, 3, 2, 2)).max() > 1


def test_a_guided_srnet_refuses_to_run_without_features():
    with pytest.raises(ValueError, match="needs GFEnet"):
        SRnet(2, 1)(torch.zeros(1, 3, 2, 2))
