"""Train Wnet, Gnet and Cnet with Eqs. 8 and 9 (Sec. 4.2): GWAInet, GWAnet (lambda_id 0), BAnet (unguided)."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.nets.model import Generator, build_cnet, load_inet, load_into, read_weights
from gwainet.params import Params, TrainAdversarial
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import AdversarialPhase
from gwainet.training.seeds import OneSeed, train_each
from gwainet.training.session import Session

STAGE = STAGES["train_adversarial"]


def has_identity_loss(settings: TrainAdversarial, variant: str) -> bool:
    """Whether a variant is trained with Inet (Eq. 9): GWAInet, unless lambda_id is 0 as on CelebA (Sec. 4.2)."""
    return variant == "gwainet" and settings.lambda_id > 0


def run(
    params: Params,
    *,
    variant: str,
    faces: Path,
    passed: Path,
    psnr: Path,
    inet: Path,
    out: Path,
    work: Path,
    recorder: Recorder,
) -> None:
    """Continue the PSNR phase's weights with the critic; the last step's weights are kept.

    `variant` is `gwainet`, `gwanet` or `banet`; `psnr` is what `train_psnr` wrote for the variant this one starts from;
    `inet` is what `pretrain_inet` wrote, read only where lambda_id is not 0. The other arguments are those of every
    training stage (`gwainet.stages`). `seeds/` in `out` holds the trainings of further seeds, each from the PSNR
    phase's weights of the same seed (`gwainet.training.seeds`).

    Raises:
        ContractError: the faces were not checked.
        CheckpointError: weights are missing, those of one of `more_seeds` too, or do not fit.
    """
    data, networks = open_checked(faces, passed), params.networks
    with_identity = has_identity_loss(params.train_adversarial, variant)

    def train(one: OneSeed) -> None:
        settings = one.params.train_adversarial
        inputs = {"psnr": (one.start or psnr) / "weights.safetensors"}
        if with_identity:
            inputs["inet"] = inet / "weights.safetensors"
        session = Session(f"{STAGE.name}@{variant}", one.params, STAGE.sections, data, inputs, work, one.recorder)
        if one.is_done(session):
            return
        tensors, started = read_weights(inputs["psnr"], "generator")
        optional = started.guided and (started.guide_optional or settings.guide_dropout > 0)
        generator = Generator(networks, data.means, started.guided, optional)
        load_into(generator, tensors, inputs["psnr"])
        critic = build_cnet(networks, data.height, data.width, settings.seed)
        encoder = load_inet(inputs["inet"], session.device) if with_identity else None
        phase = AdversarialPhase(generator, critic, encoder, data, settings, session.device)
        session.train(
            phase,
            settings,
            one.out,
            {"weights.safetensors": ("generator", phase.kept), "critic.safetensors": ("critic", critic)},
            guided=generator.guided,
            guide_optional=generator.guide_optional,
            counts={"critic_updates": settings.critic_updates},
            finish=one.finish,
        )

    train_each(STAGE.name, params, train, out=out, work=work, recorder=recorder, start=psnr, starts_from="train_psnr")
