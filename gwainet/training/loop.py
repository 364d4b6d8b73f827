"""The one training loop: steps, validations, the best weights, checkpoints, progress."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from gwainet.errors import TrainingError
from gwainet.progress import progress, say
from gwainet.recorder import Recorder
from gwainet.training import distributed
from gwainet.training.checkpoint import Checkpoints
from gwainet.training.guards import check_losses, check_weights, memory_explained
from gwainet.training.sampling import BatchSampler
from gwainet.training.trials import traced

CURVE_POINTS = 400  # of a whole training: enough for a curve, few enough for any tracking server


class Phase(Protocol):
    """One phase of Sec. 4.2.

    Attributes:
        modules: what is trained, saved and restored.
        optimisers: theirs.
        samplers: of its batches.
    """

    modules: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    samplers: list[BatchSampler]

    def step(self, step: int) -> dict[str, Tensor]:
        """Update the weights once; returns losses as scalars on the device, without waiting for it."""

    def validate(self) -> dict[str, float]:
        """Numbers on the validation split."""

    def samples(self) -> Image.Image:
        """A picture of fixed validation faces."""

    def gains(self) -> pd.DataFrame | None:
        """What each validation face gains over bicubic, as `gain` in dB; None where nothing is super-resolved.

        Several processes measure together, as in `validate`.
        """


@dataclass(frozen=True)
class Plan:
    """How long and how to choose.

    Attributes:
        description: shown beside the progress.
        steps: updates in all.
        validate_every: steps between validations; one more follows the last step.
        best: name of the validation number whose highest value decides which weights are kept; None keeps the last.
        patience: validations without a new best after which training stops (L11); needs `best`.
        checkpoint_seconds: between checkpoints.
        limits: loss -> the largest size that its mean may have; beyond it, the training has gone wrong.
    """

    description: str
    steps: int
    validate_every: int
    best: str | None = None
    patience: int | None = None
    checkpoint_seconds: float = 60.0
    limits: Mapping[str, float] = field(default_factory=dict)

    def validates_after(self, step: int) -> bool:
        """Whether a validation follows so many steps."""
        return step % self.validate_every == 0 or step == self.steps

    @property
    def validations(self) -> int:
        """In all, unless patience ends the training: one before the first step, then those after steps."""
        return 1 + -(-self.steps // self.validate_every) if self.steps else 0


@dataclass
class Outcome:
    """What a training came to.

    Attributes:
        steps: updates made.
        kept_step: the step whose weights are kept.
        validation: numbers at that step.
        curves: a row a logged step.
        validations: a row a validation.
        seconds: that it took, over all runs of an interrupted training, up to each one's last checkpoint.
    """

    steps: int = 0
    kept_step: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    curves: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def metrics(self) -> dict[str, float]:
        """Headline numbers."""
        return {**self.validation, "steps": self.steps, "kept_step": self.kept_step}

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Curves of training and of validation."""
        columns = None if self.curves else ["step"]  # a phase of 0 epochs still writes tables that can be read
        return pd.DataFrame(self.curves, columns=columns), pd.DataFrame(self.validations, columns=columns)


def fit(phase: Phase, plan: Plan, checkpoints: Checkpoints, recorder: Recorder, device: torch.device) -> Outcome:
    """Train a phase, or continue it where it was interrupted; `phase.modules` end with the weights to keep.

    Of several processes (`gwainet.training.distributed`) all call it, and all end with the same weights; the first one
    saves and reports.

    Raises:
        DivergedError: a loss or a weight is no longer a finite number, or a loss has exploded.
        TrainingError: memory ran out, or a step cannot be captured.
        CheckpointError: the checkpoint is damaged.
    """
    try:
        return _fit(phase, plan, checkpoints, recorder, device)
    except TrainingError as error:
        raise type(error)(f"{plan.description}: {error}") from None


def _fit(phase: Phase, plan: Plan, checkpoints: Checkpoints, recorder: Recorder, device: torch.device) -> Outcome:
    outcome, best_state, sums = _restore(phase, checkpoints, device, recorder, plan)
    done = saved = logged = outcome.steps
    if outcome.curves:
        logged = int(outcome.curves[-1]["step"])
    started = time.monotonic() - outcome.seconds
    distributed.same_weights(phase.modules, device)
    log_every = max(1, plan.steps // CURVE_POINTS)
    saved_at, signalled = time.monotonic(), None
    if done == 0 and plan.steps > 0:
        _validate(phase, 0, outcome, recorder)
        if plan.best:
            best_state = _copy(phase.modules)
    # a training that was killed after its patience had ended, before its stage wrote anything, is not continued
    last = done if _out_of_patience(plan, outcome) else plan.steps
    bar = progress(plan.description, plan.steps, "steps", done)
    with _stop_after_a_step() as asked, traced(device) as step_is_done, bar as ticker:
        for step in range(done, last):
            with memory_explained(phase.samplers, lambda: phase.step(step), device, _kept(checkpoints, saved)):  # noqa: B023
                made = phase.step(step)
            for name, value in made.items():
                sums[name] = sums.get(name, 0) + value.detach()
            outcome.steps = step + 1
            stop = False
            if outcome.steps % log_every == 0 or outcome.steps == plan.steps:
                summed = outcome.steps % log_every or log_every
                means = distributed.mean({name: float(value) / summed for name, value in sums.items()})
                sums = {}
                check_losses(means, plan.limits, (logged + 1, outcome.steps), _kept(checkpoints, saved))
                logged = outcome.steps
                outcome.curves.append({"step": outcome.steps, **means})
                recorder.metrics(means, outcome.steps)
                ticker.note(" ".join(f"{name} {value:.4f}" for name, value in means.items()))
            if plan.validates_after(outcome.steps):
                improved = _validate(phase, outcome.steps, outcome, recorder, plan.best)
                if plan.best and improved:
                    best_state = _copy(phase.modules)
                stop = _out_of_patience(plan, outcome)
            ticker.advance()
            step_is_done()
            signalled = asked()
            due = time.monotonic() - saved_at >= plan.checkpoint_seconds or signalled is not None
            # of several processes each has sums of its own, and the first one's alone are saved: then only empty ones
            if due and distributed.is_first() and (not sums or distributed.size() == 1):
                # a checkpoint of what went wrong since the last look would take the place of a good one
                since = {name: float(value) for name, value in sums.items()}
                check_losses(since, {}, (logged + 1, outcome.steps), _kept(checkpoints, saved))
                check_weights(phase.modules, outcome.steps, _kept(checkpoints, saved))
                outcome.seconds = time.monotonic() - started
                _save(phase, checkpoints, outcome, best_state, sums)
                saved_at, saved = time.monotonic(), outcome.steps
            if signalled is not None:
                break
            if stop:
                say(f"{plan.description}: no new best {plan.best} in {plan.patience} validations; stopped")
                break
    if signalled is not None:  # handed on to whom it would have reached, now that the checkpoint is written
        signal.raise_signal(signalled)
    check_weights(phase.modules, outcome.steps, _kept(checkpoints, saved))
    outcome.seconds = time.monotonic() - started
    if outcome.steps > done and distributed.is_first():
        _save(phase, checkpoints, outcome, best_state, sums)  # what follows may be stopped, too
    if plan.best and plan.steps and outcome.kept_step == 0:
        say(
            f"{plan.description}: {plan.best} was never better than before the first step, whose weights are kept: "
            "the learning rate may be too high, or the training too short"
        )
    if plan.best and best_state:
        for name, module in phase.modules.items():
            module.load_state_dict(best_state[name])
    return outcome


def continue_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimiser's state, whatever device and memory layout it was saved on.

    How it computes stays its own: on a GPU the rate lies on the device, where a captured step reads it.
    """
    keys = ("lr", "capturable", "fused")
    own: list[dict[str, Any]] = [{key: group[key] for key in keys if key in group} for group in optimiser.param_groups]
    optimiser.load_state_dict(state)
    for group, kept in zip(optimiser.param_groups, own, strict=True):
        group.update(kept)
    for parameter, of in optimiser.state.items():
        for key, value in of.items():
            moment = value.shape == parameter.shape  # in the parameter's memory layout, as the fused kernel wants it
            of[key] = torch.empty_like(parameter).copy_(value) if moment else value.to(parameter.device)


def _validate(phase: Phase, step: int, outcome: Outcome, recorder: Recorder, best: str | None = None) -> bool:
    """Validate; say whether these are the weights to keep."""
    for module in phase.modules.values():
        module.eval()
    values = phase.validate()
    recorder.metrics({f"validation.{name}": value for name, value in values.items()}, step)
    if distributed.is_first():
        recorder.picture("samples", phase.samples(), step)
    for module in phase.modules.values():
        module.train()
    outcome.validations.append({"step": step, **values})
    if best and outcome.validation and values[best] <= outcome.validation[best]:
        return False
    outcome.validation, outcome.kept_step = values, step
    return True


def _out_of_patience(plan: Plan, outcome: Outcome) -> bool:
    if plan.best is None or plan.patience is None:
        return False
    since = sum(row["step"] > outcome.kept_step for row in outcome.validations)
    return since >= plan.patience


def _kept(checkpoints: Checkpoints, step: int) -> str:
    """What a training that goes wrong leaves, for its message."""
    if not step:
        return "There was no checkpoint yet"
    return (
        f"The checkpoint of step {step} is kept: with the same params it would be continued, with others the training "
        f"starts afresh ({checkpoints.path})"
    )


def _copy(modules: Mapping[str, nn.Module]) -> dict[str, dict[str, Tensor]]:
    return {name: {k: v.detach().clone() for k, v in m.state_dict().items()} for name, m in modules.items()}


@contextmanager
def _stop_after_a_step() -> Iterator[Callable[[], signal.Signals | None]]:
    """Hold SIGINT and SIGTERM back until the step is done and saved; a second one ends it at once.

    Not of several processes: each is told by its own signal, at another step.

    Yields:
        a function that returns the signal that arrived, if one did.
    """
    arrived: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread() or distributed.size() > 1:
        yield lambda: None
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # one that is ignored (as a shell lets SIGINT be for a job in the background) goes on being so
    before = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, _frame: FrameType | None) -> None:
        arrived.append(signal.Signals(number))
        restore()
        say(f"{arrived[0].name}: stops after this step and writes a checkpoint; once more stops at once")

    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: arrived[0] if arrived else None
    finally:
        restore()


def _save(
    phase: Phase,
    checkpoints: Checkpoints,
    outcome: Outcome,
    best: Mapping[str, Any] | None,
    sums: Mapping[str, Tensor],
) -> None:
    checkpoints.save(
        {
            "modules": {name: module.state_dict() for name, module in phase.modules.items()},
            "optimisers": {name: optimiser.state_dict() for name, optimiser in phase.optimisers.items()},
            "best": best,
            "outcome": vars(outcome),
            "sums": dict(sums),  # of the losses since the last point of the curves
        }
    )


def _restore(
    phase: Phase, checkpoints: Checkpoints, device: torch.device, recorder: Recorder, plan: Plan
) -> tuple[Outcome, dict[str, dict[str, Tensor]] | None, dict[str, Tensor]]:
    """What was reached, the best weights so far, and the losses summed since the curves' last point."""
    # the first process's disk alone need have it
    state = distributed.from_first(lambda: checkpoints.load(device if distributed.size() == 1 else torch.device("cpu")))
    if state is None:
        return Outcome(), None, {}
    for name, module in phase.modules.items():
        module.load_state_dict(state["modules"][name])
    for name, optimiser in phase.optimisers.items():
        continue_optimiser(optimiser, state["optimisers"][name])
    outcome = Outcome(**state["outcome"])
    # the run that continues shows the whole curve
    for row in outcome.curves:
        recorder.metrics({name: value for name, value in row.items() if name != "step"}, int(row["step"]))
    for row in outcome.validations:
        values = {f"validation.{name}": value for name, value in row.items() if name != "step"}
        recorder.metrics(values, int(row["step"]))
    say(f"{plan.description}: resumed at step {outcome.steps} of {plan.steps} from {checkpoints.path}")
    return outcome, state["best"], state["sums"]
