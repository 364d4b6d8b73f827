"""Train Wnet and Gnet with L_content alone until the validation PSNR peaks (Sec. 4.2); `banet` trains SRnet alone."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.files import staged_directory
from gwainet.nets.model import Metadata, build_generator, load_into, read_weights, save_weights
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.loop import Plan
from gwainet.training.phases import PsnrPhase, steps_of
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

    Args:
        params: of the profile; `networks` and `train_psnr` shape the result.
        variant: `guided`, or `banet` for the network without a guide.
        faces: what `prepare_faces` wrote.
        passed: `passed.json` of `check_faces`.
        out: directory to write (docs/formats.md).
        work: directory of checkpoints.
        recorder: where numbers and pictures go.
        wnet: what `pretrain_wnet` wrote; `guided` needs it.

    Raises:
        ContractError: the faces were not checked.
        CheckpointError: the warper's weights do not fit.
    """
    data, settings, networks = open_checked(faces, passed), params.train_psnr, params.networks
    start = {} if wnet is None else {"wnet": wnet / "weights.safetensors"}
    session = Session(f"{STAGE.name}@{variant}", params, STAGE.sections, data, start, work, recorder)
    generator = build_generator(networks, data.means, guided=variant == "guided", seed=settings.seed)
    if generator.wnet is not None:
        tensors, _ = read_weights(start["wnet"], "wnet")
        load_into(generator.wnet, tensors, start["wnet"])
    phase = PsnrPhase(generator, data, settings, session.device)
    plan = Plan(
        f"{STAGE.name}@{variant}",
        steps_of(settings.epochs, len(phase.batches.targets), settings.batch_size),
        settings.validate_every,
        best="psnr",
        patience=settings.patience,
        checkpoint_seconds=params.runtime.checkpoint_seconds,
    )
    outcome = session.fit(phase, plan)
    with staged_directory(out) as directory:
        metadata = Metadata("generator", networks, data.means, data.height, data.width, generator.guided)
        save_weights(directory / "weights.safetensors", generator, metadata)
        session.write(directory, phase, outcome)
    session.finish(out)
