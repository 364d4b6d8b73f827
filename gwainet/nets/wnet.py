"""Wnet, the warper: finds the flow that aligns the guide with the input, and the sampler that follows it (Sec. 3.2)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import Decoding, Downscale8x, PreciseConv2d, SameConv2d, Upscale2x, residual_blocks

Sampler = Literal["paper", "released", "border"]


class Wnet(Decoding):
    """Localisation network of a spatial transformer (Sec. 3.2, Warper; Table 2).

    Shapes: I_LRU (B, 3, H, W), I_GI (B, 3, H, W) -> omega (B, 2, H, W), any H and W divisible by 8.
    Units: omega in grid units, 2 being the whole side; channel 0 moves along x, channel 1 along y (N8). Unconstrained.

    Args:
        width: feature maps (64 in the paper).
        blocks: residual blocks (8 in the paper).
    """

    def __init__(self, width: int = 64, blocks: int = 8) -> None:
        super().__init__()
        self.encoder = Downscale8x(6, width)
        self.conv_in = SameConv2d(width, width)
        self.blocks = residual_blocks(blocks, width)
        self.conv_before_skip = SameConv2d(width, width)
        self.upscale = nn.Sequential(Upscale2x(width), Upscale2x(width), Upscale2x(width))
        self.conv_flow = PreciseConv2d(width, 2)

    def forward(self, i_lru: Tensor, i_gi: Tensor) -> Tensor:
        """Flow field omega of Eq. 3."""
        x = self.conv_in(self.encoder(torch.cat([i_lru, i_gi], dim=1)))  # (B, width, H/8, W/8)
        x = x + self.conv_before_skip(self.blocks(x))
        return self.decode(self.upscale, self.conv_flow, x)  # (B, 2, H, W)


def sampling_grid(omega: Tensor) -> Tensor:
    """rho = omega + delta (Eq. 3), in float32 whatever omega's precision, or float64 if omega is (N9).

    Shapes: (B, 2, H, W) -> (B, H, W, 2), x first.
    Units: grid units; -1 and 1 are the centres of the first and the last pixel.
    """
    height, width = omega.shape[2:]
    dtype = torch.promote_types(omega.dtype, torch.float32)
    delta_x = torch.linspace(-1, 1, width, device=omega.device, dtype=dtype).view(1, 1, width)
    delta_y = torch.linspace(-1, 1, height, device=omega.device, dtype=dtype).view(1, height, 1)
    return torch.stack([omega[:, 0].to(dtype) + delta_x, omega[:, 1].to(dtype) + delta_y], dim=-1)


def warp(i_gi: Tensor, omega: Tensor, sampler: Sampler = "paper") -> Tensor:
    """I_GW: the guide sampled bilinearly where the flow points (Eqs. 3 and 4).

    Shapes: (B, C, H, W), (B, 2, H, W) -> (B, C, H, W).

    Args:
        i_gi: guide, mean-subtracted.
        omega: flow of `Wnet`.
        sampler: the rule outside the image (N9). `paper` is Eq. 4 as printed: pixels that do not exist are 0.
            `released` is the authors' released code: 0 wherever a coordinate lies outside [0, n - 1), n - 1 included.
            `border` clamps the coordinate to the image first.
    """
    rho = sampling_grid(omega)
    padding = "zeros" if sampler == "paper" else "border"
    with torch.autocast(i_gi.device.type, enabled=False):
        i_gw = F.grid_sample(i_gi.to(rho.dtype), rho, mode="bilinear", padding_mode=padding, align_corners=True)
    if sampler == "released":
        inside = ((rho >= -1) & (rho < 1)).all(dim=-1)  # (B, H, W)
        i_gw = i_gw * inside.unsqueeze(1)
    return i_gw
