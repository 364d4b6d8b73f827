"""A cascade of doublings without landmarks: CBN's common branch (Zhu et al., ECCV 2016) without its gates.

Not CBN: that has a second branch of high frequencies and a dense correspondence field of landmarks that chooses between
the two, works on grey faces, and its training code was never released. Numbers of layers are ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated
from gwainet.tensors import Means, column

STEPS = 3  # doublings: 8 times in all
LAYERS = 8  # convolutions of a step


class Doubling(nn.Module):
    """The picture at twice its size, and what a chain of conv3 finds that it lacks. (B, 3, h, w) -> (B, 3, 2h, 2w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1), nn.ReLU()]
        for _ in range(LAYERS - 2):
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 3, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        """Double height and width, bicubic, and add the residual."""
        doubled = F.interpolate(picture, scale_factor=2, mode="bicubic", align_corners=False)
        residual: Tensor = self.layers(doubled)
        return doubled + residual


class Cascade(nn.Module):
    """h -> 2h -> 4h -> 8h, each step with weights of its own; 675,273 parameters at width 64.

    Shapes: I_LR (B, 3, h, w) -> I_SR (B, 3, 8h, 8w), any h and w.
    """

    def __init__(self, means: Means, width: int = 64) -> None:
        super().__init__()
        self.means = means
        self.steps = nn.Sequential(*(Doubling(width) for _ in range(STEPS)))

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's, the last layer of each step small: a cascade begins near bicubic."""
        initialise(self, generator)
        for step in self.steps:
            assert isinstance(step, Doubling)
            with torch.no_grad():
                step.layers[-1].get_parameter("weight").mul_(0.1)

    def forward(self, i_lr: Tensor, i_lru: Tensor | None = None, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lru` and `i_gi` are not looked at."""
        picture: Tensor = self.steps(i_lr) + column(self.means.lr, i_lr.device)
        return Generated(picture * 2 - 1, None, None)
