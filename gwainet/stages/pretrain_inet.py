"""Pretrain the identity encoder on pairs of faces (Sec. 3.2, Identity Encoder; Eq. 5; Sec. 4.2)."""

from pathlib import Path

import torch

from gwainet.dataset import open_checked
from gwainet.files import staged_directory
from gwainet.nets.blocks import initialise
from gwainet.nets.inet import PairHead
from gwainet.nets.model import Metadata, build_inet, save_weights
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.loop import Plan
from gwainet.training.phases import IdentityPhase, steps_of
from gwainet.training.session import Session

STAGE = STAGES["pretrain_inet"]


def run(params: Params, *, faces: Path, passed: Path, out: Path, work: Path, recorder: Recorder) -> None:
    """Train Inet; `epochs: 0` writes it untrained. w and b of Eq. 5 are used here only and not kept.

    Args:
        params: of the profile; `networks` and `pretrain_inet` shape the result.
        faces: what `prepare_faces` wrote.
        passed: `passed.json` of `check_faces`.
        out: directory to write (docs/formats.md).
        work: directory of checkpoints.
        recorder: where numbers and pictures go.

    Raises:
        ContractError: the faces were not checked.
    """
    data, settings, networks = open_checked(faces, passed), params.pretrain_inet, params.networks
    session = Session(STAGE.name, params, STAGE.sections, data, {}, work, recorder)
    inet = build_inet(networks, data.height, data.width, settings.seed)
    head = PairHead(networks.inet_features)
    initialise(head, torch.Generator().manual_seed(settings.seed))
    phase = IdentityPhase(inet, head, data, settings, session.device)
    steps = steps_of(settings.epochs, len(phase.pairs.anchors.targets), settings.batch_size)
    plan = Plan(STAGE.name, steps, settings.validate_every, checkpoint_seconds=params.runtime.checkpoint_seconds)
    outcome = session.fit(phase, plan)
    with staged_directory(out) as directory:
        metadata = Metadata("inet", networks, data.means, data.height, data.width)
        save_weights(directory / "weights.safetensors", inet, metadata)
        session.write(directory, phase, outcome)
    session.finish(out)
