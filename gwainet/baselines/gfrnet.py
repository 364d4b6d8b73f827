"""GFRNet's way: a warped guide and a U-Net (Li et al., ECCV 2018), from what is published of it: "GFRNet-style".

What differs: CelebA's five landmarks, where the original has many more of a detector, or none where the source brings
none (`gwainet.baselines.phases`); one critic, where the original has one of the face's parts, too; where a side is odd
on the way down it is padded by a row or column of zeros, which is cut on the way back.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated
from gwainet.nets.wnet import warp

# multiples of the width, one for each halving of the sides
WARPNET = (1, 2, 4, 8, 16, 16, 16, 16)
RECNET = (1, 2, 4, 8, 8, 8, 8, 8)


class Down(nn.Module):
    """LeakyReLU - conv4 of stride 2 - BN. Shapes: (B, before, H, W) -> (B, after, ceil(H / 2), ceil(W / 2)).

    The first layer has neither activation nor normalisation, the innermost no normalisation, nor has one that comes to
    a single place: of one place and one picture there is no deviation.
    """

    def __init__(self, before: int, after: int, *, first: bool, last: bool) -> None:
        super().__init__()
        self.activation = nn.Identity() if first else nn.LeakyReLU(0.2)
        self.conv = nn.Conv2d(before, after, 4, stride=2, padding=1)
        self.norm = nn.Identity() if first or last else nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """Halve the sides."""
        height, width = x.shape[2:]
        halved: Tensor = self.conv(F.pad(self.activation(x), (0, width % 2, 0, height % 2)))
        return halved if halved.shape[2:].numel() == 1 else self.norm(halved)


class Up(nn.Module):
    """ReLU - transposed conv4 of stride 2 - BN. Shapes: (B, before, h, w) -> (B, after, 2h, 2w), cut to a size."""

    def __init__(self, before: int, after: int, *, last: bool) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
        self.norm = nn.Identity() if last else nn.BatchNorm2d(after)

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """Double the sides, then cut to `size`."""
        doubled: Tensor = self.norm(self.conv(F.relu(x)))
        return doubled[:, :, : size[0], : size[1]]


class PreciseUp(Up):
    """In its weights' own precision, whatever autocast says, as Wnet's last convolution (`PreciseConv2d`)."""

    def forward(self, x: Tensor, size: torch.Size) -> Tensor:
        """Double the sides, then cut to `size`."""
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.conv.weight.dtype), size)


class Hourglass(nn.Module):
    """Eight halvings of the sides and eight doublings, with or without skips between them.

    Shapes: (B, before, H, W) -> (B, after, H, W), any H and W.

    Args:
        before: channels.
        after: channels.
        channels: of each halving.
        skips: whether what was met on the way down is seen again on the way back.
        precise: whether the last layer keeps out of autocast: a place rounded to bfloat16 is up to half a pixel off.
    """

    def __init__(
        self, before: int, after: int, channels: tuple[int, ...], *, skips: bool, precise: bool = False
    ) -> None:
        super().__init__()
        self.skips = skips
        ends = len(channels) - 1
        self.downs = nn.ModuleList(
            Down(a, b, first=place == 0, last=place == ends)
            for place, (a, b) in enumerate(pairwise((before, *channels)))
        )
        back = (*channels[::-1], after)
        self.ups = nn.ModuleList(
            (PreciseUp if precise and place == ends else Up)(2 * a if skips and place else a, b, last=place == ends)
            for place, (a, b) in enumerate(pairwise(back))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Down and up again."""
        met = [x]
        for down in self.downs:
            met.append(down(met[-1]))
        out = met.pop()
        for place, up in enumerate(self.ups):
            beside = met.pop()
            out = up(out, beside.shape[2:])
            if self.skips and place < len(self.ups) - 1:
                out = torch.cat([out, beside], dim=1)
        return out


class Gfrnet(nn.Module):
    """WarpNet finds where each pixel of the aligned guide comes from; RecNet makes the face of both.

    WarpNet is an hourglass of 64 to 1024 channels without skips, whose two channels are a grid of places, by tanh.
    RecNet is a U-Net of 64 to 512 channels, by a sigmoid. No gradient of RecNet's loss reaches WarpNet.

    Shapes: I_LRU (B, 3, H, W), I_GI (B, 3, H, W) -> I_SR (B, 3, H, W), any H and W.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.warpnet = Hourglass(6, 2, tuple(width * multiple for multiple in WARPNET), skips=False, precise=True)
        self.recnet = Hourglass(6, 3, tuple(width * multiple for multiple in RECNET), skips=True)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights: normal of deviation 0.02, as is usual of such networks; the original does not say."""
        initialise(self, generator)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(layer.weight, 0.0, 0.02, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def aligned(self, i_lru: Tensor, i_gi: Tensor) -> tuple[Tensor, Tensor]:
        """The warped guide and its flow.

        Shapes: (B, 3, H, W), (B, 3, H, W) -> (B, 3, H, W), (B, 2, H, W).
        Units: the flow in grid units, as Wnet's: the grid that tanh gives, less the one of a guide left as it is; both
        in the weights' precision, whatever autocast says.
        """
        grid = torch.tanh(self.warpnet(torch.cat([i_lru, i_gi], dim=1)))
        height, width = grid.shape[2:]
        x = torch.linspace(-1, 1, width, device=grid.device, dtype=grid.dtype).view(1, 1, 1, width)
        y = torch.linspace(-1, 1, height, device=grid.device, dtype=grid.dtype).view(1, 1, height, 1)
        omega = torch.cat([grid[:, :1] - x, grid[:, 1:] - y], dim=1)
        return warp(i_gi, omega, "border"), omega

    def forward(self, i_lr: Tensor, i_lru: Tensor, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve with the guide; `i_lr` is not looked at.

        Raises:
            ValueError: there is no guide.
        """
        if i_gi is None:
            raise ValueError("GFRNet needs a guide")
        i_gw, omega = self.aligned(i_lru, i_gi)
        made = torch.sigmoid(self.recnet(torch.cat([i_lru, i_gw.detach()], dim=1)))
        return Generated(made * 2 - 1, i_gw, omega)
