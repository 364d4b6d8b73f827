"""Gnet, the generator: SRnet super-resolves, GFEnet extracts the warped guide's features (Sec. 3.2)."""

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import Decoding, Downscale8x, SameConv2d, Upscale2x, residual_blocks

GUIDE_GROUPS = 3  # fusions; SRnet goes on alone after the third (N4)


class GFEnet(nn.Module):
    """Guide feature extractor: three downscaling blocks, a convolution (N3), twelve residual blocks (Sec. 3.2).

    Shapes: I_GW (B, 3, H, W) -> three (B, width, H/8, W/8), the features after every `blocks_per_group` blocks.
    """

    def __init__(self, width: int = 64, blocks_per_group: int = 4) -> None:
        super().__init__()
        self.encoder = Downscale8x(3, width)
        self.conv_in = SameConv2d(width, width)
        self.groups = nn.ModuleList(residual_blocks(blocks_per_group, width) for _ in range(GUIDE_GROUPS))

    def forward(self, i_gw: Tensor) -> list[Tensor]:
        """Features to fuse, in order."""
        x = self.conv_in(self.encoder(i_gw))
        features = []
        for group in self.groups:
            x = group(x)
            features.append(x)
        return features


class SRnet(Decoding):
    """EDSR's baseline network with three sub-pixel upscalings (Sec. 3.2; N5), with the fusions (N4).

    Shapes: I_LR (B, 3, h, w), guide features (B, width, h, w) each -> I_SR (B, 3, 8h, 8w).
    Units: I_SR in [-1, 1], not clamped.

    Args:
        width: feature maps (64 in the paper).
        blocks_per_group: residual blocks between fusions (4 in the paper, 16 in all).
        guided: with fusions; without, the network is BAnet's generator.
    """

    def __init__(self, width: int = 64, blocks_per_group: int = 4, guided: bool = True) -> None:
        super().__init__()
        self.conv_in = SameConv2d(3, width)
        self.groups = nn.ModuleList(residual_blocks(blocks_per_group, width) for _ in range(GUIDE_GROUPS + 1))
        self.fusions = nn.ModuleList(SameConv2d(2 * width, width) for _ in range(GUIDE_GROUPS if guided else 0))
        self.conv_before_skip = SameConv2d(width, width)
        self.upscale = nn.Sequential(Upscale2x(width), Upscale2x(width), Upscale2x(width))
        self.conv_out = SameConv2d(width, 3)

    def forward(self, i_lr: Tensor, guide_features: list[Tensor] | None = None) -> Tensor:
        """Super-resolve; `guide_features` are GFEnet's, or None for the unguided network."""
        first = x = self.conv_in(i_lr)
        for index, group in enumerate(self.groups):
            x = group(x)
            if index < len(self.fusions):
                if guide_features is None:
                    raise ValueError("a guided SRnet needs GFEnet's features")
                x = self.fusions[index](torch.cat([x, guide_features[index]], dim=1))
        return self.decode(self.upscale, self.conv_out, first + self.conv_before_skip(x))


class Gnet(nn.Module):
    """SRnet and GFEnet together (Sec. 3.2, Generator), or SRnet alone (BAnet, Sec. 4.3).

    Shapes: I_LR (B, 3, h, w), I_GW (B, 3, 8h, 8w) or None -> I_SR (B, 3, 8h, 8w).
    """

    def __init__(self, width: int = 64, blocks_per_group: int = 4, guided: bool = True) -> None:
        super().__init__()
        self.gfenet = GFEnet(width, blocks_per_group) if guided else None
        self.srnet = SRnet(width, blocks_per_group, guided)

    def forward(self, i_lr: Tensor, i_gw: Tensor | None = None) -> Tensor:
        """Super-resolve with the warped guide."""
        if self.gfenet is None:
            i_sr: Tensor = self.srnet(i_lr)
        else:
            i_sr = self.srnet(i_lr, self.gfenet(i_gw))
        return i_sr
