"""Composed decoders: equal to the plain ones in value, gradient and rounding, for whatever the weights are now."""

import copy

import pytest
import torch
from torch import nn

from gwainet.nets.blocks import Upscale2x, decode
from gwainet.nets.folded import Composed, FoldedDecoder, compose, fold
from gwainet.nets.gnet import SRnet
from gwainet.nets.wnet import Wnet


def with_biases(network: nn.Module) -> nn.Module:
    """Glorot's biases are zero, which would hide what becomes of them at the border."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def srnet(width: int = 4) -> SRnet:
    network = with_biases(SRnet(width, 1, guided=False))
    assert isinstance(network, SRnet)
    return network


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("size", [(3, 3), (3, 8), (9, 4), (6, 6)])
@pytest.mark.parametrize("gradients", [True, False])
def test_a_composed_decoder_is_the_plain_one_to_1e_13_up_to_the_border(stages, size, gradients):
    network = srnet().double()
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    expected = decode(network.upscale, network.conv_out, x)
    fold(network, live=(0,) * stages, frozen=stages)
    with torch.set_grad_enabled(gradients):
        found = network.decode(network.upscale, network.conv_out, x)
    assert (found - expected).abs().max().item() < 1e-13 * expected.abs().max().item()
    composed = compose(list(network.upscale)[-stages:], network.conv_out, torch.float64)
    assert composed.scale == 2**stages


def test_the_border_has_kernels_of_its_own():
    """Zeros around the picture alone are not what the layers do: each pads its own input."""
    network = srnet().double()
    x = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    composed = compose(list(network.upscale), network.conv_out, torch.float64)
    middle = nn.functional.conv2d(
        x, composed.kernels["middle", "middle"], composed.biases["middle", "middle"], padding=2
    )
    difference = (nn.functional.pixel_shuffle(middle, 8) - network.decode(network.upscale, network.conv_out, x)).abs()
    assert difference[..., 8:-8, 8:-8].max().item() < 1e-12
    assert difference.max().item() > 1e-3


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 2)])
def test_pictures_too_small_to_have_a_middle_are_decoded_plainly(size):
    network = srnet()
    x = torch.randn(2, 4, *size)
    expected = decode(network.upscale, network.conv_out, x)
    fold(network, frozen=3)
    with torch.no_grad():
        assert torch.equal(network.decode(network.upscale, network.conv_out, x), expected)


@pytest.mark.parametrize("stages", [1, 2, 3])
@pytest.mark.parametrize("network_type", [SRnet, Wnet])
def test_gradients_of_parameters_and_input_are_the_plain_ones_to_1e_13(stages, network_type):
    network = with_biases(SRnet(4, 1, guided=False) if network_type is SRnet else Wnet(4, 1)).double()
    torch.manual_seed(1)
    inputs = [torch.randn(2, 3, 4, 5)] if network_type is SRnet else list(torch.randn(2, 2, 3, 32, 40))
    inputs = [each.double().requires_grad_() for each in inputs]
    leaves = [*inputs, *network.parameters()]

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(network(*inputs).square().mean(), leaves))

    plain = gradients()
    fold(network, live=(0,) * stages)
    for found, expected in zip(gradients(), plain, strict=True):
        assert (found - expected).abs().max().item() <= 1e-13 * expected.abs().max().item()


def test_rounding_is_no_worse_than_the_plain_networks():
    """At the paper's width, against the truth in float64."""
    network = srnet(64)
    for layer in (*network.upscale, network.conv_out):
        for parameter in layer.parameters():
            nn.init.uniform_(parameter, -0.1, 0.1)
    x = torch.randn(2, 64, 6, 7)
    exact = copy.deepcopy(network).double()
    truth = decode(exact.upscale, exact.conv_out, x.double())
    with torch.no_grad():
        plain = network.decode(network.upscale, network.conv_out, x)
        errors = {}
        for stages in (1, 2, 3):
            fold(network, frozen=stages)
            errors[stages] = (network.decode(network.upscale, network.conv_out, x) - truth).square().mean().sqrt()
    assert max(errors.values()) < 1.2 * (plain - truth).square().mean().sqrt()


def test_kernels_are_kept_until_a_weight_changes_whichever_way_it_does():
    network = srnet().double()
    decoder = FoldedDecoder(live=(), frozen=3)
    x = torch.randn(2, 4, 4, 5, dtype=torch.float64)

    def kept() -> Composed:
        """What decoding leaves behind; it must be of the weights as they are now."""
        expected = decode(network.upscale, network.conv_out, x)
        with torch.no_grad():
            found = decoder(network.upscale, network.conv_out, x)
        assert (found - expected).abs().max().item() < 1e-13 * expected.abs().max().item()
        assert decoder.kept is not None
        return decoder.kept.composed

    first = kept()
    assert kept() is first
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    network(torch.randn(1, 3, 4, 5, dtype=torch.float64)).sum().backward()
    optimiser.step()
    second = kept()
    assert second is not first
    network.conv_out.weight.data.mul_(2)  # leaves the tensor's version and address as they are
    third = kept()
    assert third is not second
    network.conv_out.get_parameter("bias").data = torch.ones(3, dtype=torch.float64)
    fourth = kept()
    assert fourth is not third
    network.load_state_dict(srnet().double().state_dict())
    assert kept() is not fourth
    network.float()
    with torch.no_grad():
        assert decoder(network.upscale, network.conv_out, x.float()).dtype == torch.float32


def test_what_was_decoded_before_changes_no_bit():
    network = fold(srnet(), live=(0, 0), frozen=2)
    first, other = torch.randn(2, 1, 3, 4, 5)
    with torch.no_grad():
        network(other)
        found = network(first)
        assert torch.equal(found, fold(srnet(), live=(0, 0), frozen=2)(first))


def test_as_many_upscalings_are_composed_in_training_as_the_batch_is_worth():
    network = srnet()
    x = torch.randn(1, 4, 4, 5)  # 20 pixels
    outputs = {}
    for live in ((21, 30), (20, 21), (1, 20), (0, 0)):
        fold(network, live=live)
        outputs[live] = network.decode(network.upscale, network.conv_out, x)
    plain = decode(network.upscale, network.conv_out, x)
    assert torch.equal(outputs[21, 30], plain)
    assert not torch.equal(outputs[20, 21], plain)
    assert torch.equal(outputs[1, 20], outputs[0, 0])
    assert not torch.equal(outputs[1, 20], outputs[20, 21])


def test_names_and_tensors_of_the_weights_stay_as_they_are():
    network = srnet()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        fold(network, live=(0,), frozen=3)(torch.randn(1, 3, 4, 4))
    assert network.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    "stage",
    [nn.Sequential(Upscale2x(4), nn.ReLU()), type("Other", (Upscale2x,), {})(4), nn.Upsample(scale_factor=2)],
    ids=["an activation", "a subclass", "another layer"],
)
def test_a_decoder_with_other_layers_is_refused(stage):
    network = srnet()
    network.upscale[1] = stage
    with torch.no_grad(), pytest.raises(TypeError, match="cannot compose"):
        fold(network, frozen=3)(torch.randn(1, 3, 4, 4))


def test_a_convolution_of_another_kind_is_refused():
    network = srnet()
    network.conv_out = nn.Conv2d(4, 3, 3, padding=2, dilation=2)  # type: ignore[assignment]
    with pytest.raises(TypeError, match="cannot compose"):
        compose(list(network.upscale), network.conv_out, torch.float64)
