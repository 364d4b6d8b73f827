"""The phases of Sec. 4.2 as steps and validations; `gwainet.training.loop.fit` runs them."""

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor, nn

from gwainet import images, losses
from gwainet.dataset import Faces, Rows
from gwainet.nets.cnet import Cnet
from gwainet.nets.inet import Inet, PairHead
from gwainet.nets.model import Generator
from gwainet.nets.transposed import critic_gradient
from gwainet.nets.wnet import Sampler, Wnet, warp
from gwainet.params import PretrainInet, PretrainWnet, SchedulePart, TrainAdversarial, Training, TrainPsnr
from gwainet.psnr import psnr
from gwainet.tensors import column, to_tensor, to_uint8
from gwainet.training import distributed
from gwainet.training.pictures import SAMPLE_FACES, sample_rows, sheet
from gwainet.training.sampling import BatchSampler, PairSampler, draw_partners, generator_for

VALIDATION_BATCH = 16  # pictures; bounds memory, changes nothing

Settings = PretrainInet | PretrainWnet | TrainPsnr | TrainAdversarial
M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


def adam(parameters: Iterable[nn.Parameter], settings: Training, learning_rate: float) -> torch.optim.Adam:
    """Adam with the settings of Sec. 4.2; a phase starts with a new one (L10)."""
    return torch.optim.Adam(
        list(parameters),
        lr=learning_rate,
        betas=(settings.beta1, settings.beta2),
        eps=settings.epsilon,
        fused=True,  # one kernel for all parameters, a third of the loop's time on a CPU too
    )


def _on(device: torch.device, module: M) -> M:
    """The module on a device; left alone where it is there: tensors without values cannot be moved (gwainet.plan)."""
    return module if all(parameter.device == device for parameter in module.parameters()) else module.to(device)


def validation_rows(faces: Faces, settings: Training) -> Rows:
    """The validation targets used while training: all, or evenly spread ones, so that many identities take part."""
    rows = faces.targets("validation")
    if len(rows) <= settings.validation_faces:
        return rows
    return rows[np.linspace(0, len(rows) - 1, settings.validation_faces).round().astype(np.int64)]


def _over_batches(work: Callable[[slice], R], count: int) -> list[R]:
    """`work` of each batch of `count` validation pictures, in order; several processes share them out."""
    batches = [slice(start, min(start + VALIDATION_BATCH, count)) for start in range(0, count, VALIDATION_BATCH)]
    return distributed.gather([work(batch) for batch in distributed.own(batches)], len(batches))


class WarpPhase:
    """Wnet alone: L1 between the warped guide and the ground truth, both in [-1, 1] (Sec. 4.2; L2)."""

    def __init__(
        self, wnet: Wnet, sampler: Sampler, faces: Faces, settings: PretrainWnet, device: torch.device
    ) -> None:
        self.wnet, self.sampler, self.faces, self.device = _on(device, wnet), sampler, faces, device
        self.batches = BatchSampler(faces, settings.batch_size, settings.seed, "generator", settings.horizontal_flip)
        self.rows = validation_rows(faces, settings)
        self.mean = column(faces.means.hr, device)
        self.modules: dict[str, nn.Module] = {"wnet": self.wnet}
        optimiser = adam(self.wnet.parameters(), settings, settings.learning_rate)
        self.optimisers: dict[str, torch.optim.Optimizer] = {"wnet": optimiser}

    def _warped(self, i_lru: Tensor, i_gi: Tensor) -> tuple[Tensor, Tensor]:
        """The warped guide in [-1, 1], and the flow."""
        omega = self.wnet(i_lru, i_gi)
        i_gw = warp(i_gi, omega, self.sampler)
        return (i_gw + self.mean) * 2 - 1, omega

    def step(self, step: int) -> dict[str, Tensor]:
        """One update of Wnet."""
        batch = self.batches.batch(step, self.device)
        loss = losses.content_loss(self._warped(batch.i_lru, batch.i_gi)[0], batch.i_gt)
        _update(self.optimisers["wnet"], loss)
        return {"warp": loss}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """PSNR of the warped guide against the ground truth, and of the guide as it is, dB."""

        def measure(batch: slice) -> list[tuple[float, float]]:
            rows = self.rows[batch]
            made, _ = self._pictures(rows)
            of = zip(made, self.faces.hr[self.faces.guide_row[rows]], self.faces.hr[rows], strict=True)
            return [(psnr(warped, target), psnr(guide, target)) for warped, guide, target in of]

        warped, guide = np.mean(list(itertools.chain(*_over_batches(measure, len(self.rows)))), axis=0)
        return {"psnr_warped": float(warped), "psnr_guide": float(guide)}

    def _pictures(self, rows: Rows) -> tuple[images.Uint8, Tensor]:
        batch = self.faces.batch(rows, self.faces.guide_row[rows], self.device)
        warped, omega = self._warped(batch.i_lru, batch.i_gi)
        return to_uint8(warped), omega

    @torch.inference_mode()
    def samples(self) -> Image.Image:
        """LR, guide, flow, warped guide, ground truth and error."""
        rows = sample_rows(self.rows)
        warped, omega = self._pictures(rows)
        return sheet(self.faces, rows, warped=warped, omega=omega)

    def gains(self) -> None:
        """None: nothing is super-resolved."""


class PsnrPhase:
    """Wnet and Gnet with L_content alone (Sec. 4.2, second step on CelebA, first on [27])."""

    def __init__(self, generator: Generator, faces: Faces, settings: TrainPsnr, device: torch.device) -> None:
        self.generator, self.faces, self.device = _on(device, generator), faces, device
        self.batches = BatchSampler(faces, settings.batch_size, settings.seed, "generator", settings.horizontal_flip)
        self.rows = validation_rows(faces, settings)
        self.modules: dict[str, nn.Module] = {"generator": generator}
        optimiser = adam(generator.gnet.parameters(), settings, settings.learning_rate)
        if generator.wnet is not None:
            factor = settings.wnet_learning_rate_factor
            optimiser.add_param_group(
                {"params": list(generator.wnet.parameters()), "lr": settings.learning_rate * factor}
            )
        self.optimisers: dict[str, torch.optim.Optimizer] = {"generator": optimiser}

    def step(self, step: int) -> dict[str, Tensor]:
        """One update of Wnet and Gnet."""
        batch = self.batches.batch(step, self.device)
        loss = losses.content_loss(self.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr, batch.i_gt)
        _update(self.optimisers["generator"], loss)
        return {"content": loss}

    def validate(self) -> dict[str, float]:
        """PSNR with the fixed guides, dB (M1)."""
        return {"psnr": mean_psnr(self.generator, self.faces, self.rows)}

    def samples(self) -> Image.Image:
        """LR, guide, flow, warped guide, SR, ground truth and error."""
        return sample_sheet(self.generator, self.faces, self.rows)

    def gains(self) -> pd.DataFrame:
        """What each validation face gains over bicubic."""
        return gains_over_bicubic(self.generator, self.faces, self.rows)


class AdversarialPhase:
    """Eqs. 8 and 9 in turn: updates of Cnet on fresh batches, then one of Wnet and Gnet (Sec. 4.2; L8)."""

    def __init__(
        self,
        generator: Generator,
        critic: Cnet,
        inet: Inet | None,
        faces: Faces,
        settings: TrainAdversarial,
        device: torch.device,
    ) -> None:
        self.generator, self.critic = _on(device, generator), _on(device, critic)
        self.inet = None if inet is None else _on(device, inet)
        self.faces, self.settings, self.device = faces, settings, device
        flip, seed, size = settings.horizontal_flip, settings.seed, settings.batch_size
        self.batches = BatchSampler(faces, size, seed, "generator", flip)
        self.critic_batches = BatchSampler(faces, size, seed, "critic", flip)
        self.rows = validation_rows(faces, settings)
        self.parts = schedule_steps(settings, len(self.batches.targets))
        first = settings.schedule[0].learning_rate if settings.schedule else 1.0
        self.modules: dict[str, nn.Module] = {"generator": generator, "critic": critic}
        self.optimisers: dict[str, torch.optim.Optimizer] = {
            "generator": adam(generator.parameters(), settings, first),
            "critic": adam(critic.parameters(), settings, first),
        }

    def _learning_rate(self, step: int) -> float:
        for end, learning_rate in self.parts:
            if step < end:
                return learning_rate
        raise ValueError(f"step {step} lies behind the schedule's end")

    def step(self, step: int) -> dict[str, Tensor]:
        """The critic's updates, then the generator's."""
        for optimiser in self.optimisers.values():
            for group in optimiser.param_groups:
                group["lr"] = self._learning_rate(step)
        updates = self.settings.critic_updates
        for number in range(updates):
            critic = self.critic_step(step * updates + number)
        return {**critic, **self.generator_step(step)}

    def critic_step(self, step: int) -> dict[str, Tensor]:
        """One update of Cnet (Eq. 8); the super-resolved images carry no gradient (L8)."""
        batch = self.critic_batches.batch(step, self.device)
        with torch.no_grad():
            i_sr = self.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr
        epsilon = self.critic_batches.epsilon(step, self.device)
        penalty = losses.gradient_penalty(partial(critic_gradient, self.critic), i_sr, batch.i_gt, epsilon)
        fake, real = self.critic(i_sr), self.critic(batch.i_gt)
        loss = losses.critic_loss(fake, real, penalty, self.settings.lambda_gp)
        _update(self.optimisers["critic"], loss)
        return {"critic": loss, "wasserstein": (real.mean() - fake.mean()).detach(), "penalty": penalty}

    def generator_step(self, step: int) -> dict[str, Tensor]:
        """One update of Wnet and Gnet (Eq. 9); Cnet and Inet stay as they are."""
        batch = self.batches.batch(step, self.device)
        i_sr = self.generator(batch.i_lr, batch.i_lru, batch.i_gi).i_sr
        content = losses.content_loss(i_sr, batch.i_gt)
        self.critic.requires_grad_(False)  # saves its weights' gradients, which nobody wants here
        adversarial = losses.adversarial_loss(self.critic(i_sr))
        identity = torch.zeros((), device=self.device)
        if self.inet is not None:
            with torch.no_grad():
                embedding_gt = self.inet(batch.i_gt)
            identity = losses.identity_loss(self.inet(i_sr), embedding_gt)
        lambda_id = self.settings.lambda_id if self.inet is not None else 0.0
        loss = losses.total_loss(content, adversarial, identity, self.settings.lambda_adv, lambda_id)
        _update(self.optimisers["generator"], loss)
        self.critic.requires_grad_(True)
        return {"total": loss, "content": content, "adversarial": adversarial, "identity": identity}

    def validate(self) -> dict[str, float]:
        """PSNR with the fixed guides, dB (M1)."""
        return {"psnr": mean_psnr(self.generator, self.faces, self.rows)}

    def samples(self) -> Image.Image:
        """LR, guide, flow, warped guide, SR, ground truth and error."""
        return sample_sheet(self.generator, self.faces, self.rows)

    def gains(self) -> pd.DataFrame:
        """What each validation face gains over bicubic."""
        return gains_over_bicubic(self.generator, self.faces, self.rows)


class IdentityPhase:
    """Inet as a siamese network: do two pictures show one person? (Sec. 3.2, Eq. 5; Sec. 4.2; L5)."""

    def __init__(self, inet: Inet, head: PairHead, faces: Faces, settings: PretrainInet, device: torch.device) -> None:
        self.inet, self.head, self.faces, self.device = _on(device, inet), _on(device, head), faces, device
        self.pairs = PairSampler(faces, settings.batch_size, settings.seed)
        self.rows = validation_rows(faces, settings)
        split = faces.manifest["split"].to_numpy()
        places = np.flatnonzero(split == "validation")
        draws = generator_for(settings.seed, 3)  # the validation pairs are fixed
        self.partners, self.same = draw_partners(faces, self.rows, int(places[0]), int(places[-1]) + 1, draws)
        self.modules: dict[str, nn.Module] = {"inet": inet, "head": head}
        parameters = itertools.chain(inet.parameters(), head.parameters())
        self.optimisers: dict[str, torch.optim.Optimizer] = {"inet": adam(parameters, settings, settings.learning_rate)}

    def _pictures(self, rows: Rows) -> Tensor:
        return to_tensor(self.faces.hr[rows], self.device) * 2 - 1

    def _logits(self, first: Rows, second: Rows) -> Tensor:
        embeddings = self.inet(self._pictures(np.concatenate([first, second])))
        logit: Tensor = self.head(*embeddings.chunk(2))
        return logit

    def step(self, step: int) -> dict[str, Tensor]:
        """One update of Inet and the pair head."""
        first, second, same = self.pairs.rows(step)
        loss = losses.pair_loss(self._logits(first, second), torch.from_numpy(same).to(self.device))
        _update(self.optimisers["inet"], loss)
        return {"pair": loss}

    @torch.inference_mode()
    def validate(self) -> dict[str, float]:
        """Area under the ROC curve of telling validation pairs apart: 0.5 is chance."""

        def measure(batch: slice) -> npt.NDArray[np.float32]:
            logits: npt.NDArray[np.float32] = self._logits(self.rows[batch], self.partners[batch]).cpu().numpy()
            return logits

        logits = np.concatenate(_over_batches(measure, len(self.rows)))
        same, other = logits[self.same == 1], logits[self.same == 0]
        statistic = mannwhitneyu(same, other).statistic  # U / (n m) is the area under the curve
        return {"auc": float(statistic) / (len(same) * len(other))}

    def samples(self) -> Image.Image:
        """Validation pairs; the title says which line shows one person."""
        chosen = np.arange(min(SAMPLE_FACES, len(self.rows)))
        rows = [[self.faces.hr[self.rows[i]], self.faces.hr[self.partners[i]]] for i in chosen]
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


def mean_psnr(generator: Generator, faces: Faces, rows: Rows) -> float:
    """Mean over the images of PSNR in dB, with the fixed guides (M1)."""
    return float(np.mean(image_psnr(generator, faces, rows)))


def image_psnr(generator: Generator, faces: Faces, rows: Rows) -> npt.NDArray[np.float64]:
    """PSNR of each image in dB, with the fixed guides; several processes share them out. Shapes: (N,) -> (N,)."""

    def measure(batch: slice) -> list[float]:
        part = rows[batch]
        made = generator.super_resolve(faces.lr[part], faces.hr[faces.guide_row[part]])
        return [psnr(sr, gt) for sr, gt in zip(made.sr, faces.hr[part], strict=True)]

    return np.array(list(itertools.chain(*_over_batches(measure, len(rows)))))


def gains_over_bicubic(generator: Generator, faces: Faces, rows: Rows) -> pd.DataFrame:
    """A line a face: `row`, `identity`, `bicubic` and `psnr` in dB, `gain`, by which the second is higher."""
    bicubic = np.array([psnr(images.upscale(faces.lr[row]), faces.hr[row]) for row in rows])
    model = image_psnr(generator, faces, rows)
    identity = faces.manifest["identity"].to_numpy()[rows]
    return pd.DataFrame({"row": rows, "identity": identity, "bicubic": bicubic, "psnr": model, "gain": model - bicubic})


@torch.inference_mode()
def sample_sheet(generator: Generator, faces: Faces, rows: Rows) -> Image.Image:
    """Fixed validation faces and what the generator makes of them; without a guide: LR, SR, ground truth and error."""
    rows = sample_rows(rows)
    batch = faces.batch(rows, faces.guide_row[rows], next(generator.parameters()).device)
    made = generator(batch.i_lr, batch.i_lru, batch.i_gi)
    sr = to_uint8(made.i_sr)
    if made.i_gw is None:
        return sheet(faces, rows, sr=sr)
    warped = to_uint8((made.i_gw + column(faces.means.hr, made.i_gw.device)) * 2 - 1)
    return sheet(faces, rows, sr=sr, warped=warped, omega=made.omega)


def _update(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    distributed.average_gradients(parameter for group in optimiser.param_groups for parameter in group["params"])
    optimiser.step()
