"""What a stage reports while it runs; `gwainet.tracking` sends it to MLflow, `NullRecorder` drops it.

Training and stages speak to this interface alone, so that the mathematics knows nothing of the platform.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from PIL import Image


class Recorder(Protocol):
    """Where a stage's params, metrics, pictures and files go."""

    def params(self, values: Mapping[str, object]) -> None:
        """Record settings under flat dotted names, such as `train_psnr.learning_rate`."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Record numbers at a step (training) or at step 0 (a stage's results)."""

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        """Record a picture; the same name at later steps makes a series."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Record a file, or a directory with all in it, under `folder`."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Record facts to search by, such as a digest."""

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        """Record which data were used: `digest` is the manifest's, `context` e.g. "training"."""

    def earlier(self, name: str) -> str | None:
        """Text of a file that the last good run of this stage and profile on other inputs recorded; None if none is."""


class NullRecorder:
    """Records nothing: for unit tests and for use as a library."""

    def params(self, values: Mapping[str, object]) -> None:
        """Drop."""

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Drop."""

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        """Drop."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Drop."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Drop."""

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        """Drop."""

    def earlier(self, name: str) -> str | None:
        """Know of no earlier run."""
        return None
