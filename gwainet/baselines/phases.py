"""How other papers' systems are trained, as phases of the one loop (`gwainet.training.loop.fit`)."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from gwainet import losses
from gwainet.baselines.gfrnet import Gfrnet
from gwainet.baselines.losses import feature_loss, landmark_loss, variation_loss, wavelet_loss
from gwainet.baselines.model import ADD_LANDMARKS, GFRNETS, SYSTEMS, Baseline, width_of
from gwainet.baselines.srresnet import SrganCritic
from gwainet.dataset import Batch, Faces
from gwainet.errors import DataError
from gwainet.nets.inet import Inet
from gwainet.nets.model import Generated
from gwainet.params import TrainBaseline
from gwainet.tensors import column
from gwainet.training.engine import PLAIN, Engine
from gwainet.training.feeds import Feed
from gwainet.training.phases import Rates, TrainingPhase, adam, descend, on_device, precise, total_steps
from gwainet.training.sampling import BatchSampler, Marked, MarkedSampler
from gwainet.training.validation import gains_over_bicubic, mean_psnr, sample_sheet, validation_rows

GFRNET_MSE, GFRNET_VARIATION, GFRNET_ADVERSARIAL, GFRNET_LANDMARKS = 100.0, 1.0, 1.0, 10.0  # its paper's weights


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation use what it has kept inside the block, and keep nothing."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class _BaselinePhase(TrainingPhase):
    """What all have in common: batches, validation, one optimiser for each of `parts`.

    Their steps are neither compiled nor captured: batch normalisation and parts that take turns decide on the host.
    """

    capturable = False

    def __init__(
        self, baseline: Baseline, faces: Faces, settings: TrainBaseline, device: torch.device, **others: nn.Module
    ) -> None:
        self.baseline, self.faces, self.settings, self.device = (
            on_device(device, baseline),
            faces,
            settings,
            device,
        )
        self.rows = validation_rows(faces, settings)
        self.batches = BatchSampler(faces, settings.batch_size, settings.seed, "generator")
        self.samplers = [self.batches]
        self.modules = {"generator": baseline, **others}
        for module in self.modules.values():
            module.train()
        self.optimisers = {}

    def _optimise(self, **parts: Iterable[nn.Parameter]) -> None:
        """An optimiser for each part, all at the same rate."""
        rate = self.settings.learning_rate
        self.optimisers |= {name: adam(part, self.settings, rate, self.device) for name, part in parts.items()}
        self.rates = Rates(self.settings, len(self.batches.targets), self.optimisers)
        self.use(PLAIN)

    def _compile(self, engine: Engine) -> None:
        engine.lay_out(*self.modules.values())

    def _made(self, batch: Batch) -> Generated:
        """What the system makes of a batch, float32 at least."""
        guide = batch.i_gi if self.baseline.guided else None
        with self.engine.autocast(self.device):
            made: Generated = self.baseline(batch.i_lr, batch.i_lru, guide)
        return made._replace(i_sr=precise(made.i_sr))

    def validate(self) -> dict[str, float]:
        """PSNR with the fixed guides, dB (M1)."""
        with evaluating(self.baseline):
            return {"psnr": mean_psnr(self.baseline, self.faces, self.rows)}

    def samples(self) -> Image.Image:
        """LR, guide, flow and warped guide where there are some, SR, ground truth and error."""
        with evaluating(self.baseline):
            return sample_sheet(self.baseline, self.faces, self.rows)

    def gains(self) -> pd.DataFrame:
        """What each validation face gains over bicubic."""
        with evaluating(self.baseline):
            return gains_over_bicubic(self.baseline, self.faces, self.rows)


class ContentPhase(_BaselinePhase):
    """A system without a critic: L1 (SRCNN, VDSR, EDSR), MSE (SRResNet, cascade, TDAE-style), Wavelet-SRNet's."""

    def __init__(self, baseline: Baseline, faces: Faces, settings: TrainBaseline, device: torch.device) -> None:
        super().__init__(baseline, faces, settings, device)
        self._optimise(generator=baseline.parameters())

    def update(self) -> dict[str, Tensor]:
        """One update."""
        batch = self.feed.batch()
        parts = self._losses(self._made(batch).i_sr, batch.i_gt)
        loss = torch.stack(list(parts.values())).sum()
        descend(self.optimisers["generator"], loss)
        return {"total": loss, **parts}

    def _losses(self, i_sr: Tensor, i_gt: Tensor) -> dict[str, Tensor]:
        if self.settings.system == "waveletsrnet":
            return wavelet_loss(i_sr, i_gt)
        if self.settings.system in ("srresnet", "cascade", "tdae_style"):
            return {"content": F.mse_loss(i_sr, i_gt)}
        return {"content": losses.content_loss(i_sr, i_gt)}


class _CriticPhase(_BaselinePhase):
    """A system with SRGAN's critic: one update of the critic a step, on the step's own batch, by the logistic loss."""

    def __init__(
        self,
        baseline: Baseline,
        critic: SrganCritic,
        inet: Inet | None,
        faces: Faces,
        settings: TrainBaseline,
        device: torch.device,
    ) -> None:
        self.critic = on_device(device, critic)
        self.inet = None if inet is None else on_device(device, inet)
        super().__init__(baseline, faces, settings, device, critic=self.critic)

    def _critic_step(self, i_sr: Tensor, i_gt: Tensor) -> Tensor:
        """One update of the critic; the super-resolved images carry no gradient."""
        fake, real = self.critic(i_sr.detach()), self.critic(i_gt)
        loss = losses.logistic_critic_loss(fake, real, torch.zeros((), device=self.device), 0.0)
        descend(self.optimisers["critic"], loss)
        return loss

    def _judged(self, i_sr: Tensor, i_gt: Tensor) -> tuple[Tensor, Tensor]:
        """The generator's adversarial loss, and the one of features (0 without Inet)."""
        self.critic.requires_grad_(False)  # saves its weights' gradients, which nobody wants here
        adversarial = losses.logistic_adversarial_loss(self.critic(i_sr))
        self.critic.requires_grad_(True)
        if self.inet is None:
            return adversarial, torch.zeros((), device=self.device)
        return adversarial, feature_loss(self.inet.convs, i_sr, i_gt)


class SrganPhase(_CriticPhase):
    """SRGAN: MSE, Inet's features in place of VGG's, and the critic."""

    def __init__(
        self,
        baseline: Baseline,
        critic: SrganCritic,
        inet: Inet | None,
        faces: Faces,
        settings: TrainBaseline,
        device: torch.device,
    ) -> None:
        super().__init__(baseline, critic, inet, faces, settings, device)
        self._optimise(generator=baseline.parameters(), critic=critic.parameters())

    def update(self) -> dict[str, Tensor]:
        """One update of the critic, one of the generator."""
        batch = self.feed.batch()
        i_sr = self._made(batch).i_sr  # once: a second forward would count twice for its BN
        critic = self._critic_step(i_sr, batch.i_gt)
        adversarial, features = self._judged(i_sr, batch.i_gt)
        content = F.mse_loss(i_sr, batch.i_gt)
        loss = content + self.settings.lambda_features * features + self.settings.lambda_adv * adversarial
        descend(self.optimisers["generator"], loss)
        return {"total": loss, "content": content, "features": features, "adversarial": adversarial, "critic": critic}


class GfrnetPhase(_CriticPhase):
    """GFRNet-style: WarpNet alone for the first steps, then WarpNet, RecNet and the critic, each by its own loss.

    WarpNet's loss is the squared error of the warped guide and the flow's variation. The original leads it by
    landmarks, which few sources have: `GfrnetLandmarksPhase`.
    """

    def __init__(
        self,
        baseline: Baseline,
        critic: SrganCritic,
        inet: Inet | None,
        faces: Faces,
        settings: TrainBaseline,
        device: torch.device,
    ) -> None:
        super().__init__(baseline, critic, inet, faces, settings, device)
        network = baseline.network
        assert isinstance(network, Gfrnet)
        self.network = network
        self._optimise(
            warpnet=network.warpnet.parameters(), recnet=network.recnet.parameters(), critic=critic.parameters()
        )
        self.warp_steps, self._step = warp_steps(settings, len(self.batches.targets)), 0

    def ready(self, step: int) -> None:
        """Remember whose turn it is."""
        super().ready(step)
        self._step = step

    def update(self) -> dict[str, Tensor]:
        """One update of each part whose turn it is."""
        batch = self._next()
        zero = torch.zeros((), device=self.device)
        if self._step < self.warp_steps:
            with self.engine.autocast(self.device):
                i_gw, omega = self.network.aligned(batch.i_lru, batch.i_gi)
            names = ("total", "content", "features", "adversarial", "critic")
            return {**self._warp_step(i_gw, omega, batch.i_gt), **dict.fromkeys(names, zero)}
        i_sr, warped, flow = self._made(batch)
        assert warped is not None
        assert flow is not None
        warp = self._warp_step(warped, flow, batch.i_gt)
        critic = self._critic_step(i_sr, batch.i_gt)
        adversarial, features = self._judged(i_sr, batch.i_gt)
        content = F.mse_loss(i_sr, batch.i_gt)
        loss = (
            GFRNET_MSE * content + GFRNET_ADVERSARIAL * adversarial + self.settings.lambda_features * features
        )  # no gradient of it reaches WarpNet, whose guide is detached
        descend(self.optimisers["recnet"], loss)
        return {
            **warp,
            "total": loss,
            "content": content,
            "features": features,
            "adversarial": adversarial,
            "critic": critic,
        }

    def _next(self) -> Batch:
        """The step's batch."""
        batch: Batch = self.feed.batch()
        return batch

    def _warp_step(self, i_gw: Tensor, omega: Tensor, i_gt: Tensor) -> dict[str, Tensor]:
        """One update of WarpNet."""
        leading, curves = self._leading(i_gw, omega, i_gt)
        loss = leading + GFRNET_VARIATION * variation_loss(omega)
        descend(self.optimisers["warpnet"], loss)
        return {"warp": loss, **curves}

    def _leading(self, i_gw: Tensor, omega: Tensor, i_gt: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What leads the warp, by its weight, and what of it has a curve of its own."""
        warped = (i_gw + column(self.faces.means.hr, self.device)) * 2 - 1
        return GFRNET_MSE * F.mse_loss(warped, i_gt), {}


class GfrnetLandmarksPhase(GfrnetPhase):
    """GFRNet-style with landmarks: they lead WarpNet, as in the original, and the warped guide's error does not.

    WarpNet sees the pictures alone: answers need no landmarks.
    """

    _latest: Marked

    def _feeds(self, engine: Engine) -> list[Feed[Any]]:
        """Batches with landmarks."""
        self.feed = engine.feed(MarkedSampler(self.batches), self.device)
        return [self.feed]

    def _next(self) -> Batch:
        """The step's batch; its landmarks are remembered."""
        self._latest = self.feed.batch()
        return self._latest.batch

    def _leading(self, i_gw: Tensor, omega: Tensor, i_gt: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The landmarks; the mean over pictures of their squared distances has a curve."""
        size = torch.tensor([omega.shape[3] - 1, omega.shape[2] - 1], device=self.device)
        target, guide = (2 * places / size - 1 for places in (self._latest.target, self._latest.guide))
        loss = landmark_loss(omega, target, guide)
        return GFRNET_LANDMARKS * loss, {"landmarks": loss}


def warp_steps(settings: TrainBaseline, targets: int) -> int:
    """How many of GFRNet's steps train its WarpNet alone."""
    return round(settings.warp_share * total_steps(settings, targets)) if settings.system in GFRNETS else 0


def make_phase(
    baseline: Baseline, inet: Inet | None, faces: Faces, settings: TrainBaseline, device: torch.device
) -> ContentPhase | SrganPhase | GfrnetPhase:
    """The phase of a system, with a fresh critic where it has one.

    Args:
        baseline: what is trained.
        inet: frozen; None where no features are compared.
        faces: prepared faces.
        settings: of the system.
        device: to train on.

    Raises:
        DataError: the system needs landmarks for its steps, and the faces have none.
    """
    facts = SYSTEMS[settings.system]
    if facts.landmarks and not faces.has_landmarks and settings.epochs:
        raise DataError(f"{settings.system} needs landmarks: {ADD_LANDMARKS}")
    if not facts.critic:
        return ContentPhase(baseline, faces, settings, device)
    critic = SrganCritic(width_of(settings.narrow))
    critic.initialise(torch.Generator().manual_seed(settings.seed))
    kind = SrganPhase if settings.system == "srgan" else GfrnetLandmarksPhase if facts.landmarks else GfrnetPhase
    return kind(baseline, critic, inet, faces, settings, device)
