"""Pretrain the warper alone (Sec. 4.2: L1 between the warped guide and the ground truth)."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.files import staged_directory
from gwainet.nets.model import Metadata, build_wnet, save_weights
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.loop import Plan
from gwainet.training.phases import WarpPhase, steps_of
from gwainet.training.session import Session

STAGE = STAGES["pretrain_wnet"]


def run(params: Params, *, faces: Path, passed: Path, out: Path, work: Path, recorder: Recorder) -> None:
    """Train Wnet; `epochs: 0` writes it untrained.

    Args:
        params: of the profile; `networks` and `pretrain_wnet` shape the result.
        faces: what `prepare_faces` wrote.
        passed: `passed.json` of `check_faces`.
        out: directory to write (docs/formats.md).
        work: directory of checkpoints.
        recorder: where numbers and pictures go.

    Raises:
        ContractError: the faces were not checked.
    """
    data, settings, networks = open_checked(faces, passed), params.pretrain_wnet, params.networks
    session = Session(STAGE.name, params, STAGE.sections, data, {}, work, recorder)
    wnet = build_wnet(networks, settings.seed)
    phase = WarpPhase(wnet, networks.sampler, data, settings, session.device)
    steps = steps_of(settings.epochs, len(phase.batches.targets), settings.batch_size)
    plan = Plan(STAGE.name, steps, settings.validate_every, checkpoint_seconds=params.runtime.checkpoint_seconds)
    outcome = session.fit(phase, plan)
    with staged_directory(out) as directory:
        metadata = Metadata("wnet", networks, data.means, data.height, data.width)
        save_weights(directory / "weights.safetensors", wnet, metadata)
        session.write(directory, phase, outcome)
    session.finish(out)
