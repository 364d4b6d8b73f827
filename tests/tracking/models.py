"""A small generator and its registration, for tests."""

from dataclasses import replace
from pathlib import Path

from PIL import Image

from gwainet.files import write_json
from gwainet.nets.model import Metadata, build_generator, save_weights
from gwainet.params import Networks
from gwainet.tensors import Means
from gwainet.tracking.registry import Candidate

NETWORKS = Networks(width=8, blocks_per_group=1, warp_blocks=1)
MEANS = Means(lr=(0.5, 0.4, 0.3), hr=(0.5, 0.4, 0.3))


def candidate(folder: Path, guided: bool = True, seed: int = 0, **changes: object) -> Candidate:
    weights = folder / f"{seed}-{guided}" / "weights.safetensors"
    if not weights.exists():
        weights.parent.mkdir(parents=True)
        generator = build_generator(NETWORKS, MEANS, guided, seed)
        save_weights(weights, generator, Metadata("generator", NETWORKS, MEANS, 48, 40, guided))
    report = folder / "report"
    if not report.exists():
        report.mkdir()
        write_json(report / "benchmark.json", {"format": 1})
        Image.new("RGB", (8, 8)).save(report / "grid.png")
    made = Candidate(
        name="faces",
        weights=weights,
        guided=guided,
        report=report,
        metrics={"test.psnr": 24.25, "validation.psnr": 25.0},
        shown=["test.psnr"],
        tags={"variant": "gwainet", "data_digest": "abc"},
        description="**A model**",
    )
    return replace(made, **changes)  # type: ignore[arg-type]
