"""What a training took: `training.json` beside its weights. Not in the weights, which are the same bytes every time."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from gwainet.errors import CheckpointError
from gwainet.files import write_json

FILE = "training.json"


@dataclass(frozen=True)
class Took:
    """What a training took.

    Attributes:
        images: that its steps saw.
        seconds: validations included, over all runs of an interrupted training; steps that were lost do not count.
        device: CPU with its threads, or the GPU's name.
        processes: that trained it together.
    """

    images: int
    seconds: float
    device: str
    processes: int

    def write(self, directory: Path) -> None:
        """Write the file into a directory."""
        write_json(directory / FILE, asdict(self))

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """Of a directory that a training stage wrote; None where it has no such file.

        Raises:
            CheckpointError: the file is damaged.
        """
        path = directory / FILE
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"{path} is damaged ({error}): run the stage that writes it again") from error
