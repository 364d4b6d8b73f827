"""Pretrain the warper alone (Sec. 4.2: L1 between the warped guide and the ground truth)."""

from pathlib import Path

from gwainet.dataset import open_checked
from gwainet.nets.model import build_wnet
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.stages import STAGES
from gwainet.training.phases import WarpPhase
from gwainet.training.session import Session

STAGE = STAGES["pretrain_wnet"]


def run(params: Params, *, faces: Path, passed: Path, out: Path, work: Path, recorder: Recorder) -> None:
    """Train Wnet; `epochs: 0` writes it untrained.

    The arguments are those of every training stage (`gwainet.stages`).

    Raises:
        ContractError: the faces were not checked.
    """
    data, settings, networks = open_checked(faces, passed), params.pretrain_wnet, params.networks
    session = Session(STAGE.name, params, STAGE.sections, data, {}, work, recorder)
    wnet = build_wnet(networks, settings.seed)
    phase = WarpPhase(wnet, networks.sampler, data, settings, session.device)
    session.train(phase, settings, out, {"weights.safetensors": ("wnet", wnet)})
