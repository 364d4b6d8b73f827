"""The losses of other papers' systems that ours do not have, a function each. Images are in [-1, 1]."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet.baselines import haar

HIGH, LOW, IMAGE = 0.99, 0.01, 0.1  # weights of Wavelet-SRNet's squared errors
TEXTURE = 1.2  # by which its bands' energy is to exceed the truth's


def wavelet_loss(i_sr: Tensor, i_gt: Tensor) -> dict[str, Tensor]:
    """Wavelet-SRNet's: squared errors of high and low bands and of the picture, and a hinge on the bands' energy.

    The hinge max(0, 1.2 |w_gt|^2 - |w_sr|^2) is of each high band of each picture, |w|^2 its mean over places and
    colours; then the mean over bands and pictures.

    Shapes: (B, 3, H, W), (B, 3, H, W) -> scalars; their sum is the loss.
    """
    made, true = haar.packet(i_sr), haar.packet(i_gt)
    energy_made, energy_true = (bands[:, 1:].square().mean(dim=(2, 3, 4)) for bands in (made, true))
    return {
        "high": HIGH * F.mse_loss(made[:, 1:], true[:, 1:]),
        "low": LOW * F.mse_loss(made[:, :1], true[:, :1]),
        "image": IMAGE * F.mse_loss(i_sr, i_gt),
        "texture": F.relu(TEXTURE * energy_true - energy_made).mean(),
    }


def feature_loss(convolutions: nn.Module, i_sr: Tensor, i_gt: Tensor) -> Tensor:
    """Mean squared difference of a frozen network's features: of Inet, where the originals have VGG.

    Shapes: (B, 3, H, W), (B, 3, H, W) -> scalar.
    """
    with torch.no_grad():
        true = convolutions(i_gt)
    return F.mse_loss(convolutions(i_sr), true)


def variation_loss(omega: Tensor) -> Tensor:
    """GFRNet's total variation of the flow: mean squared difference of neighbours, down and across.

    Shapes: (B, 2, H, W) -> scalar.
    """
    return omega.diff(dim=2).square().mean() + omega.diff(dim=3).square().mean()
