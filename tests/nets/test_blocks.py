"""SAME padding, residual block, upscaling, initial weights."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from gwainet.nets.blocks import Downscale8x, ResidualBlock, SameConv2d, Upscale2x, initialise, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [(168, 3, 2, (0, 1)), (21, 3, 2, (1, 1)), (168, 5, 2, (1, 2)), (21, 5, 2, (2, 2)), (10, 3, 1, (1, 1))],
)
def test_same_padding_is_tensorflows(size, kernel, stride, expected):
    assert same_padding(size, kernel, stride) == expected


@given(st.integers(1, 300), st.sampled_from([1, 3, 5]), st.integers(1, 3))
def test_same_padding_gives_the_ceiling_of_size_over_stride(size, kernel, stride):
    before, after = same_padding(size, kernel, stride)
    assert 0 <= after - before <= 1
    assert (size + before + after - kernel) // stride + 1 == -(-size // stride)


@pytest.mark.parametrize("kernel", [3, 5])
def test_stride_2_reads_the_pixels_that_tensorflow_reads(kernel):
    conv = SameConv2d(1, 1, kernel, stride=2)
    torch.nn.init.zeros_(conv.get_parameter("bias"))
    torch.nn.init.zeros_(conv.weight)
    before = 0 if kernel == 3 else 1
    conv.weight.data[0, 0, before, before] = 1.0  # the tap that lies on input pixel (2 i, 2 j)
    image = torch.arange(64.0).view(1, 1, 8, 8)
    assert torch.equal(conv(image), image[:, :, ::2, ::2])


def test_height_and_width_are_padded_each_by_its_own_size():
    conv = SameConv2d(1, 2, stride=2)
    image = torch.randn(1, 1, 7, 8)  # 1 zero before and after the odd side, 1 after the even one
    expected = F.conv2d(F.pad(image, (0, 1, 1, 1)), conv.weight, conv.bias, stride=2)
    assert torch.equal(conv(image), expected)


def test_stride_1_keeps_the_size_and_equals_torchs_own_padding():
    conv = SameConv2d(2, 3)
    image = torch.randn(1, 2, 9, 7)
    assert torch.equal(conv(image), F.conv2d(image, conv.weight, conv.bias, padding=1))


def test_a_residual_block_of_zero_weights_is_the_identity():
    block = ResidualBlock(4)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    image = torch.randn(2, 4, 5, 6)
    assert torch.equal(block(image), image)


def test_a_residual_block_adds_conv_relu_conv():
    block = ResidualBlock(3)
    image = torch.randn(1, 3, 6, 6)
    expected = image + block.conv2(torch.relu(block.conv1(image)))
    assert torch.equal(block(image), expected)


def test_upscaling_places_channels_in_torchs_order():
    up = Upscale2x(1)
    torch.nn.init.zeros_(up.conv.weight)
    # a bias reaches the output with no activation between
    up.conv.get_parameter("bias").data = torch.tensor([-1.0, 1.0, 2.0, -3.0])
    out = up(torch.zeros(1, 1, 2, 2))
    assert torch.equal(out[0, 0, :2, :2], torch.tensor([[-1.0, 1.0], [2.0, -3.0]]))


def test_downscaling_divides_sides_by_8():
    assert Downscale8x(3, 4)(torch.zeros(1, 3, 168, 144)).shape == (1, 4, 21, 18)


def test_downscaling_is_three_times_conv_relu_conv_of_stride_2_relu():
    torch.manual_seed(0)
    block = Downscale8x(3, 4)
    convs = [layer for layer in block if isinstance(layer, SameConv2d)]
    assert [conv.stride[0] for conv in convs] == [1, 2, 1, 2, 1, 2]
    image = expected = torch.randn(1, 3, 16, 24)
    for conv in convs:
        expected = torch.relu(conv(expected))
    assert torch.equal(block(image), expected)


def test_initial_weights_are_glorot_uniform_with_zero_biases_and_repeat_with_the_seed():
    first, second = SameConv2d(16, 32), SameConv2d(16, 32)
    initialise(first, torch.Generator().manual_seed(5))
    initialise(second, torch.Generator().manual_seed(5))
    assert torch.equal(first.weight, second.weight)
    assert not first.get_parameter("bias").any()
    bound = (6 / (16 * 9 + 32 * 9)) ** 0.5
    assert first.weight.abs().max().item() <= bound
    assert first.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
