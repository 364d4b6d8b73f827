"""What a profile will take before anything is trained: steps, updates, operations, time (Sec. 4.2).

Nothing here knows how a phase trains: lengths come from `training.phases.schedule_steps`, which the trainings use;
operations and times from real steps of the real phases, on faces of noise.
"""

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gwainet.baselines.phases import warp_steps
from gwainet.dataset import Faces
from gwainet.errors import DataError
from gwainet.params import Params, TrainBaseline
from gwainet.people.dataset import split_sizes
from gwainet.plan.operations import Network, count_networks, count_step
from gwainet.plan.rehearsal import LATER, settings_of, write_noise
from gwainet.plan.timing import Timing, time_phase
from gwainet.stages import STAGES
from gwainet.training.device import choose_device, describe
from gwainet.training.loop import Plan
from gwainet.training.phases import schedule_steps, total_steps
from gwainet.training.pictures import SAMPLE_FACES


@dataclass(frozen=True)
class Sizes:
    """How many targets there are, and how that is known.

    Attributes:
        train: training targets.
        validation: validation targets; None where they are not known.
        origin: where the numbers come from.
    """

    train: int
    validation: int | None
    origin: str


@dataclass(frozen=True)
class Rate:
    """A learning rate, and the step it ends with."""

    until: int
    learning_rate: float


@dataclass(frozen=True)
class Estimate:
    """Seconds: from the median step, and from the quartiles."""

    about: float
    low: float
    high: float

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.about + other.about, self.low + other.low, self.high + other.high)


@dataclass(frozen=True)
class Training:
    """One training stage, of one variant.

    Attributes:
        name: of the stage, with the variant.
        steps: in all; the most, where `patience` may end it.
        updates: what is updated (a phase's optimisers) -> how often.
        targets: the same -> how many training targets its updates see; a target brings its guide or partner.
        epochs: the same -> passes over the training targets.
        batch_size: targets of an update.
        learning_rates: one after the other.
        wnet_learning_rate_factor: Wnet's over the others'.
        beta1: of Adam.
        beta2: of Adam.
        epsilon: of Adam.
        validations: in all, the one before the first step included.
        validation_faces: of each.
        validate_every: steps between validations.
        patience: validations without a new best that end it; None: it runs to its end.
        step_macs: multiply-adds of one step, with all its updates; the mean where steps differ.
        macs: of all steps.
        timing: what was measured; None where nothing was.
        seconds: steps and validations; None where nothing was measured.
        times: that it is trained, once for each seed; all other numbers are of one.
    """

    name: str
    steps: int
    updates: dict[str, int]
    targets: dict[str, int]
    epochs: dict[str, float]
    batch_size: int
    learning_rates: tuple[Rate, ...]
    wnet_learning_rate_factor: float
    beta1: float
    beta2: float
    epsilon: float
    validations: int
    validation_faces: int
    validate_every: int
    patience: int | None
    step_macs: int
    macs: int
    timing: Timing | None
    seconds: Estimate | None
    times: int = 1


@dataclass(frozen=True)
class ProfilePlan:
    """A whole profile.

    Attributes:
        profile: its name.
        height: of the crops, pixels.
        width: of the crops, pixels.
        sizes: of the data.
        networks: their parameters and operations.
        trainings: in the pipeline's order.
        macs: multiply-adds of all trainings.
        device: what was measured on, and how busy it was; None where nothing was.
        seconds: of all trainings, one after the other; None where nothing was measured.
    """

    profile: str
    height: int
    width: int
    sizes: Sizes
    networks: tuple[Network, ...]
    trainings: tuple[Training, ...]
    macs: int
    device: str | None
    seconds: Estimate | None


def as_dict(plan: ProfilePlan) -> dict[str, Any]:
    """For JSON."""
    return asdict(plan)


def make_plan(
    params: Params, root: Path = Path(), images: int | None = None, seconds: float | None = None
) -> ProfilePlan:
    """Plan every training of a profile.

    Args:
        params: of the profile.
        root: where `data/` lies.
        images: training targets; None: those of the prepared faces, else what the params say.
        seconds: to spend on measuring, about; None measures nothing.

    Raises:
        DataError: nothing says how many training targets there will be.
        ParamsError: the device of `runtime` is not there.
        GwainetError: a step does not fit the device's memory.
    """
    sizes, crop = data_sizes(params, root, images), params.prepare_faces.crop
    device = choose_device(params.runtime) if seconds is not None else None
    load = os.getloadavg()[0]  # before the measurement's own
    with tempfile.TemporaryDirectory(prefix="gwainet-plan-") as directory:
        faces = write_noise(Path(directory), crop.height, crop.width)
        networks = count_networks(params.networks, faces)
        busy = [name for name in _trainings() if total_steps(settings_of(params, *name), sizes.train)]
        trainings = []
        for stage, variant in _trainings():
            timing = None
            if device is not None and seconds is not None and (stage, variant) in busy:
                timing = time_phase(stage, variant, params, faces, device, seconds / len(busy))
            trainings.append(_training(stage, variant, params, sizes, faces, timing))
    return ProfilePlan(
        params.profile,
        crop.height,
        crop.width,
        sizes,
        networks,
        tuple(trainings),
        sum(training.times * training.macs for training in trainings),
        None if device is None else f"{describe(device)}; load average before: {load:.1f}",
        None if device is None else _all_seconds(trainings),
    )


def _all_seconds(trainings: list[Training]) -> Estimate:
    """Of all trainings, each as often as it is trained."""
    return sum((t.seconds for t in trainings if t.seconds for _ in range(t.times)), Estimate(0, 0, 0))


def data_sizes(params: Params, root: Path, images: int | None) -> Sizes:
    """How many targets a profile will have.

    Raises:
        DataError: nothing says it.
    """
    if images is not None:
        return Sizes(images, None, "--images")
    directory = STAGES["pretrain_wnet"].paths(params.profile, root=root)["faces"]
    if directory.exists():
        faces = Faces(directory)
        return Sizes(len(faces.targets("train")), len(faces.targets("validation")), f"counted in {directory}")
    pinned, source, drawn = params.check_faces.images or {}, params.fetch_faces.source, params.fetch_faces.drawn
    if "train" in pinned and source != "pairs":  # half of the images of pairs are guides
        return Sizes(pinned["train"], pinned.get("validation"), "check_faces.images")
    everybody = params.prepare_faces.min_images <= drawn.photos[0] and params.prepare_faces.max_identities is None
    if source == "drawn" and everybody:
        train, validation, _ = split_sizes(drawn)
        return Sizes(train, validation, "fetch_faces.drawn")
    raise DataError(
        f"how many training targets the profile `{params.profile}` has is not known before prepare_faces: give "
        "--images N (the paper's data set of pairs has 18,000 to train on), or prepare the faces first"
    )


def _trainings() -> Iterator[tuple[str, str | None]]:
    """Every training stage with each of its variants, in the pipeline's order."""
    for stage in STAGES.values():
        if stage.trains:
            for variant in stage.variants or (None,):
                yield stage.name, variant


def _training(
    stage: str, variant: str | None, params: Params, sizes: Sizes, faces: Faces, timing: Timing | None
) -> Training:
    settings, name = settings_of(params, stage, variant), f"{stage}@{variant}" if variant else stage
    loop = Plan(name, total_steps(settings, sizes.train), settings.validate_every)
    # GFRNet's first steps are other ones: its parts are counted one by one
    first = warp_steps(settings, sizes.train) if isinstance(settings, TrainBaseline) else 0
    later = LATER if first else 0
    updates: Counter[str] = Counter()
    macs = 0
    for count, at in ((first, 0), (loop.steps - first, later)):
        if count:
            step = count_step(stage, variant, params, faces, at)
            updates.update({part: count * times for part, times in step.updates.items()})
            macs += count * step.macs
    targets = {part: times * settings.batch_size for part, times in updates.items()}
    known = settings.validation_faces if sizes.validation is None else sizes.validation
    shown = min(settings.validation_faces, known)
    return Training(
        name=name,
        steps=loop.steps,
        updates=dict(updates),
        targets=targets,
        epochs={part: count / sizes.train for part, count in targets.items()},
        batch_size=settings.batch_size,
        learning_rates=tuple(Rate(*part) for part in schedule_steps(settings, sizes.train)) if loop.steps else (),
        wnet_learning_rate_factor=getattr(settings, "wnet_learning_rate_factor", 1.0),
        beta1=settings.beta1,
        beta2=settings.beta2,
        epsilon=settings.epsilon,
        validations=loop.validations,
        validation_faces=shown,
        validate_every=settings.validate_every,
        patience=getattr(settings, "patience", None),
        step_macs=macs // max(loop.steps, 1),
        macs=macs,
        timing=timing,
        seconds=None if timing is None else _estimate(timing, loop, shown),
        times=1 + len(getattr(getattr(params, stage), "more_seeds", ())),
    )


def _estimate(timing: Timing, loop: Plan, validation_faces: int) -> Estimate:
    # the sample picture's faces go through the networks too
    validations = loop.validations * (validation_faces + SAMPLE_FACES) * timing.face_seconds
    ends = (timing.step_seconds, timing.step_low, timing.step_high)
    about, low, high = (loop.steps * each + validations for each in ends)
    return Estimate(about, low, high)
