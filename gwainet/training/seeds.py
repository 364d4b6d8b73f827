"""A variant trained with several seeds, each as if it were the only one (`more_seeds`; docs/baselines.md, Seeds).

What the first seed's training writes is the stage's output; in its folder `seeds/` lie `seeds.json`, which names all of
them, the first one before the others, and for each of the others a folder of the same files.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from gwainet.errors import CheckpointError
from gwainet.files import write_json
from gwainet.params import Params, SeveralSeeds
from gwainet.progress import say
from gwainet.recorder import NullRecorder, Recorder
from gwainet.training import distributed
from gwainet.training.session import Session

SEEDS = "seeds"
_FILE = "seeds.json"
_WEIGHTS = "weights.safetensors"


class OneSeed:
    """One of a stage's trainings.

    Args:
        params: in which the stage's section has this seed and no others.
        seed: of it.
        start: what the stage before wrote with the same seed; None where the training goes on from no other.
        recorder: where numbers and pictures go; those of further seeds go nowhere.
        out: directory to write; of a further seed the one in which `is_done` finds it a place of its own.
        finish: writes more into the directory of the first seed; None of a further one.
    """

    def __init__(
        self,
        params: Params,
        seed: int,
        start: Path | None,
        recorder: Recorder,
        out: Path,
        finish: Callable[[Path], None] | None = None,
    ) -> None:
        self.params, self.seed, self.start, self.recorder = params, seed, start, recorder
        self.out, self.finish = out, finish

    def is_done(self, session: Session) -> bool:
        """Whether an earlier run of the stage has finished this training, which is a further seed's then.

        Sets `out` of a further seed, which bears the fingerprint of the session: to be asked once, before training.
        """
        if self.finish is not None:
            return False
        self.out /= session.checkpoints.directory.name
        # the first of several processes looks for all: it could be writing while another one still looks
        done = distributed.from_first(self.out.is_dir)
        if done and distributed.is_first():
            say(f"{session.stage}: seed {self.seed} is trained already ({self.out})")
        return done


def train_each(
    stage: str,
    params: Params,
    train: Callable[[OneSeed], None],
    *,
    out: Path,
    work: Path,
    recorder: Recorder,
    start: Path | None = None,
    starts_from: str | None = None,
) -> None:
    """Train a variant with the seed of the stage's section and with each of `more_seeds`, and write one directory.

    The further seeds come first, each in a directory of its own below `work`, so that a stage that is killed trains
    none again that had finished.

    Args:
        stage: its name, which is its section's.
        params: of the profile.
        train: makes one training, unless it `is_done`.
        out: directory to write.
        work: directory of checkpoints.
        recorder: where the numbers and pictures of the first seed go, and the headline numbers of the others.
        start: what another training wrote that this one goes on from.
        starts_from: the stage of `start`.

    Raises:
        CheckpointError: `start` was not trained with one of the seeds.
    """
    own: SeveralSeeds = getattr(params, stage)
    if start is not None and own.more_seeds:
        _check_starts(stage, own, start, starts_from or stage)

    def one(seed: int, recorder: Recorder, out: Path, finish: Callable[[Path], None] | None = None) -> OneSeed:
        # further seeds are no reason to start a seed afresh, so that its fingerprint knows nothing of them
        section = own.model_copy(update={"seed": seed, "more_seeds": ()})
        before = start if start is None or finish is not None else start / SEEDS / str(seed)
        return OneSeed(params.model_copy(update={stage: section}), seed, before, recorder, out, finish)

    others: dict[int, Path] = {}
    for seed in own.more_seeds:
        further = one(seed, NullRecorder(), work / SEEDS)
        train(further)
        others[seed] = further.out
        if distributed.is_first():  # another process does not wait for it, and may be here before it is written
            recorder.metrics({f"seed_{seed}.{name}": value for name, value in _headline(further.out).items()})

    def bring(directory: Path) -> None:
        write_json(directory / SEEDS / _FILE, {"seeds": [own.seed, *own.more_seeds]})
        for seed, folder in others.items():
            shutil.copytree(folder, directory / SEEDS / str(seed))

    train(one(own.seed, recorder, out, bring))
    if distributed.is_first():
        for folder in others.values():
            shutil.rmtree(folder)


def seeds_of(folder: Path, stage: str) -> list[int]:
    """The seeds that a variant was trained with, the first one's before the others'; empty where nothing says it.

    Args:
        folder: that the stage wrote.
        stage: that writes it, for the message.

    Raises:
        CheckpointError: the list is damaged.
    """
    path = folder / SEEDS / _FILE
    try:
        return TypeAdapter(list[int]).validate_python(
            json.loads(path.read_text(encoding="utf-8"))["seeds"], strict=True
        )
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError) as error:  # pydantic's is a ValueError
        raise CheckpointError(f"{path} is damaged ({error}): run {stage}@{folder.name} again") from error


def _check_starts(stage: str, own: SeveralSeeds, start: Path, before: str) -> None:
    """Look before the first training whether all of them have what they start from: each takes hours."""
    first = next(iter(seeds_of(start, before)), own.seed)
    if first != own.seed:
        raise CheckpointError(
            f"{start} was trained with seed {first}, and {stage}.seed is {own.seed}: with {stage}.more_seeds every "
            f"training goes on from one of the same seed, so give both the same, and run {before} again"
        )
    for seed in own.more_seeds:
        weights = start / SEEDS / str(seed) / _WEIGHTS
        if not weights.is_file():
            raise CheckpointError(
                f"{weights} does not exist: {stage} with seed {seed} goes on from what {before} trained with the same "
                f"seed. Have {seed} in {before}.more_seeds, and run {before} again"
            )


def _headline(folder: Path) -> Mapping[str, float]:
    return dict(json.loads((folder / "metrics.json").read_text(encoding="utf-8")))
