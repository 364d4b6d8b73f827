"""Cnet, the critic of WGAN-GP: DCGAN's discriminator without batch normalisation (Sec. 3.2; Table 2)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import SameConv2d

NEGATIVE_SLOPE = 0.2  # Table 2


class Cnet(nn.Module):
    """Four k5 s2 convolutions with LeakyReLU, then fc(1), no sigmoid (Table 2; N11).

    Shapes: image (B, 3, H, W) -> D (B,).
    Units: images in [-1, 1], the super-resolved one not clamped (N12).

    Args:
        height: of the images, pixels.
        width: of the images, pixels.
        features: of the first convolution (64 in the paper), doubled at each.
    """

    def __init__(self, height: int, width: int, features: int = 64) -> None:
        super().__init__()
        channels = [3, *(features * 2**i for i in range(4))]
        self.convs = nn.ModuleList(
            SameConv2d(before, after, kernel_size=5, stride=2) for before, after in pairwise(channels)
        )
        self.fc = nn.Linear(channels[-1] * -(-height // 16) * -(-width // 16), 1)

    def forward(self, image: Tensor) -> Tensor:
        """How real an image looks, unbounded."""
        x = image
        for layer in self.layers()[:-1]:
            x = layer(x)
        with torch.autocast(x.device.type, enabled=False):  # scores may be far from 0, where bfloat16 tells few apart
            x = self.fc(x.to(self.fc.weight.dtype))
        scores: Tensor = x.squeeze(1)  # (B,)
        return scores

    def layers(self) -> list[nn.Module]:
        """All that the forward does, in order; `gwainet.nets.transposed` walks it backwards."""
        convs = [layer for conv in self.convs for layer in (conv, nn.LeakyReLU(NEGATIVE_SLOPE))]
        return [*convs, nn.Flatten(), self.fc]
