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


def landmark_loss(omega: Tensor, target: Tensor, guide: Tensor) -> Tensor:
    """GFRNet's: where the grid points at the target's landmarks, against where the guide has them.

    The squared distance of the two places, summed over the landmarks that both pictures have; then the mean over
    pictures.

    Shapes: flow (B, 2, H, W), landmarks (B, L, 2) and (B, L, 2) -> scalar.
    Units: all in grid units, -1 and 1 at the centres of the outermost pixels; NaN where a landmark is not known.
    """
    known = (target + guide).isfinite().all(dim=2)  # (B, L)
    # numbers in place of NaN, whose gradient would be NaN even where it is multiplied by 0
    at, wanted = (places.nan_to_num().to(omega.dtype) for places in (target, guide))
    flow = F.grid_sample(omega, at.unsqueeze(2), mode="bilinear", padding_mode="border", align_corners=True)
    pointed = at + flow.squeeze(3).transpose(1, 2)  # (B, L, 2)
    return ((pointed - wanted).square().sum(dim=2) * known).sum(dim=1).mean()


def variation_loss(omega: Tensor) -> Tensor:
    """GFRNet's total variation of the flow: mean squared difference of neighbours, down and across.

    Shapes: (B, 2, H, W) -> scalar.
    """
    return omega.diff(dim=2).square().mean() + omega.diff(dim=3).square().mean()
