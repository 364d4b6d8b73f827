"""How long another paper's system is trained: as long as ours, by images or by operations, or not at all."""

from gwainet.baselines.model import ADD_LANDMARKS, GFRNETS, SYSTEMS, build_baseline, forward_macs
from gwainet.errors import DataError
from gwainet.nets.model import build_generator
from gwainet.params import BaselineSystem, Params, TrainBaseline
from gwainet.tensors import Means

GFRNET_BETA1 = 0.5  # its paper's
_MEANS = Means((0.5,) * 3, (0.5,) * 3)  # no operation depends on them


def untrained(params: Params, system: BaselineSystem, landmarks: bool) -> str | None:
    """Why a system is not trained, whatever the epochs; None where it is.

    Args:
        params: of the profile.
        system: which.
        landmarks: whether the data has them.

    Raises:
        DataError: it must be trained, and the data cannot.
    """
    wanted = params.train_baselines.landmarks
    if not SYSTEMS[system].landmarks:
        return None
    if wanted == "off":
        return "train_baselines.landmarks is off"
    if landmarks:
        return None
    if wanted == "on":
        raise DataError(f"{system} needs landmarks (train_baselines.landmarks is on): {ADD_LANDMARKS}")
    return f"it needs landmarks: {ADD_LANDMARKS}"


def may_have_landmarks(params: Params) -> bool:
    """Whether the source can bring landmarks: what a plan goes by where there are no faces yet."""
    return params.fetch_faces.source in ("drawn", "celeba")


def settings_for(
    params: Params, system: BaselineSystem, height: int, width: int, landmarks: bool = True
) -> TrainBaseline:
    """The settings of one system's training.

    `same: images`: a system without a critic stands for the PSNR phase and sees `epochs`; SRGAN, which starts from
    SRResNet, `critic_epochs` on top; GFRNet both in one training.

    Args:
        params: of the profile.
        system: which.
        height: of the faces, pixels; `same: compute` counts at this size.
        width: of the faces, pixels.
        landmarks: whether the data has them; a system that needs them has no epochs without.

    Raises:
        DataError: as for `untrained`.
    """
    own = params.train_baselines
    with_critic = {"srgan": own.critic_epochs, **dict.fromkeys(GFRNETS, own.epochs + own.critic_epochs)}
    epochs = 0.0 if untrained(params, system, landmarks) else with_critic.get(system, own.epochs)
    if own.same == "compute" and epochs:
        epochs *= _ours(params, height, width) / _theirs(system, own.narrow, height, width)
    shared = own.model_dump(exclude={"same", "epochs", "critic_epochs", "learning_rates", "landmarks", "more_seeds"})
    if system in GFRNETS:
        shared["beta1"] = GFRNET_BETA1
    rate: float = getattr(own.learning_rates, system)
    return TrainBaseline(system=system, epochs=epochs, learning_rate=rate, **shared)


def _ours(params: Params, height: int, width: int) -> int:
    return forward_macs(lambda: build_generator(params.networks, _MEANS, guided=True, seed=0), height, width)


def _theirs(system: BaselineSystem, narrow: int, height: int, width: int) -> int:
    return forward_macs(lambda: build_baseline(system, _MEANS, narrow, seed=0), height, width)


def uses_features(settings: TrainBaseline) -> bool:
    """Whether a training compares Inet's features of the answer and of the truth."""
    return SYSTEMS[settings.system].critic and settings.lambda_features > 0
