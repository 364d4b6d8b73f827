"""SRCNN: three convolutions on the upscaled picture (Dong et al., ECCV 2014)."""

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated


class Srcnn(nn.Module):
    """9-1-5: conv9 3 -> width, ReLU, conv1 -> width / 2, ReLU, conv5 -> 3; 20,099 parameters at width 64.

    RGB in and out, whole faces, where the original took patches of Y.

    Shapes: I_LRU (B, 3, H, W) -> I_SR (B, 3, H, W), any H and W.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, width, 9, padding=4),
            nn.ReLU(),
            nn.Conv2d(width, width // 2, 1),
            nn.ReLU(),
            nn.Conv2d(width // 2, 3, 5, padding=2),
        )

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's: the original's normal of deviation 0.001 goes with its SGD."""
        initialise(self, generator)

    def forward(self, i_lr: Tensor, i_lru: Tensor, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lr` and `i_gi` are not looked at."""
        return Generated(self.layers(i_lru), None, None)
