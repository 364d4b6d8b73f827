"""EDSR's baseline network (Lim et al., CVPR Workshops 2017): SRnet without a guide (docs/paper.md, N5)."""

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import initialise
from gwainet.nets.gnet import SRnet
from gwainet.nets.model import Generated

BLOCKS = 16


class Edsr(nn.Module):
    """conv3, 16 residual blocks without normalisation, conv3 with a skip, three sub-pixel upscalings, conv3.

    1.665 M parameters at width 64: BAnet's network, so that what the critic and the guide add can be told apart.

    Shapes: I_LR (B, 3, h, w) -> I_SR (B, 3, 8h, 8w), any h and w.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.srnet = SRnet(width, BLOCKS // 4, guided=False)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's, as SRnet has them."""
        initialise(self, generator)

    def forward(self, i_lr: Tensor, i_lru: Tensor, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lru` and `i_gi` are not looked at."""
        return Generated(self.srnet(i_lr), None, None)
