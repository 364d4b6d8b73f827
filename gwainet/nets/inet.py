"""Inet, the identity encoder: a siamese VGG-16 (Sec. 3.2; Table 2; N13)."""

from typing import Literal

import torch
from torch import Tensor, nn

from gwainet.nets.blocks import SameConv2d

Layout = Literal["vgg16", "table2"]
CONVOLUTIONS: dict[Layout, tuple[int, ...]] = {
    "vgg16": (2, 2, 3, 3, 3),  # the text says VGG-16
    "table2": (2, 2, 2, 3, 2),  # Table 2 as printed
}


class Inet(nn.Module):
    """Embedding of a face (Sec. 3.2, Identity Encoder).

    Shapes: image (B, 3, H, W) -> embedding (B, features).
    Units: images in [-1, 1] (N12).

    Args:
        height: of the images, pixels.
        width: of the images, pixels.
        channels: of the first group of convolutions (64 in the paper); the groups have 1, 2, 4, 8, 8 times as many.
        features: of the embedding and the hidden layers (4096 in the paper).
        layout: how many convolutions the groups have (N13).
    """

    def __init__(
        self, height: int, width: int, channels: int = 64, features: int = 4096, layout: Layout = "vgg16"
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for count, multiple in zip(CONVOLUTIONS[layout], (1, 2, 4, 8, 8), strict=True):
            for _ in range(count):
                layers += [SameConv2d(before, channels * multiple), nn.ReLU()]
                before = channels * multiple
            layers.append(nn.MaxPool2d(2, ceil_mode=True))
            height, width = -(-height // 2), -(-width // 2)
        self.convs = nn.Sequential(*layers)
        self.fc = nn.Sequential(
            nn.Linear(before * height * width, features),
            nn.ReLU(),
            nn.Linear(features, features),
            nn.ReLU(),
            nn.Linear(features, features),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Inet(x; theta_Inet)."""
        embedding: Tensor = self.fc(self.convs(image).flatten(1))
        return embedding


class PairHead(nn.Module):
    """w and b of Eq. 5, used only while Inet is pretrained.

    Shapes: two embeddings (B, features) -> logit (B,); its sigmoid is y.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.fc = nn.Linear(features, 1)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """w^T |Inet(x1) - Inet(x2)| + b (Eq. 5, before the sigmoid)."""
        logit: Tensor = self.fc(torch.abs(first - second)).squeeze(1)
        return logit
