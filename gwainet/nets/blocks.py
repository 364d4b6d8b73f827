"""What the networks are built from: SAME-padded convolutions, residual blocks, upscaling, initial weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding, which the authors' weights need (docs/paper.md, N1).

    At stride 2 on an even side a 3x3 kernel pads 0 before and 1 after, a 5x5 kernel 1 before and 2 after.

    Shapes: (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> None:
        # an odd kernel at stride 1 pads the same on both sides: torch's own padding does that without a copy
        padding = kernel_size // 2 if stride == 1 else 0
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  (the name nn.Conv2d gives it)
        """Pad as TensorFlow does, then convolve."""
        if self.stride[0] == 1:
            return super().forward(input)
        top, bottom = same_padding(input.shape[2], self.kernel_size[0], self.stride[0])
        left, right = same_padding(input.shape[3], self.kernel_size[1], self.stride[1])
        return super().forward(F.pad(input, (left, right, top, bottom)))


class PreciseConv2d(SameConv2d):
    """A convolution in its weights' own precision, whatever autocast says.

    Wnet's last one: a flow rounded to bfloat16 moves pixels by up to half a pixel.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Convolve."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.to(self.weight.dtype))


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after a side of `size` pixels under TensorFlow's SAME rule, the odd one after (N1)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class ResidualBlock(nn.Module):
    """conv - ReLU - conv, plus the input; alpha_res = 1 (Fig. 6, [29]).

    Shapes: (B, width, H, W) -> the same.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = SameConv2d(width, width)
        self.conv2 = SameConv2d(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's residual to its input."""
        residual: Tensor = self.conv2(F.relu(self.conv1(x)))
        return x + residual


class Upscale2x(nn.Module):
    """Sub-pixel convolution: conv width -> 4 width, pixel shuffle, no activation (Sec. 3.2, [33]; N2).

    Shapes: (B, width, H, W) -> (B, width, 2H, 2W).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = SameConv2d(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """Double height and width."""
        return F.pixel_shuffle(self.conv(x), 2)


def decode(upscale: nn.Sequential, last: SameConv2d, x: Tensor) -> Tensor:
    """The decoder of Wnet and SRnet: upscalings, then a convolution, no activation (Sec. 3.2; N2, N5).

    Shapes: (B, width, h, w) -> (B, last's channels, 2^len(upscale) h, 2^len(upscale) w).
    """
    decoded: Tensor = last(upscale(x))
    return decoded


class Decoding(nn.Module):
    """A network that ends in a decoder.

    Attributes:
        decode: `decode`, or the same linear map with layers composed into one (`gwainet.nets.folded`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.decode: Callable[[nn.Sequential, SameConv2d, Tensor], Tensor] = decode


class Downscale8x(nn.Sequential):
    """Three downscaling blocks: conv s1 - ReLU - conv s2 - ReLU each (Sec. 3.2, GFEnet; Table 2, Wnet).

    Shapes: (B, in_channels, H, W) -> (B, width, H/8, W/8).
    """

    def __init__(self, in_channels: int, width: int) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, width, width):
            layers += [SameConv2d(channels, width), nn.ReLU(), SameConv2d(width, width, stride=2), nn.ReLU()]
        super().__init__(*layers)


def residual_blocks(count: int, width: int) -> nn.Sequential:
    """`count` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Glorot-uniform weights and zero biases for every convolution and linear layer below `module` (N7)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
