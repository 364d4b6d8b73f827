"""How long a training's steps and validations take on this machine: a few real ones, on faces of noise."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

import numpy as np
import torch

from gwainet.dataset import Faces
from gwainet.errors import GwainetError
from gwainet.params import Params
from gwainet.plan.rehearsal import LATER, rehearse, settings_of, validated_faces
from gwainet.training.device import describe
from gwainet.training.engine import take_up

FEWEST, MOST = 2, 20  # steps to time: below, there is no spread to see; above, the median moves no more
GROWTH = 4  # from one batch size tried to the next


@dataclass(frozen=True)
class Timing:
    """What was measured of a training.

    Attributes:
        batch_size: of the steps that were timed; where it is smaller than the training's, the seconds are scaled up.
        steps: timed, after a first one that was not.
        step_seconds: of a step with the training's batch, median.
        step_low: of it, the lower quartile.
        step_high: the upper quartile: one step that something else held up says little of thousands.
        face_seconds: of one face of a validation.
    """

    batch_size: int
    steps: int
    step_seconds: float
    step_low: float
    step_high: float
    face_seconds: float


def time_phase(
    stage: str, variant: str | None, params: Params, faces: Faces, device: torch.device, seconds: float
) -> Timing:
    """Time steps of a training, at its batch size if the seconds allow, else at a smaller one.

    Two steps with a batch of one and a validation of four faces are made however long they take.

    Raises:
        GwainetError: a step does not fit the device's memory.
    """
    end, full = time.perf_counter() + seconds, settings_of(params, stage, variant).batch_size
    size = 1
    try:
        make_phase = rehearse(stage, variant, params, faces, device)
        phase = make_phase(size)
        numbers = count()

        def step() -> object:
            if stage == "train_baselines":
                return phase.step(LATER)
            return phase.step(next(numbers) % phase.rates.parts[-1][0])

        def settle() -> float:
            """Make the steps that also allocate, choose algorithms and compile; time the next one."""
            for _ in range(take_up(phase, params.runtime, device, faces).settling):
                _clock(step, device)
            return _clock(step, device)

        taken = settle()
        while size < full:
            larger = min(full, size * GROWTH)
            # a warm-up and the fewest steps, if the time grew as the batch does: it grows no faster
            if time.perf_counter() + (1 + FEWEST) * taken * larger / size > end:
                break
            size, phase = larger, make_phase(larger)
            taken = settle()
        times = [taken]
        while len(times) < MOST and time.perf_counter() + taken < end:
            times.append(_clock(step, device))
        validation = _clock(phase.validate, device)
    except torch.OutOfMemoryError as error:
        raise GwainetError(
            f"{stage}: a step with a batch of {size} does not fit the memory of {describe(device)}: lower "
            f"{stage}.batch_size, or choose another runtime.device; --no-time plans without measuring"
        ) from error
    low, median, high = (float(each) for each in np.quantile(times, (0.25, 0.5, 0.75)) * full / size)
    return Timing(
        size,
        len(times),
        median,
        low,
        high,
        validation / validated_faces(size),
    )


def _clock(work: Callable[[], object], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
