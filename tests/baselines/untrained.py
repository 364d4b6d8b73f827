"""Weights of other papers' systems as the stage writes them, untrained."""

from collections.abc import Collection
from pathlib import Path

from gwainet.baselines.model import SYSTEMS, BaselineMetadata, build_baseline
from gwainet.dataset import Faces
from gwainet.nets.model import save_weights

NARROW = 32


def write_untrained(folder: Path, faces: Faces, trained: Collection[str] = ()) -> None:
    """Write `<system>/weights.safetensors` for every system; those not in `trained` say that they saw no image."""
    for system in SYSTEMS:
        path = folder / system / "weights.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        images = 100 if system in trained else 0
        metadata = BaselineMetadata(system, NARROW, faces.means, faces.height, faces.width, images)
        save_weights(path, build_baseline(system, faces.means, NARROW, 0), metadata)
