"""Wavelet-SRNet: finds the bands of the picture's wavelet packet (Huang et al., ICCV 2017)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.baselines import haar
from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated

STAGES = (1, 1, 2, 4, 8, 16)  # multiples of the width
BLOCKS = 2  # of each stage, and of each head


class WaveletBlock(nn.Module):
    """conv3 - BN - ReLU - conv3 - BN, plus the input (by a conv1 where their channels differ), ReLU.

    Shapes: (B, before, h, w) -> (B, after, h, w).

    Args:
        before: channels.
        after: channels.
        groups: of the convolutions; the first is not grouped where `spread` is true.
        spread: whether the block makes groups of an input that has none.
    """

    def __init__(self, before: int, after: int, groups: int = 1, *, spread: bool = False) -> None:
        super().__init__()
        first = 1 if spread else groups
        self.skip = nn.Conv2d(before, after, 1, groups=first, bias=False) if before != after else nn.Identity()
        self.layers = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1, groups=first, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(after),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's residual to its input."""
        return F.relu(self.skip(x) + self.layers(x))


class WaveletSRNet(nn.Module):
    """An embedding at the size of I_LR, four heads for groups of bands, the packet's inverse.

    About 75 M parameters at width 64, the published width; a narrower one has to be named with its width.

    Shapes: I_LR (B, 3, h, w) -> I_SR (B, 3, 8h, 8w), any h and w.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
        for multiple in STAGES:
            for _ in range(BLOCKS):
                layers.append(WaveletBlock(before, width * multiple))
                before = width * multiple
        self.embedding = nn.Sequential(*layers)
        self.heads = nn.ModuleList(self._head(before, width, bands) for bands in haar.GROUPS)

    @staticmethod
    def _head(before: int, width: int, bands: int) -> nn.Sequential:
        half, whole = width // 2 * bands, width * bands
        return nn.Sequential(
            WaveletBlock(before, half, bands, spread=True),
            WaveletBlock(half, whole, bands),
            *(WaveletBlock(whole, whole, bands) for _ in range(BLOCKS - 1)),
            nn.Conv2d(whole, 3 * bands, 3, padding=1, groups=bands, bias=False),
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's; the original does not say."""
        initialise(self, generator)

    def bands(self, i_lr: Tensor) -> Tensor:
        """The bands of I_SR. Shapes: (B, 3, h, w) -> (B, 64, 3, h, w)."""
        embedded = self.embedding(i_lr)
        found = torch.cat([head(embedded) for head in self.heads], dim=1)
        return found.view(len(i_lr), haar.BANDS, 3, *i_lr.shape[2:])

    def forward(self, i_lr: Tensor, i_lru: Tensor | None = None, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lru` and `i_gi` are not looked at."""
        return Generated(haar.inverse(self.bands(i_lr)), None, None)
