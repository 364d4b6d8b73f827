"""What each param that is not the paper's brings: `python -m benchmarks.ablations --faces DIR --passed FILE --out DIR`.

A profile's PSNR phase is trained with one param changed at a time, from the same seeds, for as many steps; the
adversarial phase likewise, from the base's weights. Validation people alone are looked at. A training that was
interrupted continues, and one that has ended is not repeated: run the command again until the table is whole.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine
from gwainet.dataset import Faces, Rows, open_checked
from gwainet.files import write_json
from gwainet.metrics import paired_difference
from gwainet.nets.model import Generator, load_generator
from gwainet.params import Params, load_params
from gwainet.psnr import psnr
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from gwainet.training.validation import VALIDATION_BATCH

PARAMS = Path("params.yaml")
BASE = "the profile"
PSNR: dict[str, list[str]] = {  # row -> params, as `--set` takes them
    BASE: [],
    "again, another seed": ["train_psnr.seed=1", "pretrain_wnet.seed=1"],
    "no zero_flow": ["networks.zero_flow=false"],
    "no zero_fusion": ["networks.zero_fusion=false"],
    "encoder_gain: glorot": ["networks.encoder_gain=glorot"],
    "wnet_learning_rate_factor: 1": ["train_psnr.wnet_learning_rate_factor=1.0"],
    "ema_decay: 0.99": ["train_psnr.ema_decay=0.99"],
    "image_skip": ["networks.image_skip=true"],
    "sampler: border": ["networks.sampler=border"],
    "guide_dropout, other_guides: 0.2": ["train_psnr.guide_dropout=0.2", "train_psnr.other_guides=0.2"],
    "horizontal_flip": ["train_psnr.horizontal_flip=true"],
    "warm_up_steps: 100, decay: cosine": ["train_psnr.warm_up_steps=100", "train_psnr.decay=cosine"],
}
ADVERSARIAL: dict[str, list[str]] = {
    BASE: [],
    "r1, one critic update": ["train_adversarial.objective=r1", "train_adversarial.critic_updates=1"],
    "ema_decay: 0.99": ["train_adversarial.ema_decay=0.99"],
}
GUIDES = ("own", "other", "none")


def answers(generator: Generator, faces: Faces, rows: Rows) -> dict[str, list[float]]:
    """PSNR of each row by kind of guide, dB; `none` where the generator can do without."""
    found: dict[str, list[float]] = {guide: [] for guide in GUIDES if guide != "none" or generator.guide_optional}
    for start in range(0, len(rows), VALIDATION_BATCH):
        part = rows[start : start + VALIDATION_BATCH]
        guides: dict[str, Any] = {"own": faces.guide_row[part], "other": faces.other_guide_row[part], "none": None}
        for kind, values in found.items():
            guide = None if guides[kind] is None else np.asarray(faces.hr[guides[kind]])
            made = generator.super_resolve(np.asarray(faces.lr[part]), guide).sr
            values += [psnr(sr, gt) for sr, gt in zip(made, faces.hr[part], strict=True)]
    return found


class Trainings:
    """Trains what is asked for once, and remembers what came out."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.faces_path, self.passed = options.faces, options.passed
        self.out: Path = options.out
        self.faces = open_checked(options.faces, options.passed)
        self.rows = self.faces.targets("validation")
        self.identity = self.faces.identity[self.rows]

    def _stage(self, stage: str, variant: str | None, params: Params, inputs: Mapping[str, Path]) -> Path:
        facts = [self.faces.digest, params.digest(STAGES[stage].sections), *(path.name for path in inputs.values())]
        made = self.out / f"{stage}-{hashlib.sha256(' '.join(facts).encode()).hexdigest()[:12]}"
        if not made.exists():
            arguments: dict[str, Any] = {"faces": self.faces_path, "passed": self.passed, **inputs, "out": made}
            if variant:
                arguments["variant"] = variant
            STAGES[stage].function()(params, work=self.out / "work", recorder=NullRecorder(), **arguments)
        return made

    def psnr_phase(self, params: Params) -> Path:
        """Weights after the PSNR phase."""
        warper = self._stage("pretrain_wnet", None, params, {})
        return self._stage("train_psnr", "guided", params, {"wnet": warper})

    def adversarial_phase(self, params: Params, start: Path) -> Path:
        """Weights after GWAnet's adversarial phase."""
        return self._stage("train_adversarial", "gwanet", params, {"psnr": start, "inet": self.out})

    def measured(self, folder: Path) -> dict[str, list[float]]:
        """`answers` of weights, kept beside them."""
        file = self.out / f"{folder.name}.json"
        if not file.exists():
            generator = load_generator(folder / "weights.safetensors", torch.device("cpu"))
            write_json(file, answers(generator, self.faces, self.rows))
        read: dict[str, list[float]] = json.loads(file.read_text())
        return read

    def difference(self, a: list[float], b: list[float]) -> str:
        """Of paired images, dB, with its interval over people."""
        found = paired_difference(a, b, self.identity, 2000, 0)
        return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablations", description=__doc__)
    parser.add_argument("--faces", type=Path, required=True, help="what prepare_faces wrote")
    parser.add_argument("--passed", type=Path, required=True, help="passed.json of check_faces")
    parser.add_argument("--out", type=Path, required=True, help="for weights and what was measured; outside git")
    parser.add_argument("--profile", default="lfw")
    parser.add_argument("--epochs", type=float, default=1.0, help="of the PSNR phase (default 1)")
    parser.add_argument("--only", nargs="*", default=[], help="rows, by their names")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    # to the end: where a training stops must not depend on what is compared
    length = [f"train_psnr.epochs={options.epochs}", f"train_psnr.patience={10**6}"]
    trainings, console = Trainings(options), Console(width=150)
    started = trainings.psnr_phase(load_params(PARAMS, options.profile, length))
    for title, rows in (("PSNR phase", PSNR), ("GWAnet's adversarial phase", ADVERSARIAL)):
        table = Table(title=title)
        for column in ("change", "PSNR, dB", "less the profile's", "right less wrong guide", "no guide"):
            table.add_column(column)
        reference: dict[str, list[float]] = {}
        for name, values in rows.items():
            if options.only and name not in {*options.only, BASE}:
                continue
            params = load_params(PARAMS, options.profile, [*length, *values])
            folder = trainings.psnr_phase(params) if rows is PSNR else trainings.adversarial_phase(params, started)
            found = trainings.measured(folder)
            reference = reference or found
            table.add_row(
                name,
                f"{np.mean(found['own']):.3f}",
                "" if found is reference else trainings.difference(found["own"], reference["own"]),
                trainings.difference(found["own"], found["other"]),
                f"{np.mean(found['none']):.3f}" if "none" in found else "",
            )
        console.print(table)
    images, people = len(trainings.rows), len(np.unique(trainings.identity))
    console.print(f"{images} validation images of {people} people; {machine(torch.get_num_threads())}")


if __name__ == "__main__":
    main()
