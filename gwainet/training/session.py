"""What the training stages share: device, checkpoints, training, and the files a training leaves."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

import gwainet
from gwainet.dataset import Faces
from gwainet.errors import CheckpointError
from gwainet.files import code_digest, file_digest, staged_directory, write_json
from gwainet.nets.model import Describing, Metadata, save_weights
from gwainet.params import Params, TrainAdversarial
from gwainet.progress import say
from gwainet.recorder import Recorder
from gwainet.training import KEEP, distributed, launch
from gwainet.training.checkpoint import Checkpoints
from gwainet.training.device import choose_device, device_facts
from gwainet.training.device import describe as describe_device
from gwainet.training.engine import take_up
from gwainet.training.loop import Outcome, Phase, Plan, fit
from gwainet.training.phases import Settings, TrainingPhase, total_steps
from gwainet.training.pictures import histogram
from gwainet.training.took import Took
from gwainet.training.trials import peak_memory, steps_to_make

GAINS_TITLE = "PSNR of each validation face over bicubic"

# editing anything else leaves an interrupted training resumable
CODE = (
    "nets",
    "training",
    "losses.py",
    "psnr.py",
    "dataset.py",
    "tensors.py",
    "images.py",
    "bicubic.py",
    "enlarge.py",
    "compiled.py",
)


class Session:
    """One run of a training stage.

    Args:
        stage: its name, with the variant.
        params: of the profile.
        sections: those that shape the stage's result.
        faces: prepared faces.
        inputs: weights files it starts from or uses.
        work: directory of checkpoints.
        recorder: where numbers and pictures go.
        code: files and folders of `gwainet` that the training depends on, beside those that all do.

    Raises:
        CheckpointError: one of `inputs` is missing.
    """

    def __init__(
        self,
        stage: str,
        params: Params,
        sections: tuple[str, ...],
        faces: Faces,
        inputs: Mapping[str, Path],
        work: Path,
        recorder: Recorder,
        code: Sequence[str] = (),
    ) -> None:
        for path in inputs.values():
            if not path.is_file():
                raise CheckpointError(f"{path} does not exist: run the stage that writes it")
        self.stage, self.params, self.faces, self.recorder = stage, params, faces, recorder
        self.device: torch.device = choose_device(params.runtime)
        distributed.join(self.device)
        recorder.params({**device_facts(self.device), "device.processes": distributed.size()})
        recorder.dataset(params.profile, faces.digest, faces.info["images"], "training")
        fingerprint = {
            **{name: json.dumps(value) for name, value in params.flat(sections).items()},
            "faces": faces.digest,
            "code": code_digest(Path(gwainet.__file__).parent, [*CODE, *code, f"stages/{stage.split('@')[0]}.py"]),
            **{name: file_digest(path) for name, path in inputs.items()},
        }
        self.checkpoints = Checkpoints(work / "checkpoints", stage, fingerprint)

    def train(
        self,
        phase: TrainingPhase,
        settings: Settings,
        out: Path,
        keep: Mapping[str, tuple[str, nn.Module]],
        *,
        guided: bool = True,
        guide_optional: bool = False,
        best: str | None = None,
        patience: int | None = None,
        counts: Mapping[str, int] | None = None,
        describe: Callable[[str], Describing] | None = None,
        finish: Callable[[Path], None] | None = None,
        same: str | None = None,
    ) -> None:
        """Train a phase as long as `settings` say, resuming an interrupted training, and write `out` in one piece.

        Of several processes the first one writes.

        Args:
            phase: what a step and a validation are.
            settings: of the phase: its schedule and when it validates.
            out: directory to write (docs/formats.md).
            keep: file -> kind (docs/formats.md) and network whose weights it holds.
            guided: whether the generator takes a guide.
            guide_optional: whether it answers without one, too.
            best: name of the validation number whose highest value decides which weights are kept; None: the last.
            patience: validations without a new best after which training stops (L11).
            counts: what else a step does, name -> times; its total joins the stage's numbers.
            describe: kind -> what a weights file of it says of itself; None: what a network of ours does.
            finish: writes more into the directory, before it takes its place.
            same: what the length of the training holds equal to ours, for `training.json`.
        """
        launch.check_share(settings.batch_size, distributed.size())
        engine = take_up(phase, self.params.runtime, self.device, self.faces, distributed.size())
        self.recorder.params(engine.facts())
        planned = total_steps(settings, len(self.faces.targets("train")))
        steps = steps_to_make(planned, engine.settling)
        seconds = self.params.runtime.checkpoint_seconds
        limits = {"critic": settings.critic_limit} if isinstance(settings, TrainAdversarial) else {}
        plan = Plan(self.stage, steps, settings.validate_every, best, patience, seconds, limits)
        outcome = fit(phase, plan, self.checkpoints, self.recorder, self.device)
        gains = phase.gains()  # all processes measure
        if not distributed.is_first():
            return
        networks, faces = self.params.networks, self.faces
        with staged_directory(out) as directory:
            for file, (kind, module) in keep.items():
                own = Metadata(kind, networks, faces.means, faces.height, faces.width, guided, guide_optional)
                save_weights(directory / file, module, describe(kind) if describe else own)
            totals = {name: float(outcome.steps * times) for name, times in (counts or {}).items()}
            self._write(directory, phase, outcome, totals)
            self.recorder.metrics({"training_seconds": outcome.seconds})
            drawn = outcome.steps * settings.batch_size * sum(feed.updates for feed in phase.feeds)
            took = Took(
                images=drawn,
                seconds=round(outcome.seconds, 3),
                device=describe_device(self.device),
                processes=distributed.size(),
                same=same,
                **_schedule_of(settings),
            )
            took.write(directory)
            if finish is not None:
                finish(directory)
            if gains is not None:
                gains.to_csv(directory / "gains.csv", index=False)
                self.recorder.picture("gains", histogram(gains["gain"].to_numpy(), GAINS_TITLE, "dB"), outcome.steps)
        if steps < planned:
            memory = peak_memory(self.device) / 2**20
            say(f"{self.stage}: {steps} of {planned:,} steps of batch {settings.batch_size}; at most {memory:,.0f} MiB")
        self.recorder.artifact(out, "outputs")
        if not os.environ.get(KEEP):
            self.checkpoints.remove()

    def _write(self, directory: Path, phase: Phase, outcome: Outcome, totals: Mapping[str, float]) -> None:
        """Numbers, curves and a picture beside the weights."""
        metrics = {**outcome.metrics(), **totals}
        write_json(directory / "metrics.json", metrics)
        curves, validations = outcome.tables()
        curves.to_csv(directory / "curves.csv", index=False)
        validations.to_csv(directory / "validation.csv", index=False)
        phase.samples().save(directory / "samples.png")
        self.recorder.metrics({f"final.{name}": value for name, value in metrics.items()}, outcome.steps)


def _schedule_of(settings: Settings) -> dict[str, float]:
    """Epochs, and the learning rate; of a schedule of several parts their sum, and the first one's."""
    if isinstance(settings, TrainAdversarial):
        parts = settings.schedule
        first = {"learning_rate": parts[0].learning_rate} if parts else {}
        return {"epochs": round(sum(part.epochs for part in parts), 6), **first}
    return {"epochs": round(settings.epochs, 6), "learning_rate": settings.learning_rate}
