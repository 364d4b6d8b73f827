"""Checkpoints of a running training: outside DVC's outputs, tied by a fingerprint to what they continue.

DVC deletes a stage's outputs before it runs the stage, so what is needed to resume lies elsewhere, under
`.gwainet/checkpoints/<stage>-<fingerprint>/`, and is removed once the stage has finished. `state.pt` is the newest
state, `state.previous.pt` the one before: a file that the disk damaged costs the time between the two.
"""

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Protocol

import torch

from gwainet.errors import CheckpointError
from gwainet.files import staged_file, write_json
from gwainet.progress import say

FORMAT = 2
_FINGERPRINT = "fingerprint.json"  # for people, and for what `others` says


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
        self.previous = self.directory / "state.previous.pt"
        self._stage, self._fingerprint = stage, dict(fingerprint)
        self._mirror = _mirror.get()

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state in one piece; the one before stays beside it."""
        if not (fingerprint := self.directory / _FINGERPRINT).exists():
            write_json(fingerprint, self._fingerprint)
        with staged_file(self.path) as partial:
            with partial.open("wb") as file:
                torch.save({"format": FORMAT, **state}, file)
                file.flush()
                os.fsync(file.fileno())  # a machine that loses power must not keep the name without the bytes
            if self.path.exists():
                newest = self.previous.with_suffix(".link")
                newest.unlink(missing_ok=True)
                os.link(self.path, newest)  # not a rename: whenever the process is killed, `path` is there
                newest.replace(self.previous)
        if self._mirror is not None:
            self._mirror.push(self.path)

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """The newest state of an interrupted training that can be read, or None.

        Says which other interrupted trainings of this stage are not continued, and why.

        Raises:
            CheckpointError: there are states, and none can be read.
            StorageError: the second place refuses or does not answer.
        """
        if self._mirror is not None:
            self._mirror.pull(self.path)
        problems: list[str] = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state = _read(path, device)
            except Exception as error:  # noqa: BLE001  whatever damage does to a file
                problems.append(f"{path} cannot be read ({error})")
                continue
            if state.get("format") != FORMAT:
                problems.append(f"{path} is of another version of this program")
                continue
            if problems:
                say(f"{'; '.join(problems)}: the checkpoint before it is continued")
            return state
        if problems:
            raise CheckpointError(f"{'; '.join(problems)}: delete {self._places()} to start this stage afresh")
        for other in self.others():
            say(f"{other}; delete that directory if nobody will continue it")
        return None

    def others(self) -> Iterator[str]:
        """For each interrupted training of this stage with another fingerprint: where it is, and what differs."""
        for file in sorted(self.directory.parent.glob(f"{self._stage}-*/{_FINGERPRINT}")):
            theirs, ours = json.loads(file.read_text(encoding="utf-8")), self._fingerprint
            differ = [
                # a param's name has a dot; the others are digests, which tell people nothing
                f"{name} ({theirs.get(name)} there, {ours.get(name)} here)" if "." in name else name
                for name in sorted({*theirs, *ours})
                if theirs.get(name) != ours.get(name)
            ]
            if differ:
                yield f"the checkpoint in {file.parent} is not continued: it has other {', '.join(differ)}"

    def remove(self) -> None:
        """Forget the state: the training has finished."""
        if self._mirror is not None:
            self._mirror.remove(self.path)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _places(self) -> str:
        return f"{self.directory}{'' if self._mirror is None else f' and {self._mirror.place(self.path)}'}"


def _read(path: Path, device: torch.device) -> dict[str, Any]:
    """A state, with every byte held against the checksums that the file carries."""
    with zipfile.ZipFile(path) as archive:
        if damaged := archive.testzip():
            raise zipfile.BadZipFile(f"{damaged} does not have its checksum")
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def code_digest(*names: str) -> str:
    """SHA-256 over the source files, or packages, of this package that a training depends on."""
    package = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for name in sorted(names):
        for file in sorted((package / name).rglob("*.py")) if (package / name).is_dir() else [package / f"{name}.py"]:
            digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return digest.hexdigest()
