"""Checkpoints of a running training: outside DVC's outputs, tied by a fingerprint to what they continue.

DVC deletes a stage's outputs before it runs the stage, so what is needed to resume lies elsewhere, under
`.gwainet/checkpoints/<stage>-<fingerprint>/`, and is removed once the stage has finished.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gwainet.errors import CheckpointError
from gwainet.files import staged_file

FORMAT = 1


class Checkpoints:
    """Where one training keeps its state.

    Args:
        root: directory of all checkpoints.
        stage: name of the stage, with its variant.
        fingerprint: facts that must be equal for a checkpoint to be continued: params, digests of inputs, code.
    """

    def __init__(self, root: Path, stage: str, fingerprint: Mapping[str, str]) -> None:
        text = "\n".join(f"{key}={fingerprint[key]}" for key in sorted(fingerprint))
        self.directory = root / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.path = self.directory / "state.pt"

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state in one piece; an earlier one stays until the new one is complete."""
        with staged_file(self.path) as partial:
            torch.save({"format": FORMAT, **state}, partial)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The state of an interrupted training, or None.

        Raises:
            CheckpointError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{self.path} cannot be read ({error}): delete {self.directory} to start this stage afresh"
            ) from error
        if state.get("format") != FORMAT:
            raise CheckpointError(f"{self.path} is of another version: delete {self.directory} to start afresh")
        return state

    def remove(self) -> None:
        """Forget the state: the training has finished."""
        shutil.rmtree(self.directory, ignore_errors=True)
