"""Pretrain the identity encoder on pairs of faces (Sec. 3.2, Identity Encoder; Eq. 5; Sec. 4.2)."""

from pathlib import Path

import torch

from gwainet.dataset import open_checked
from gwainet.nets.blocks import initialise
from gwainet.nets.inet import PairHead
from gwainet.nets.model import build_inet
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import IdentityPhase
from gwainet.training.session import Session

STAGE = STAGES["pretrain_inet"]


def run(params: Params, *, faces: Path, passed: Path, out: Path, work: Path, recorder: Recorder) -> None:
    """Train Inet; `epochs: 0` writes it untrained. w and b of Eq. 5 are used here only and not kept.

    The arguments are those of every training stage (`gwainet.stages`).

    Raises:
        ContractError: the faces were not checked.
    """
    data, settings, networks = open_checked(faces, passed), params.pretrain_inet, params.networks
    session = Session(STAGE.name, params, STAGE.sections, data, {}, work, recorder)
    inet = build_inet(networks, data.height, data.width, settings.seed)
    head = PairHead(networks.inet_features)
    initialise(head, torch.Generator().manual_seed(settings.seed))
    phase = IdentityPhase(inet, head, data, settings, session.device)
    session.train(phase, settings, out, {"weights.safetensors": ("inet", inet)})
