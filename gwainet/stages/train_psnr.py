"""Train Wnet and Gnet with L_content alone until the validation PSNR peaks (Sec. 4.2); `banet` trains SRnet alone."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.nets.model import build_generator, load_into, read_weights
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import PsnrPhase
from gwainet.training.seeds import OneSeed, train_each
from gwainet.training.session import Session

STAGE = STAGES["train_psnr"]


def run(
    params: Params,
    *,
    variant: str,
    faces: Path,
    passed: Path,
    out: Path,
    work: Path,
    recorder: Recorder,
    wnet: Path | None = None,
) -> None:
    """Train one variant and keep the weights of the highest validation PSNR (L11).

    `variant` is `guided`, or `banet` for the network without a guide; `wnet` is what `pretrain_wnet` wrote: `guided`
    needs it, and each of `more_seeds` starts from the same one. The other arguments are those of every training stage
    (`gwainet.stages`). `seeds/` in `out` holds the trainings of further seeds (`gwainet.training.seeds`).

    Raises:
        ContractError: the faces were not checked.
        CheckpointError: the warper's weights do not fit.
    """
    data, networks = open_checked(faces, passed), params.networks
    inputs = {} if wnet is None else {"wnet": wnet / "weights.safetensors"}

    def train(one: OneSeed) -> None:
        settings = one.params.train_psnr
        session = Session(f"{STAGE.name}@{variant}", one.params, STAGE.sections, data, inputs, work, one.recorder)
        if one.is_done(session):
            return
        optional = settings.guide_dropout > 0
        generator = build_generator(
            networks, data.means, guided=variant == "guided", seed=settings.seed, guide_optional=optional
        )
        if generator.wnet is not None:
            tensors, _ = read_weights(inputs["wnet"], "wnet")
            load_into(generator.wnet, tensors, inputs["wnet"])
        phase = PsnrPhase(generator, data, settings, session.device)
        session.train(
            phase,
            settings,
            one.out,
            {"weights.safetensors": ("generator", phase.kept)},
            guided=generator.guided,
            guide_optional=generator.guide_optional,
            best="psnr",
            patience=settings.patience,
            finish=one.finish,
        )

    train_each(STAGE.name, params, train, out=out, work=work, recorder=recorder)
