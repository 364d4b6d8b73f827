"""Small phases of every kind, with fresh weights."""

import torch

from gwainet.dataset import Faces
from gwainet.nets.blocks import initialise
from gwainet.nets.inet import PairHead
from gwainet.nets.model import build_cnet, build_generator, build_inet, build_wnet
from gwainet.params import Networks, PretrainInet, PretrainWnet, SchedulePart, TrainAdversarial, TrainPsnr
from gwainet.training.phases import AdversarialPhase, IdentityPhase, PsnrPhase, TrainingPhase, WarpPhase

SMALL = Networks(width=4, blocks_per_group=1, warp_blocks=1, critic_width=2, inet_width=4, inet_features=8)
PHASES = ("wnet", "psnr", "adversarial", "inet")


def make_phase(name: str, faces: Faces, device: torch.device, networks: Networks = SMALL) -> TrainingPhase:
    """A phase with a batch of 4, the same at every call; the adversarial one has two critic updates and Inet."""
    if name == "wnet":
        warping = PretrainWnet(batch_size=4, horizontal_flip=True, validation_faces=40)
        return WarpPhase(build_wnet(networks, 0), "paper", faces, warping, device)
    if name == "inet":
        head = PairHead(networks.inet_features)
        initialise(head, torch.Generator().manual_seed(0))
        encoder = build_inet(networks, faces.height, faces.width, 0)
        return IdentityPhase(encoder, head, faces, PretrainInet(batch_size=4, validation_faces=40), device)
    generator = build_generator(networks, faces.means, guided=True, seed=0)
    if name == "psnr":
        return PsnrPhase(generator, faces, TrainPsnr(batch_size=4, horizontal_flip=True, validation_faces=40), device)
    critic = build_cnet(networks, faces.height, faces.width, 0)
    inet = build_inet(networks, faces.height, faces.width, 0).eval().requires_grad_(False)
    parts = (SchedulePart(epochs=40, learning_rate=1e-3),)
    settings = TrainAdversarial(batch_size=4, critic_updates=2, schedule=parts, validation_faces=40)
    return AdversarialPhase(generator, critic, inet, faces, settings, device)
