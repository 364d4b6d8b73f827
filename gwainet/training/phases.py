"""The phases of Sec. 4.2 as steps and validations; `gwainet.training.loop.fit` runs them."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from gwainet import images, losses
from gwainet.dataset import Batch, Faces, Rows
from gwainet.nets.cnet import Cnet
from gwainet.nets.inet import Inet, PairHead
from gwainet.nets.model import Generator
from gwainet.nets.transposed import critic_gradient
from gwainet.nets.wnet import Sampler, Wnet, warp
from gwainet.params import (
    GeneratorTraining,
    PretrainInet,
    PretrainWnet,
    SchedulePart,
    TrainAdversarial,
    TrainBaseline,
    Training,
    TrainPsnr,
)
from gwainet.psnr import psnr
from gwainet.tensors import column, to_tensor, to_uint8
from gwainet.training import distributed
from gwainet.training.average import Average
from gwainet.training.draws import words
from gwainet.training.engine import PLAIN, Captured, Engine
from gwainet.training.feeds import Feed
from gwainet.training.pictures import SAMPLE_FACES, sample_rows, sheet
from gwainet.training.rates import factor, set_rates
from gwainet.training.sampling import VALIDATION_PAIRS, BatchSampler, PairSampler, Stream, draw_partners, tables
from gwainet.training.validation import gains_over_bicubic, mean_psnr, over_batches, sample_sheet, validation_rows

_CPU = torch.device("cpu")

Settings = PretrainInet | PretrainWnet | TrainPsnr | TrainAdversarial | TrainBaseline
M = TypeVar("M", bound=nn.Module)


def adam(
    parameters: Iterable[nn.Parameter], settings: Training, learning_rate: float, device: torch.device = _CPU
) -> torch.optim.Adam:
    """Adam with the settings of Sec. 4.2; a phase starts with a new one (L10).

    On a GPU its learning rate and its count of steps lie on the device, where a captured step reads and changes them.
    """
    on_gpu = device.type == "cuda"
    return torch.optim.Adam(
        list(parameters),
        lr=torch.tensor(learning_rate, device=device) if on_gpu else learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,  # one kernel for all parameters, a third of the loop's time on a CPU too
        capturable=on_gpu,
    )


def on_device(device: torch.device, module: M) -> M:
    """The module on a device; left alone where it is there: tensors without values cannot be moved (gwainet.plan)."""
    return module if all(parameter.device == device for parameter in module.parameters()) else module.to(device)


class Rates:
    """The learning rates of a phase: by its schedule (L12), and by warm-up and decay.

    Attributes:
        parts: where each part of the schedule ends, in steps, with its rate.
    """

    def __init__(self, settings: Settings, targets: int, optimisers: Mapping[str, torch.optim.Optimizer]) -> None:
        self.settings, self.optimisers = settings, optimisers
        self.parts = schedule_steps(settings, targets)

    def set(self, step: int) -> None:
        """Set those of a step.

        Raises:
            ValueError: it lies behind the schedule's end.
        """
        set_rates(self.optimisers.values(), self._of(step) * factor(self.settings, step, self.parts[-1][0]))

    def _of(self, step: int) -> float:
        if not isinstance(self.settings, TrainAdversarial):
            return self.settings.learning_rate
        for end, learning_rate in self.parts:
            if step < end:
                return learning_rate
        raise ValueError(f"step {step} lies behind the schedule's end")


def _batches(faces: Faces, settings: TrainPsnr | TrainAdversarial, stream: Stream) -> BatchSampler:
    return BatchSampler(
        faces,
        settings.batch_size,
        settings.seed,
        stream,
        settings.horizontal_flip,
        guide_dropout=settings.guide_dropout,
        other_guides=settings.other_guides,
    )


class TrainingPhase(ABC):
    """A phase's steps: what the host does before one, and the updates, which read nothing that the host decides.

    Attributes:
        device: where it trains.
        modules: what is trained, saved and restored.
        optimisers: theirs.
        batches: draws them.
        samplers: whose batches may be made smaller to see what fits memory.
        feeds: that bring batches to the device.
        rates: of learning.
        capturable: whether its updates read nothing that the host decides.
    """

    capturable = True

    device: torch.device
    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    batches: Any  # BatchSampler or PairSampler
    samplers: list[BatchSampler]
    feeds: list[Feed[Any]] = []  # noqa: RUF012  (replaced, never changed)
    rates: Rates

    def use(self, engine: Engine) -> None:
        """Compute steps as an engine does; without, the plain way."""
        if engine.compiled:
            torch.compiler.reset()  # what was compiled for other phases counts towards a limit
        for feed in self.feeds:
            feed.close()
        self.engine = engine
        self.feeds = self._feeds(engine)
        self._compile(engine)
        self._captured = Captured() if engine.graphed and self.capturable else None

    def step(self, step: int) -> dict[str, Tensor]:
        """The updates of a step; its losses may be overwritten by the next step's."""
        self.ready(step)
        return self._update() if self._captured is None else self._captured(self._update)

    def ready(self, step: int) -> None:
        """Do what the host does before a step."""
        self.rates.set(step)
        for feed in self.feeds:
            feed.ready(step)

    @abstractmethod
    def update(self) -> dict[str, Tensor]:
        """The updates of the step that is ready."""

    def _update(self) -> dict[str, Tensor]:
        """`update`; what it leaves must not keep the step's graph of gradients alive."""
        return {name: value.detach() for name, value in self.update().items()}

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Numbers on the validation split."""

    @abstractmethod
    def samples(self) -> Image.Image:
        """A picture of fixed validation faces."""

    @abstractmethod
    def gains(self) -> pd.DataFrame | None:
        """What each validation face gains over bicubic, as `gain` in dB; None where nothing is super-resolved."""

    def _feeds(self, engine: Engine) -> list[Feed[Any]]:
        """Feeds of all its samplers."""
        self.feed = engine.feed(self.batches, self.device)
        return [self.feed]

    @abstractmethod
    def _compile(self, engine: Engine) -> None:
        """Take the networks as the engine wants them to be called."""


class WarpPhase(TrainingPhase):
    """Wnet alone: L1 between the warped guide and the ground truth, both in [-1, 1] (Sec. 4.2; L2)."""

    def __init__(
        self, wnet: Wnet, sampler: Sampler, faces: Faces, settings: PretrainWnet, device: torch.device
    ) -> None:
        self.wnet, self.sampler, self.faces, self.device = on_device(device, wnet), sampler, faces, device
        self.batches = BatchSampler(faces, settings.batch_size, settings.seed, "generator", settings.horizontal_flip)
        self.rows = validation_rows(faces, settings)
        self.mean = column(faces.means.hr, device)
        self.modules = {"wnet": self.wnet}
        optimiser = adam(self.wnet.parameters(), settings, settings.learning_rate, device)
        self.optimisers = {"wnet": optimiser}
        self.rates = Rates(settings, len(self.batches.targets), self.optimisers)
        self.samplers = [self.batches]
        self.use(PLAIN)

    def _compile(self, engine: Engine) -> None:
        self._wnet = engine.module(self.wnet)

    def _warped(self, i_lru: Tensor, i_gi: Tensor, wnet: nn.Module) -> tuple[Tensor, Tensor]:
        """The warped guide in [-1, 1], and the flow."""
        omega = wnet(i_lru, i_gi)
        i_gw = warp(i_gi, omega, self.sampler)
        return (i_gw + self.mean) * 2 - 1, omega

    def update(self) -> dict[str, Tensor]:
        """One update of Wnet."""
        batch = self.feed.batch()
        with self.engine.autocast(self.device):
            warped, _ = self._warped(batch.i_lru, batch.i_gi, self._wnet)
        loss = losses.content_loss(warped, batch.i_gt)
        descend(self.optimisers["wnet"], loss)
        return {"warp": loss}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR of the warped guide against the ground truth, and of the guide as it is, dB."""

        def measure(batch: slice) -> list[tuple[float, float]]:
            rows = self.rows[batch]
            made, _ = self._pictures(rows)
            of = zip(made, self.faces.hr[self.faces.guide_row[rows]], self.faces.hr[rows], strict=True)
            return [(psnr(warped, target), psnr(guide, target)) for warped, guide, target in of]

        warped, guide = np.mean(list(itertools.chain(*over_batches(measure, len(self.rows)))), axis=0)
        return {"psnr_warped": float(warped), "psnr_guide": float(guide)}

    def _pictures(self, rows: Rows) -> tuple[images.Uint8, Tensor]:
        batch = self.faces.batch(rows, self.faces.guide_row[rows], self.device)
        warped, omega = self._warped(batch.i_lru, batch.i_gi, self.wnet)
        return to_uint8(warped), omega

    @torch.inference_mode()
    def samples(self) -> Image.Image:
        """LR, guide, flow, warped guide, ground truth and error."""
        rows = sample_rows(self.rows)
        warped, omega = self._pictures(rows)
        return sheet(self.faces, rows, warped=warped, omega=omega)

    def gains(self) -> None:
        """None: nothing is super-resolved."""


class _GeneratorPhase(TrainingPhase):
    """What the phases that train a generator share: its batches, its average, its validation."""

    def __init__(self, generator: Generator, faces: Faces, settings: GeneratorTraining, device: torch.device) -> None:
        self.generator, self.faces, self.device = on_device(device, generator), faces, device
        self.rows = validation_rows(faces, settings)
        self.average = Average(self.generator, settings.ema_decay)
        self.kept = self.average.kept
        self.modules = {"generator": self.generator}
        if self.average.model is not None:
            self.modules["average"] = self.average.model

    def _compile(self, engine: Engine) -> None:
        self._generator = engine.module(self.generator)
        engine.lay_out(self.average.model)

    def step(self, step: int) -> dict[str, Tensor]:
        """The updates of a step, then the average's: it decides on the host whether it is its first."""
        made = super().step(step)
        self.average.update(self.generator)
        return made

    def _super_resolved(self, batch: Batch) -> Tensor:
        """I_SR as steps compute it, float32 at least. Shapes: -> (B, 3, H, W)."""
        with self.engine.autocast(self.device):
            i_sr: Tensor = self._generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr
        return precise(i_sr)

    def validate(self) -> dict[str, float]:
        """PSNR with the fixed guides, dB (M1)."""
        return {"psnr": mean_psnr(self.kept, self.faces, self.rows)}

    def samples(self) -> Image.Image:
        """LR, guide, flow, warped guide, SR, ground truth and error."""
        return sample_sheet(self.kept, self.faces, self.rows)

    def gains(self) -> pd.DataFrame:
        """What each validation face gains over bicubic."""
        return gains_over_bicubic(self.kept, self.faces, self.rows)


class PsnrPhase(_GeneratorPhase):
    """Wnet and Gnet with L_content alone (Sec. 4.2, second step on CelebA, first on [27])."""

    def __init__(self, generator: Generator, faces: Faces, settings: TrainPsnr, device: torch.device) -> None:
        super().__init__(generator, faces, settings, device)
        self.batches = _batches(faces, settings, "generator")
        optimiser = adam(generator.gnet.parameters(), settings, settings.learning_rate, device)
        if generator.wnet is not None:
            slower = settings.wnet_learning_rate_factor
            optimiser.add_param_group(
                {
                    "params": list(generator.wnet.parameters()),
                    "lr": optimiser.defaults["lr"] * slower,
                    "rate_factor": slower,
                }
            )
        self.optimisers = {"generator": optimiser}
        self.rates = Rates(settings, len(self.batches.targets), self.optimisers)
        self.samplers = [self.batches]
        self.use(PLAIN)

    def update(self) -> dict[str, Tensor]:
        """One update of Wnet and Gnet."""
        batch = self.feed.batch()
        loss = losses.content_loss(self._super_resolved(batch), batch.i_gt)
        descend(self.optimisers["generator"], loss)
        return {"content": loss}


class AdversarialPhase(_GeneratorPhase):
    """Eqs. 8 and 9 in turn: updates of Cnet on fresh batches, then one of Wnet and Gnet (Sec. 4.2; L8).

    With `objective: r1` the critic's loss is the logistic one with R1's penalty, and the generator's its counterpart.
    """

    def __init__(
        self,
        generator: Generator,
        critic: Cnet,
        inet: Inet | None,
        faces: Faces,
        settings: TrainAdversarial,
        device: torch.device,
    ) -> None:
        super().__init__(generator, faces, settings, device)
        self.critic = on_device(device, critic)
        self.inet = None if inet is None else on_device(device, inet)
        self.settings = settings
        self.batches = _batches(faces, settings, "generator")
        self.critic_batches = _batches(faces, settings, "critic")
        self.samplers = [self.batches, self.critic_batches]
        first = settings.schedule[0].learning_rate if settings.schedule else 1.0
        self.modules["critic"] = self.critic
        self.optimisers = {
            "generator": adam(generator.parameters(), settings, first, device),
            "critic": adam(critic.parameters(), settings, first, device),
        }
        self.rates = Rates(settings, len(self.batches.targets), self.optimisers)
        self.use(PLAIN)

    def _feeds(self, engine: Engine) -> list[Feed[Any]]:
        self.critic_feed = engine.feed(self.critic_batches, self.device, self.settings.critic_updates)
        return [*super()._feeds(engine), self.critic_feed]

    def _compile(self, engine: Engine) -> None:
        super()._compile(engine)
        self._inet = None if self.inet is None else engine.module(self.inet)
        engine.lay_out(self.critic)

    def update(self) -> dict[str, Tensor]:
        """The critic's updates, then the generator's."""
        for number, (i_sr, i_gt) in enumerate(self.critic_pictures()):
            critic = self.critic_update(i_sr, i_gt, number)
        return {**critic, **self.generator_update()}

    def critic_pictures(self) -> Iterator[tuple[Tensor, Tensor]]:
        """I_SR, without gradient, and I_GT of each of the critic's batches (L8)."""
        updates = self.settings.critic_updates
        if self.engine.joint:
            batch = self.critic_feed.joint()
            with torch.no_grad():
                i_sr = self._super_resolved(batch)
            yield from zip(i_sr.chunk(updates), batch.i_gt.chunk(updates), strict=True)
            return
        for number in range(updates):
            batch = self.critic_feed.batch(number)
            with torch.no_grad():
                i_sr = self._super_resolved(batch)
            yield i_sr, batch.i_gt

    def _judged(self, image: Tensor) -> Tensor:
        """D of pictures as steps compute it, float32 at least."""
        with self.engine.autocast(self.device):
            judged: Tensor = self.critic(image)
        return precise(judged)

    def critic_update(self, i_sr: Tensor, i_gt: Tensor, number: int) -> dict[str, Tensor]:
        """One update of Cnet (Eq. 8), by the batch of this number."""
        gradient_at = partial(critic_gradient, self.critic)
        if self.settings.objective == "r1":
            penalty = losses.r1_penalty(gradient_at, i_gt)
            fake, real = self._judged(i_sr), self._judged(i_gt)
            loss, distance = losses.logistic_critic_loss(fake, real, penalty, self.settings.lambda_r1), "margin"
        else:
            epsilon = self.critic_feed.epsilon(number)
            penalty = losses.gradient_penalty(gradient_at, i_sr, i_gt, epsilon)
            fake, real = self._judged(i_sr), self._judged(i_gt)
            loss, distance = losses.critic_loss(fake, real, penalty, self.settings.lambda_gp), "wasserstein"
        descend(self.optimisers["critic"], loss)
        return {"critic": loss, distance: (real.mean() - fake.mean()).detach(), "penalty": penalty}

    def generator_update(self) -> dict[str, Tensor]:
        """One update of Wnet and Gnet (Eq. 9); Cnet and Inet stay as they are."""
        batch = self.feed.batch()
        i_sr = self._super_resolved(batch)
        content = losses.content_loss(i_sr, batch.i_gt)
        self.critic.requires_grad_(False)  # saves its weights' gradients, which nobody wants here
        by_r1 = self.settings.objective == "r1"
        adversarial_loss = losses.logistic_adversarial_loss if by_r1 else losses.adversarial_loss
        adversarial = adversarial_loss(self._judged(i_sr))
        identity = torch.zeros((), device=self.device)
        if self._inet is not None:
            with self.engine.autocast(self.device):
                with torch.no_grad():
                    embedding_gt = self._inet(batch.i_gt)
                embedding_sr = self._inet(i_sr)
            identity = losses.identity_loss(precise(embedding_sr), precise(embedding_gt))
        lambda_id = self.settings.lambda_id if self.inet is not None else 0.0
        loss = losses.total_loss(content, adversarial, identity, self.settings.lambda_adv, lambda_id)
        descend(self.optimisers["generator"], loss)
        self.critic.requires_grad_(True)
        return {"total": loss, "content": content, "adversarial": adversarial, "identity": identity}


class IdentityPhase(TrainingPhase):
    """Inet as a siamese network: do two pictures show one person? (Sec. 3.2, Eq. 5; Sec. 4.2; L5)."""

    def __init__(self, inet: Inet, head: PairHead, faces: Faces, settings: PretrainInet, device: torch.device) -> None:
        self.inet, self.head, self.faces, self.device = on_device(device, inet), on_device(device, head), faces, device
        self.batches = PairSampler(faces, settings.batch_size, settings.seed)
        self.rows = validation_rows(faces, settings)
        split = faces.manifest["split"].to_numpy()
        places = np.flatnonzero(split == "validation")
        bounds = int(places[0]), int(places[-1]) + 1
        drawn = words(settings.seed, VALIDATION_PAIRS, torch.arange(len(self.rows)))  # these pairs are fixed
        self.partners, self.same = draw_partners(tables(faces, _CPU), torch.from_numpy(self.rows), bounds, drawn)
        self.modules = {"inet": inet, "head": head}
        parameters = itertools.chain(inet.parameters(), head.parameters())
        self.optimisers = {"inet": adam(parameters, settings, settings.learning_rate, device)}
        self.rates = Rates(settings, len(self.batches.anchors.targets), self.optimisers)
        self.samplers = [self.batches.anchors]
        self.use(PLAIN)

    def _compile(self, engine: Engine) -> None:
        self._inet = engine.module(self.inet)

    def _logits(self, first: Rows, second: Rows) -> Tensor:
        pictures = to_tensor(self.faces.hr[np.concatenate([first, second])], self.device) * 2 - 1
        logit: Tensor = self.head(*self.inet(pictures).chunk(2))
        return logit

    def update(self) -> dict[str, Tensor]:
        """One update of Inet and the pair head."""
        pairs = self.feed.batch()
        with self.engine.autocast(self.device):
            logit = self.head(*self._inet(torch.cat([pairs.first, pairs.second])).chunk(2))
        loss = losses.pair_loss(precise(logit), pairs.same)
        descend(self.optimisers["inet"], loss)
        return {"pair": loss}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Area under the ROC curve of telling validation pairs apart: 0.5 is chance."""
        partners, one_person = self.partners.numpy(), self.same.numpy() == 1

        def measure(batch: slice) -> npt.NDArray[np.float32]:
            logits: npt.NDArray[np.float32] = self._logits(self.rows[batch], partners[batch]).cpu().numpy()
            return logits

        logits = np.concatenate(over_batches(measure, len(self.rows)))
        same, other = logits[one_person], logits[~one_person]
        statistic = mannwhitneyu(same, other).statistic  # U / (n m) is the area under the curve
        return {"auc": float(statistic) / (len(same) * len(other))}

    def samples(self) -> Image.Image:
        """Validation pairs; the title says which line shows one person."""
        chosen = np.arange(min(SAMPLE_FACES, len(self.rows)))
        rows = [[self.faces.hr[self.rows[i]], self.faces.hr[int(self.partners[i])]] for i in chosen]
        answers = "".join("S" if self.same[i] else "D" for i in chosen)
        return images.grid(rows, ("first", f"second: {answers}"))

    def gains(self) -> None:
        """None: nothing is super-resolved."""


def schedule_steps(settings: Settings, targets: int) -> list[tuple[int, float]]:
    """Where each part of a phase ends, in steps, with its learning rate (L9, L12); one part where the rate is steady.

    Of the number of training targets alone, so that a training's length is known before there are data.
    """
    if isinstance(settings, TrainAdversarial):
        parts = settings.schedule
    else:
        parts = (SchedulePart(epochs=settings.epochs, learning_rate=settings.learning_rate),)
    ends = itertools.accumulate(part.epochs for part in parts)
    return [
        (steps_of(epochs, targets, settings.batch_size), part.learning_rate)
        for epochs, part in zip(ends, parts, strict=True)
    ]


def total_steps(settings: Settings, targets: int) -> int:
    """Steps of a whole phase, unless patience ends it; an adversarial step is a generator update (L9)."""
    return max((end for end, _ in schedule_steps(settings, targets)), default=0)


def steps_of(epochs: float, targets: int, batch_size: int) -> int:
    """Updates of so many epochs over so many targets (1.25 of 100 at batch 4: 31); 0 only where epochs is 0."""
    steps = round(epochs * targets / batch_size)
    return max(1, steps) if epochs > 0 else 0


def precise(made: Tensor) -> Tensor:
    """What autocast made, for a loss: float32, or float64 if it is."""
    return made.to(torch.promote_types(made.dtype, torch.float32))


def descend(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step down a loss; of several processes, all the same one."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
    optimiser.step()
