"""What the four training stages share: device, checkpoints, and the files a training leaves."""

from collections.abc import Mapping
from pathlib import Path

import torch

from gwainet.dataset import Faces
from gwainet.errors import CheckpointError
from gwainet.files import file_digest, write_json
from gwainet.params import Params
from gwainet.recorder import Recorder
from gwainet.training.checkpoint import Checkpoints, code_digest
from gwainet.training.device import choose_device, device_facts
from gwainet.training.loop import Outcome, Phase, Plan, fit

# editing anything else leaves an interrupted training resumable
_CODE = ("nets", "training", "losses", "dataset", "tensors", "images")


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
    ) -> None:
        for path in inputs.values():
            if not path.is_file():
                raise CheckpointError(f"{path} does not exist: run the stage that writes it")
        self.params, self.faces, self.recorder = params, faces, recorder
        self.device: torch.device = choose_device(params.runtime)
        recorder.params(device_facts(self.device))
        recorder.dataset(params.profile, faces.digest, faces.info["images"], "training")
        fingerprint = {
            "params": params.digest(sections),
            "faces": faces.digest,
            "code": code_digest(*_CODE, f"stages/{stage.split('@')[0]}"),
            **{name: file_digest(path) for name, path in inputs.items()},
        }
        self.checkpoints = Checkpoints(work / "checkpoints", stage, fingerprint)

    def fit(self, phase: Phase, plan: Plan) -> Outcome:
        """Train, resuming an interrupted training."""
        return fit(phase, plan, self.checkpoints, self.recorder, self.device)

    def write(self, directory: Path, phase: Phase, outcome: Outcome, extra: Mapping[str, float] | None = None) -> None:
        """Numbers, curves and a picture beside the weights."""
        metrics = {**outcome.metrics(), **(extra or {})}
        write_json(directory / "metrics.json", metrics)
        curves, validations = outcome.tables()
        curves.to_csv(directory / "curves.csv", index=False)
        validations.to_csv(directory / "validation.csv", index=False)
        phase.samples().save(directory / "samples.png")
        self.recorder.metrics({f"final.{name}": value for name, value in metrics.items()}, outcome.steps)

    def finish(self, out: Path) -> None:
        """Record what was written and forget the checkpoint."""
        self.recorder.artifact(out, "outputs")
        self.checkpoints.remove()
