"""SRResNet, the generator of SRGAN, and SRGAN's critic (Ledig et al., CVPR 2017)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated

BLOCKS = 16
UPSCALINGS = 3  # of 2 each; the original has two


class NormalisedBlock(nn.Module):
    """conv3 - BN - PReLU - conv3 - BN, plus the input. Shapes: (B, width, h, w) -> the same."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.PReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's residual to its input."""
        residual: Tensor = self.layers(x)
        return x + residual


class Srresnet(nn.Module):
    """conv9, PReLU, 16 blocks, conv3, BN, skip, three of (conv3, PixelShuffle, PReLU), conv9; 1.70 M at width 64.

    Shapes: I_LR (B, 3, h, w) -> I_SR (B, 3, 8h, 8w), any h and w.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 9, padding=4), nn.PReLU())
        self.blocks = nn.Sequential(
            *(NormalisedBlock(width) for _ in range(BLOCKS)),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
        )
        upscale: list[nn.Module] = []
        for _ in range(UPSCALINGS):
            upscale += [nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU()]
        self.upscale = nn.Sequential(*upscale)
        self.last = nn.Conv2d(width, 3, 9, padding=4)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's; the original does not say."""
        initialise(self, generator)

    def forward(self, i_lr: Tensor, i_lru: Tensor | None = None, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lru` and `i_gi` are not looked at."""
        first = self.first(i_lr)
        return Generated(self.last(self.upscale(first + self.blocks(first))), None, None)


class SrganCritic(nn.Module):
    """Eight conv3, every second of stride 2, BN but for the first, LeakyReLU 0.2, then a pooled head.

    The original ends in a dense layer over all places, 139 M parameters at 256 x 256: the mean over places stands in
    its place here, so that any size can be judged.

    Shapes: image (B, 3, H, W) in [-1, 1] -> logit (B,).
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [3, *(width * multiple for multiple in (1, 1, 2, 2, 4, 4, 8, 8))]
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise(channels)):
            layers.append(nn.Conv2d(before, after, 3, stride=1 + place % 2, padding=1))
            if place:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Linear(channels[-1], 16 * width), nn.LeakyReLU(0.2), nn.Linear(16 * width, 1))

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's."""
        initialise(self, generator)

    def forward(self, image: Tensor) -> Tensor:
        """How real an image looks, as a logit."""
        logit: Tensor = self.head(self.layers(image).mean(dim=(2, 3))).squeeze(1)
        return logit
