"""The paper's losses, one function an equation (Sec. 3.3). Images are in [-1, 1] (L1, N12 in docs/paper.md)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Critic = Callable[[Tensor], Tensor]
Gradient = Callable[[Tensor], Tensor]


def content_loss(i_sr: Tensor, i_gt: Tensor) -> Tensor:
    """L_content: mean absolute difference (Eq. 6).

    Shapes: (B, 3, H, W), (B, 3, H, W) -> scalar.
    """
    return (i_sr - i_gt).abs().mean()


def adversarial_loss(fake: Tensor) -> Tensor:
    """L_adv of the generator: -L_fake (Sec. 3.3, Adversarial loss).

    Shapes: D(I_SR) (B,) -> scalar.
    """
    return -fake.mean()


def identity_loss(embedding_sr: Tensor, embedding_gt: Tensor) -> Tensor:
    """L_id: squared distance of the embeddings over their length, mean over the batch (Eq. 7).

    Shapes: (B, features), (B, features) -> scalar.
    """
    return (embedding_sr - embedding_gt).square().mean()


def pair_loss(logit: Tensor, same: Tensor) -> Tensor:
    """Cross entropy of Eq. 5's y against "the two pictures show the same person" (Sec. 3.2, Identity Encoder).

    Shapes: logit (B,), same (B,) of 0 and 1 -> scalar.
    """
    return F.binary_cross_entropy_with_logits(logit, same)


def image_gradient(critic: Critic, image: Tensor) -> Tensor:
    """Gradient of a critic with respect to each picture, by autograd, which can go back through it once more.

    Shapes: (B, 3, H, W) -> the same.
    """
    image = image.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
    return gradient


def gradient_penalty(gradient_at: Gradient, i_sr: Tensor, i_gt: Tensor, epsilon: Tensor) -> Tensor:
    """L_gp: mean of (|| gradient of D at epsilon I_GT + (1 - epsilon) I_SR || - 1)^2 (Eq. 8, [14]; L7).

    The norm is over the whole image, not per pixel; float32 always, whatever autocast says.

    Shapes: (B, 3, H, W), (B, 3, H, W), epsilon (B, 1, 1, 1) -> scalar.

    Args:
        gradient_at: the critic's gradient with respect to pictures: `image_gradient`, or what equals it.
        i_sr: super-resolved, without gradient.
        i_gt: ground truth.
        epsilon: of each sample.
    """
    real, fake = _at_least_float32(i_gt), _at_least_float32(i_sr)
    squared = _squared_norm(gradient_at, epsilon * real + (1 - epsilon) * fake)
    norm = (squared + 1e-12).sqrt()  # 1e-12: the root's gradient at 0 is infinite
    return (norm - 1).square().mean()


def _at_least_float32(image: Tensor) -> Tensor:
    """Promoted, not cast: a float64 test stays float64."""
    return image.detach().to(torch.promote_types(image.dtype, torch.float32))


def _squared_norm(gradient_at: Gradient, image: Tensor) -> Tensor:
    """Squared norm of the critic's gradient over each whole image, whatever autocast says (L7).

    Shapes: (B, 3, H, W) -> (B,).
    """
    with torch.autocast(image.device.type, enabled=False):
        return gradient_at(image).square().sum(dim=(1, 2, 3))


def critic_loss(fake: Tensor, real: Tensor, penalty: Tensor, lambda_gp: float) -> Tensor:
    """L_c = L_fake - L_real + lambda_gp L_gp (Eq. 8).

    Shapes: D(I_SR) (B,), D(I_GT) (B,), scalar -> scalar.
    """
    return fake.mean() - real.mean() + lambda_gp * penalty


def r1_penalty(gradient_at: Gradient, i_gt: Tensor) -> Tensor:
    """R1: half the squared gradient of D at real images, mean over the batch (Mescheder et al., ICML 2018, Eq. 9).

    Not the paper's. The norm is over the whole image; float32 always, as in `gradient_penalty`.

    Shapes: (B, 3, H, W) -> scalar.
    """
    return _squared_norm(gradient_at, _at_least_float32(i_gt)).mean() / 2


def logistic_critic_loss(fake: Tensor, real: Tensor, penalty: Tensor, lambda_r1: float) -> Tensor:
    """-log sigmoid(L_real) - log(1 - sigmoid(L_fake)) + lambda_r1 R1 (Goodfellow et al., 2014). Not the paper's.

    Shapes: D(I_SR) (B,), D(I_GT) (B,), scalar -> scalar.
    """
    return F.softplus(fake).mean() + F.softplus(-real).mean() + lambda_r1 * penalty


def logistic_adversarial_loss(fake: Tensor) -> Tensor:
    """-log sigmoid(L_fake), the generator's loss that does not saturate (Goodfellow et al., 2014). Not the paper's.

    Shapes: D(I_SR) (B,) -> scalar.
    """
    return F.softplus(-fake).mean()


def total_loss(content: Tensor, adversarial: Tensor, identity: Tensor, lambda_adv: float, lambda_id: float) -> Tensor:
    """L_total = L_content + lambda_adv L_adv + lambda_id L_id (Eq. 9)."""
    return content + lambda_adv * adversarial + lambda_id * identity
