"""Params so small that a whole training takes less than a second, and a project to run the training stages in."""

import json
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from gwainet.dataset import Faces
from gwainet.files import write_json
from gwainet.nets.model import Metadata, read_weights
from gwainet.params import Params, check_params
from gwainet.recorder import NullRecorder, Recorder
from gwainet.stages import STAGES
from gwainet.training.took import FILE
from tests.faces import write_faces

NETWORKS: dict[str, Any] = {
    "width": 4,
    "blocks_per_group": 1,
    "warp_blocks": 1,
    "critic_width": 2,
    "inet_width": 1,
    "inet_features": 8,
}

SEEDS_FILE = "seeds/seeds.json"

TRAINING: dict[str, dict[str, Any]] = {
    "pretrain_inet": {"epochs": 1.0, "batch_size": 2, "learning_rate": 1e-3, "validate_every": 4},
    "pretrain_wnet": {"epochs": 1.0, "batch_size": 2, "learning_rate": 1e-3, "validate_every": 4},
    "train_psnr": {"epochs": 1.0, "batch_size": 2, "learning_rate": 1e-3, "validate_every": 4},
    "train_adversarial": {
        "schedule": [{"epochs": 0.5, "learning_rate": 1e-3}, {"epochs": 0.25, "learning_rate": 1e-4}],
        "batch_size": 2,
        "critic_updates": 2,
        "validate_every": 4,
    },
    "train_baselines": {"epochs": 1.0, "critic_epochs": 0.75, "narrow": 32, "batch_size": 2, "validate_every": 4},
}

# a whole profile, from drawn people to a registered model, as it could stand in params.yaml
PIPELINE: dict[str, dict[str, Any]] = {
    "fetch_faces": {
        "source": "drawn",
        "drawn": {"people": 12, "photos": [2, 3], "supersampling": 1, "validation": 0.2, "test": 0.2},
    },
    "networks": NETWORKS,
    "pretrain_inet": {"epochs": 0.5, "batch_size": 4, "validate_every": 100, "validation_faces": 4},
    "pretrain_wnet": {"epochs": 0.5, "batch_size": 4, "validate_every": 100, "validation_faces": 4},
    "train_psnr": {"epochs": 0.5, "batch_size": 4, "validate_every": 100, "validation_faces": 4},
    "train_adversarial": {
        "schedule": [{"epochs": 0.5, "learning_rate": 1e-4}],
        "critic_updates": 2,
        "validate_every": 100,
        "validation_faces": 4,
    },
    "train_baselines": {
        "epochs": 0.5,
        "critic_epochs": 0.5,
        "narrow": 32,
        "batch_size": 4,
        "validate_every": 100,
        "validation_faces": 4,
    },
    "benchmark": {"bootstrap_samples": 20, "grid_faces": 2, "max_faces": 4},
    "register_model": {"name": "tiny-faces"},
    "runtime": {"device": "cpu", "threads": 1, "workers": 1},
}


class Interrupting(NullRecorder):
    """Presses Ctrl-C when a training reports its losses of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def metrics(self, values: Any, step: int = 0) -> None:
        """Interrupt at the step; numbers of validations do not count."""
        if step == self.step and not any(name.startswith(("validation.", "final.")) for name in values):
            raise KeyboardInterrupt


class Curves(NullRecorder):
    """Keeps the losses that were reported while training: step -> name -> value."""

    def __init__(self) -> None:
        self.steps: dict[int, dict[str, float]] = {}

    def metrics(self, values: Any, step: int = 0) -> None:
        """Keep the numbers of a step, but those of validations."""
        losses = {k: v for k, v in values.items() if not k.startswith(("validation.", "final."))}
        if losses:
            self.steps[step] = losses


@dataclass
class Project:
    """A directory with prepared, checked faces, in which the training stages run."""

    root: Path

    @property
    def faces(self) -> Faces:
        """The prepared faces."""
        return Faces(STAGES["pretrain_inet"].paths("tiny", root=self.root)["faces"])

    @property
    def checkpoints(self) -> list[Path]:
        """What is left of trainings that have not finished."""
        return sorted((self.root / ".gwainet" / "checkpoints").glob("*/state.pt"))

    def params(self, stage: str, **settings: Any) -> Params:
        """Tiny params; `settings` are the stage's own, but `runtime` and `networks`."""
        values: dict[str, Any] = deepcopy({"profile": "tiny", "networks": NETWORKS, **TRAINING})
        values["runtime"] = {"device": "cpu", "threads": 1, "checkpoint_seconds": 1e-9, **settings.pop("runtime", {})}
        values["networks"] |= settings.pop("networks", {})
        values[stage] |= settings
        return check_params(values)

    def paths(self, stage: str, variant: str | None = None) -> dict[str, Path]:
        """Inputs and `out` of a stage."""
        return STAGES[stage].paths("tiny", variant, self.root)

    def run(
        self, stage: str, variant: str | None = None, recorder: Recorder | None = None, out: str = "", **settings: Any
    ) -> Path:
        """Run a stage and return the directory it wrote: its own, or `out` below the root."""
        paths = self.paths(stage, variant)
        if out:
            paths["out"] = self.root / out
        arguments: dict[str, Any] = {**paths, "work": self.root / ".gwainet", "recorder": recorder or NullRecorder()}
        if variant is not None:
            arguments["variant"] = variant
        STAGES[stage].function()(self.params(stage, **settings), **arguments)
        return paths["out"]


def make_project(root: Path) -> Project:
    """Prepared faces of 9 people, 15 to train on, with landmarks, that were checked."""
    project = Project(root)
    paths = project.paths("pretrain_inet")
    write_faces(paths["faces"], identities={"train": 5, "validation": 2, "test": 2}, images=3, landmarks=True)
    write_json(paths["passed"], {"format": 1, "digest": project.faces.digest, "expectations": 1})
    return project


def content(directory: Path) -> dict[str, bytes]:
    """The bytes of every file that is the same every time: not of `training.json`, which holds seconds."""
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != FILE)
    return {file.relative_to(directory).as_posix(): file.read_bytes() for file in files}


def alone(directory: Path) -> dict[str, bytes]:
    """`content` without what says with which other seeds it was trained."""
    return {name: value for name, value in content(directory).items() if not name.startswith("seeds/")}


def metrics(directory: Path) -> dict[str, float]:
    """A stage's headline numbers."""
    return dict(json.loads((directory / "metrics.json").read_text(encoding="utf-8")))


def check_outputs(
    project: Project,
    stage: str,
    out: Path,
    *,
    kind: str,
    steps: int,
    losses: set[str],
    validated: set[str],
    pictures: int,
    guided: bool = True,
) -> None:
    """What every training stage leaves (docs/formats.md): files, what the weights say they are, curves, a picture.

    `pictures` stand in a row of the sample sheet.
    """
    faces = project.faces
    written = {"weights.safetensors", "metrics.json", "curves.csv", "validation.csv", "samples.png"}
    if kind == "generator":
        written |= {"gains.csv", SEEDS_FILE}
        gains = pd.read_csv(out / "gains.csv")
        assert gains["row"].tolist() == faces.targets("validation").tolist()
        assert gains["psnr"].mean() == pytest.approx(metrics(out)["psnr"])
        assert (gains["psnr"] - gains["bicubic"]).tolist() == pytest.approx(gains["gain"].tolist())
    assert set(content(out)) - {"critic.safetensors"} == written
    expected = Metadata(kind, project.params(stage).networks, faces.means, faces.height, faces.width, guided)
    assert read_weights(out / "weights.safetensors", kind)[1] == expected
    assert metrics(out).keys() - {"critic_updates"} == validated | {"steps", "kept_step"}
    assert metrics(out)["steps"] == steps
    curves, validations = pd.read_csv(out / "curves.csv"), pd.read_csv(out / "validation.csv")
    assert set(curves.columns) == {"step"} | losses
    assert curves["step"].tolist() == list(range(1, steps + 1))
    assert set(validations.columns) == {"step"} | validated
    assert validations["step"].tolist() == sorted({*range(0, steps, 4), steps})
    kept = validations[validations["step"] == metrics(out)["kept_step"]]
    assert {name: kept[name].item() for name in validated} == {
        name: pytest.approx(metrics(out)[name]) for name in validated
    }
    with Image.open(out / "samples.png") as picture:
        assert picture.width > pictures * faces.width
