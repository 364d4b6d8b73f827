"""Decoder, encoder, decoder with spatial transformers, after TDAE (Yu and Porikli, CVPR 2017): "TDAE-style".

What differs: TDAE turns a tiny face of any pose into a frontal one of 128 x 128 and knows noise; here the answer is the
target as it is, at its own size, and there is no noise. Its first decoder has a discriminator, this one has none: the
three parts are trained at once, by squared error. Numbers of channels are ours.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.nets.blocks import initialise
from gwainet.nets.model import Generated

DOUBLINGS = 3
MULTIPLES = (8, 4, 2, 1)  # of the width, from the size of I_LR to that of I_SR


class SpatialTransformer(nn.Module):
    """Features seen through an affine map that a small network finds (Jaderberg et al., NIPS 2015).

    Begins as the identity. Shapes: (B, channels, h, w) -> the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.find = nn.Sequential(
            nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 32), nn.ReLU(), nn.Linear(32, 6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Look through the map; outside, the rim goes on."""
        identity = x.new_tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
        theta = (self.find(x) + identity).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.shape), align_corners=False)
        return F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


class Decoder(nn.Module):
    """conv3, three of (transposed conv4 of stride 2, BN, ReLU), conv3; spatial transformers around the first.

    Shapes: (B, 3, h, w) -> (B, 3, 8h, 8w).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * multiple for multiple in MULTIPLES]
        layers: list[nn.Module] = [nn.Conv2d(3, channels[0], 3, padding=1), nn.ReLU(), SpatialTransformer(channels[0])]
        for place in range(DOUBLINGS):
            before, after = channels[place], channels[place + 1]
            layers += [nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
            if place == 0:
                layers.append(SpatialTransformer(after))
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """A picture eight times as high and wide."""
        made: Tensor = self.layers(x)
        return made


class Encoder(nn.Module):
    """Three of (conv4 of stride 2, BN, LeakyReLU 0.2), then conv3. Shapes: (B, 3, 8h, 8w) -> (B, 3, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [3, *(width * multiple for multiple in MULTIPLES[DOUBLINGS - 1 :: -1])]
        layers: list[nn.Module] = []
        for place in range(DOUBLINGS):
            before, after = channels[place], channels[place + 1]
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels[-1], 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """A picture an eighth as high and wide."""
        made: Tensor = self.layers(x)
        return made


class TdaeStyle(nn.Module):
    """A first answer, back to the size of I_LR, where I_LR is added, and from there the answer; 8.97 M at width 64.

    Shapes: I_LR (B, 3, h, w) -> I_SR (B, 3, 8h, 8w), any h and w.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.first, self.encoder, self.second = Decoder(width), Encoder(width), Decoder(width)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, Glorot's, a third of them where pictures come out: both begin near grey."""
        initialise(self, generator)
        for decoder in (self.first, self.second):
            with torch.no_grad():
                decoder.layers[-1].get_parameter("weight").mul_(0.3)
        for layer in self.modules():
            if isinstance(layer, nn.ConvTranspose2d):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
            elif isinstance(layer, SpatialTransformer):
                nn.init.zeros_(layer.find[-1].get_parameter("weight"))

    def forward(self, i_lr: Tensor, i_lru: Tensor | None = None, i_gi: Tensor | None = None) -> Generated:
        """Super-resolve; `i_lru` and `i_gi` are not looked at."""
        return Generated(self.second(i_lr + self.encoder(self.first(i_lr))), None, None)
