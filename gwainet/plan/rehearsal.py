"""The phases of a profile on faces of noise: what is counted and timed where there are no data yet."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from gwainet.baselines.budget import may_have_landmarks, settings_for, uses_features
from gwainet.baselines.model import SYSTEMS, build_baseline
from gwainet.baselines.phases import make_phase
from gwainet.dataset import POINTS, Faces
from gwainet.files import write_json
from gwainet.images import downscale
from gwainet.nets.inet import PairHead
from gwainet.nets.model import build_cnet, build_generator, build_inet, build_wnet
from gwainet.params import SCALE, Params, PretrainInet, PretrainWnet, TrainAdversarial, TrainBaseline, TrainPsnr
from gwainet.stages.train_adversarial import has_identity_loss
from gwainet.training.phases import (
    AdversarialPhase,
    IdentityPhase,
    PsnrPhase,
    Settings,
    TrainingPhase,
    WarpPhase,
)
from gwainet.training.validation import VALIDATION_BATCH

LATER = 10**9  # a step behind a phase's first part, where it has parts: what most of its steps are like


def write_noise(directory: Path, height: int, width: int, targets: int = VALIDATION_BATCH) -> Faces:
    """Write prepared faces of noise and open them: two pictures of each person, a batch of them for validations.

    Only what a training reads (docs/formats.md). What a step costs does not depend on what the pictures show.

    Args:
        directory: an existing one.
        height: of the pictures, divisible by 8.
        width: of the pictures, divisible by 8.
        targets: to train on, an even number.
    """
    count = targets + VALIDATION_BATCH
    rows, random = np.arange(count), np.random.default_rng(0)
    hr, lr = (
        np.lib.format.open_memmap(directory / name, "w+", np.uint8, (count, height // scale, width // scale, 3))
        for name, scale in (("hr.npy", 1), ("lr.npy", SCALE))
    )
    for start in range(0, count, _TOGETHER):
        part = slice(start, start + _TOGETHER)
        hr[part] = random.integers(0, 256, hr[part].shape, np.uint8)
        lr[part] = downscale(hr[part])
    manifest = {
        "split": np.where(rows < targets, "train", "validation"),
        "identity_index": rows // 2,
        "is_target": True,
        "guide_row": rows ^ 1,
        "other_guide_row": -1,
    }
    pd.DataFrame(manifest).to_parquet(directory / "manifest.parquet", index=False)
    places = random.uniform(0, min(height, width) - 1, (count, POINTS, 2))
    np.save(directory / "landmarks.npy", places.astype(np.float32))
    means = {"lr": [0.5] * 3, "hr": [0.5] * 3}
    write_json(
        directory / "faces.json",
        {"height": height, "width": width, "means": means, "digest": "noise", "guides": "sampled", "landmarks": count},
    )
    return Faces(directory)


def settings_of(params: Params, stage: str, variant: str | None = None) -> Settings:
    """The section of a training stage, which all its variants share; of a baseline what it comes to for the variant."""
    if stage == "train_baselines":
        system = next(name for name in SYSTEMS if name == variant)
        crop = params.prepare_faces.crop
        return settings_for(params, system, crop.height, crop.width, may_have_landmarks(params))
    settings: Settings = getattr(params, stage)
    return settings


_TOGETHER = 256  # pictures written at a time

S = TypeVar("S", PretrainInet, PretrainWnet, TrainPsnr, TrainAdversarial, TrainBaseline)


def _with_batch(settings: S, batch_size: int) -> S:
    changes = {"batch_size": batch_size, "validation_faces": validated_faces(batch_size)}
    return settings.model_copy(update=changes)


def validated_faces(batch_size: int) -> int:
    """Faces of a rehearsed validation: a whole batch of them, or few where steps had to be small too."""
    return min(VALIDATION_BATCH, 4 * batch_size)


def rehearse(
    stage: str, variant: str | None, params: Params, faces: Faces, device: torch.device
) -> Callable[[int], TrainingPhase]:
    """Build a training stage's networks; what is returned makes its phase for a batch size.

    The networks have fresh weights: where a stage starts from another's, they have other values and the same sizes.
    """
    settings, networks = settings_of(params, stage, variant), params.networks
    height, width = faces.height, faces.width
    if isinstance(settings, TrainBaseline):
        other, features = build_baseline(settings.system, faces.means, settings.narrow, settings.seed), None
        if uses_features(settings):
            features = build_inet(networks, height, width, settings.seed).eval().requires_grad_(False)
        return lambda batch: make_phase(other, features, faces, _with_batch(settings, batch), device)
    if isinstance(settings, PretrainInet):
        inet, head = build_inet(networks, height, width, settings.seed), PairHead(networks.inet_features)
        return lambda batch: IdentityPhase(inet, head, faces, _with_batch(settings, batch), device)
    if isinstance(settings, PretrainWnet):
        wnet = build_wnet(networks, settings.seed)
        return lambda batch: WarpPhase(wnet, networks.sampler, faces, _with_batch(settings, batch), device)
    generator = build_generator(networks, faces.means, variant != "banet", settings.seed)
    if isinstance(settings, TrainPsnr):
        return lambda batch: PsnrPhase(generator, faces, _with_batch(settings, batch), device)
    critic, encoder = build_cnet(networks, height, width, settings.seed), None
    if has_identity_loss(settings, variant or ""):
        encoder = build_inet(networks, height, width, settings.seed).eval().requires_grad_(False)
    return lambda batch: AdversarialPhase(generator, critic, encoder, faces, _with_batch(settings, batch), device)
