"""Checkpoints of a running training: outside DVC's outputs, tied by a fingerprint to what they continue.

DVC deletes a stage's outputs before it runs the stage, so what is needed to resume lies elsewhere, under
`.gwainet/checkpoints/<stage>-<fingerprint>/`, and is removed once the stage has finished.
"""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import torch

from gwainet.errors import CheckpointError
from gwainet.files import staged_file

FORMAT = 1


class Mirror(Protocol):
    """A second place for checkpoints, which outlives this machine (`gwainet.storage.BucketMirror`)."""

    def pull(self, path: Path) -> None:
        """Put that place's checkpoint at `path` if it is newer than what is there."""

    def push(self, path: Path) -> None:
        """Take the checkpoint at `path`, as it is now; never fails, never waits."""

    def remove(self, path: Path) -> None:
        """Forget the checkpoint of `path`; never fails."""

    def place(self, path: Path) -> str:
        """Where the checkpoint of `path` lies there, for people."""


_mirror: ContextVar[Mirror | None] = ContextVar("mirror", default=None)


@contextmanager
def mirrored(mirror: Mirror | None) -> Iterator[None]:
    """Let the checkpoints of trainings inside the block have a second place: which one is no business of a stage."""
    token = _mirror.set(mirror)
    try:
        yield
    finally:
        _mirror.reset(token)


class Checkpoints:
    """Where one training keeps its state, in `mirrored` with a copy at a second place.

    Args:
        root: directory of all checkpoints.
        stage: name of the stage, with its variant.
        fingerprint: facts that must be equal for a checkpoint to be continued: params, digests of inputs, code.
    """

    def __init__(self, root: Path, stage: str, fingerprint: Mapping[str, str]) -> None:
        text = "\n".join(f"{key}={fingerprint[key]}" for key in sorted(fingerprint))
        self.directory = root / f"{stage}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        self.path = self.directory / "state.pt"
        self._mirror = _mirror.get()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state in one piece; an earlier one stays until the new one is complete."""
        with staged_file(self.path) as partial:
            torch.save({"format": FORMAT, **state}, partial)
        if self._mirror is not None:
            self._mirror.push(self.path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The state of an interrupted training, or None.

        Raises:
            CheckpointError: the file is damaged.
            StorageError: the second place refuses or does not answer.
        """
        if self._mirror is not None:
            self._mirror.pull(self.path)
        if not self.path.exists():
            return None
        try:
            state: dict[str, Any] = torch.load(self.path, map_location=device, weights_only=True)
        except Exception as error:
            raise CheckpointError(
                f"{self.path} cannot be read ({error}): delete {self._places()} to start this stage afresh"
            ) from error
        if state.get("format") != FORMAT:
            raise CheckpointError(f"{self.path} is of another version: delete {self._places()} to start afresh")
        return state

    def remove(self) -> None:
        """Forget the state: the training has finished."""
        if self._mirror is not None:
            self._mirror.remove(self.path)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _places(self) -> str:
        return f"{self.directory}{'' if self._mirror is None else f' and {self._mirror.place(self.path)}'}"
