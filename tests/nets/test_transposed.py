"""The critic's gradient written out, against autograd's."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from gwainet import losses
from gwainet.nets.blocks import initialise
from gwainet.nets.cnet import Cnet
from gwainet.nets.transposed import critic_gradient


def critic(height: int, width: int, dtype: torch.dtype = torch.float64) -> Cnet:
    cnet = Cnet(height, width, features=4).to(dtype)
    initialise(cnet, torch.Generator().manual_seed(0))
    for conv in cnet.convs:
        nn.init.normal_(conv.get_parameter("bias"), std=0.1)
    return cnet


# even sides, odd ones after one or more halvings (168 / 8 = 21), and sides below the kernel's
SIZES = [(32, 48), (168, 40), (24, 16), (8, 8)]


@pytest.mark.parametrize("size", SIZES)
def test_the_gradient_written_out_is_autograds_to_1e_12(size):
    cnet, image = critic(*size), torch.randn(3, 3, *size, dtype=torch.float64)
    expected = losses.image_gradient(cnet, image)
    found = critic_gradient(cnet, image)
    assert (found - expected).abs().max().item() < 1e-12 * expected.abs().max().item()


@pytest.mark.parametrize("size", SIZES)
def test_the_penalty_and_its_gradient_are_autograds_to_1e_8(size):
    cnet = critic(*size)
    (sr, gt), epsilon = torch.randn(2, 3, 3, *size).double(), torch.rand(3, 1, 1, 1).double()

    def penalty_and_gradients(form) -> tuple[Tensor, list[Tensor]]:
        penalty = losses.gradient_penalty(partial(form, cnet), sr, gt, epsilon)
        gradients = torch.autograd.grad(penalty, list(cnet.parameters()), allow_unused=True, materialize_grads=True)
        return penalty, list(gradients)

    expected, its_gradients = penalty_and_gradients(losses.image_gradient)
    found, gradients = penalty_and_gradients(critic_gradient)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    largest = max(gradient.abs().max().item() for gradient in its_gradients)
    assert largest > 0
    for gradient, reference in zip(gradients, its_gradients, strict=True):
        assert (gradient - reference).abs().max().item() < 1e-8 * largest


def test_the_penalty_written_out_is_float32_whatever_autocast_says():
    cnet = critic(16, 16, torch.float32)
    (sr, gt), epsilon = torch.randn(2, 2, 3, 16, 16), torch.rand(2, 1, 1, 1)

    def penalty() -> float:
        return losses.gradient_penalty(partial(critic_gradient, cnet), sr, gt, epsilon).item()

    plain = penalty()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert penalty() == plain


def test_the_penalty_written_out_trains_the_critic_and_not_the_generator():
    cnet = critic(16, 16, torch.float32)
    sr = torch.randn(2, 3, 16, 16, requires_grad=True)
    gt, epsilon = torch.randn(2, 3, 16, 16), torch.rand(2, 1, 1, 1)
    losses.gradient_penalty(partial(critic_gradient, cnet), sr, gt, epsilon).backward()
    assert all(layer.get_parameter("weight").grad.abs().max() > 0 for layer in (*cnet.convs, cnet.fc))
    assert sr.grad is None


@pytest.mark.parametrize(
    "layer",
    [nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.Dropout(), nn.Identity()],
    ids=lambda layer: type(layer).__name__,
)
def test_a_critic_with_another_layer_is_refused(layer):
    cnet = critic(16, 16, torch.float32)
    cnet.layers = lambda: [*Cnet.layers(cnet)[:3], layer, *Cnet.layers(cnet)[3:]]
    with pytest.raises(TypeError, match="does not know the transpose"):
        critic_gradient(cnet, torch.randn(1, 3, 16, 16))


def test_a_critic_with_a_forward_of_its_own_is_refused():
    class Other(Cnet):
        def forward(self, image: Tensor) -> Tensor:
            return super().forward(image).tanh()

    with pytest.raises(TypeError, match="knows Cnet, not Other"):
        critic_gradient(Other(16, 16, 2), torch.randn(1, 3, 16, 16))


def test_the_layers_are_all_of_the_critic():
    cnet, image = critic(24, 16), torch.randn(2, 3, 24, 16, dtype=torch.float64)
    x = image
    for layer in cnet.layers():
        x = layer(x)
    assert torch.equal(cnet(image), x.squeeze(1))
    walked = {id(parameter) for layer in cnet.layers() for parameter in layer.parameters()}
    assert walked == {id(parameter) for parameter in cnet.parameters()}
