"""VDSR: twenty convolutions that find what the upscaled picture lacks (Kim et al., CVPR 2016)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from gwainet.nets.model import Generated
from gwainet.tensors import Means, column

LAYERS = 20


class Vdsr(nn.Module):
    """conv3 3 -> width, 18 conv3 width -> width, conv3 width -> 3, ReLU between them, on top of the upscaled picture.

    Without biases: 667,008 parameters at width 64, the published 0.667 M. RGB, where the original took Y.

    Shapes: I_LRU (B, 3, H, W) -> I_SR (B, 3, H, W), any H and W.
    """

    def __init__(self, means: Means, width: int = 64) -> None:
        super().__init__()
        self.means = means
        channels = [3, *[width] * (LAYERS - 1), 3]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, He's."""
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=generator)

    def forward(self, i_lr: Tensor, i_lru: Tensor, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lr` and `i_gi` are not looked at."""
        picture = (i_lru + column(self.means.lr, i_lru.device)) * 2 - 1
        return Generated(picture + self.layers(i_lru), None, None)
