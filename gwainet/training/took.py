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
        images: that its steps drew: of an adversarial step the critic's batches, too.
        seconds: validations included, over all runs of an interrupted training; steps that were lost do not count.
        device: CPU with its threads, or the GPU's name.
        processes: that trained it together.
        epochs: passes over the training split that were planned; None in files from before it was noted.
        learning_rate: of Adam, of a schedule's first part; None as above.
        same: of another paper's system, what the budget holds equal to ours: `images` or `compute`; None of ours.
    """

    images: int
    seconds: float
    device: str
    processes: int
    epochs: float | None = None
    learning_rate: float | None = None
    same: str | None = None

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
