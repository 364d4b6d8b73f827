"""`python -m tests.kills`: kill trainings at random moments, continue them, compare them with undisturbed ones.

Each of the four phases is trained once undisturbed, then again and again in a process that is killed (SIGKILL) at a
moment drawn over the whole length of a run: while it starts, trains, validates, writes a checkpoint or its outputs. It
is started again until it ends by itself. Weights, numbers, curves and pictures must then have the same bytes, and
MLflow the same metrics. The table goes into docs/reliability.md.
"""

import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from mlflow import MlflowClient
from rich.progress import track

from gwainet.files import file_digest, staged_file
from gwainet.params import check_params
from gwainet.stages import STAGES
from gwainet.training.took import FILE, Took
from tests.training_params import Project, make_project

PHASES = (("pretrain_inet", None), ("pretrain_wnet", None), ("train_psnr", "guided"), ("train_adversarial", "gwainet"))
# steps enough that most kills fall into the training, and validations and checkpoints all along it
LENGTH = {"pretrain_inet": 40.0, "pretrain_wnet": 40.0, "train_psnr": 25.0}
SCHEDULE = [{"epochs": 6.0, "learning_rate": 1e-3}, {"epochs": 4.0, "learning_rate": 1e-4}]

_CONTEXT = get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch", "mlflow", "pandas", "tests.kills"])


@dataclass
class Tally:
    """What became of one phase's killed trainings.

    Attributes:
        phase: stage and variant.
        kills: how often a process was killed.
        resumed: how many of the processes started after a kill continued a checkpoint.
        trainings: how many were ended.
        different: what was not equal in them.
    """

    phase: str
    kills: int = 0
    resumed: int = 0
    trainings: int = 0
    different: list[str] = field(default_factory=list)


def train(root: Path, stage: str, variant: str | None, out: str) -> None:
    """Run a stage of a project; what it writes and its store have a place of their own."""
    project, store = Project(root), root / "stores" / out
    store.mkdir(parents=True, exist_ok=True)
    if not (store / "mlflow.db").exists():
        with staged_file(store / "mlflow.db") as partial:
            shutil.copyfile(root / "mlflow.db", partial)
    with (store / "log").open("a") as log:
        sys.stderr = sys.stdout = log  # of this process alone
        settings = {"schedule": SCHEDULE} if stage == "train_adversarial" else {"epochs": LENGTH[stage]}
        params = project.params(stage, validate_every=16, validation_faces=4, **settings)
        paths = {**project.paths(stage, variant), "out": root / "outs" / out}
        STAGES[stage].execute(check_params(params.model_dump(mode="json")), variant, paths, store)


@contextmanager
def process(root: Path, stage: str, variant: str | None, out: str) -> Iterator[BaseProcess]:
    """Run a stage in a process."""
    running = _CONTEXT.Process(target=train, args=(root, stage, variant, out))
    running.start()
    try:
        yield running
    finally:
        running.kill()
        running.join()


def curves(store: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric -> steps and values of the run that ended, without those of the machine."""
    client = MlflowClient(f"sqlite:///{store / 'mlflow.db'}")
    ended = "attributes.status = 'FINISHED' and tags.`gwainet.kind` = 'stage'"
    # a process that was killed just after it had written everything leaves an ended run too; the last one counts
    run, *_ = client.search_runs(["1"], ended, order_by=["attributes.start_time DESC"])
    names = [name for name in run.data.metrics if not name.startswith("system/") and name != "training_seconds"]
    return {
        name: sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, name))
        for name in names
    }


def contents(folder: Path) -> dict[str, object]:
    """Digest of each file; of `training.json`, which tells seconds, all else."""
    made: dict[str, object] = {file.name: file_digest(file) for file in folder.iterdir()}
    took = Took.read(folder)
    assert took is not None
    return {**made, FILE: replace(took, seconds=0.0)}


def compare(root: Path, undisturbed: str, killed: str) -> Iterator[str]:
    """What a killed training ended with that an undisturbed one did not."""
    if contents(root / "outs" / undisturbed) != contents(root / "outs" / killed):
        yield f"{killed}: files"
    if curves(root / "stores" / undisturbed) != curves(root / "stores" / killed):
        yield f"{killed}: MLflow's metrics"
    if list((root / "stores" / killed / ".gwainet" / "checkpoints").glob("*")):
        yield f"{killed}: a checkpoint is left over"


def prepare(root: Path) -> dict[str, float]:
    """Make a project with everything that a phase starts from; train each phase once undisturbed.

    Returns:
        seconds of each phase.
    """
    project, seconds = make_project(root), {}
    project.run("pretrain_inet")
    project.run("pretrain_wnet")
    project.run("train_psnr", "guided")
    MlflowClient(f"sqlite:///{root / 'mlflow.db'}")  # an empty database, to be copied: making one takes seconds
    with process(root, *PHASES[0], "first") as running:  # it waits for imports, which the later ones find done
        running.join()
    for stage, variant in PHASES:
        started = time.monotonic()
        with process(root, stage, variant, f"{stage}-undisturbed") as running:
            running.join()
        if running.exitcode != 0:
            raise SystemExit((root / "stores" / f"{stage}-undisturbed" / "log").read_text())
        seconds[stage] = time.monotonic() - started
    return seconds


def kill(root: Path, stage: str, variant: str | None, seconds: float, kills: int, seed: int) -> Tally:
    """Train a phase as often as it takes to kill it so many times."""
    draws, tally = random.Random(f"{stage} {seed}"), Tally(f"{stage}@{variant}" if variant else stage)
    while tally.kills < kills:
        out, running_on = f"{stage}-{seed}-{tally.trainings}", True
        for _ in range(3):
            if tally.kills == kills:
                break
            with process(root, stage, variant, out) as running:
                running.join(draws.random() * seconds)
                running_on = running.is_alive()
            if not running_on:
                break
            tally.kills += 1
        if running_on:
            with process(root, stage, variant, out) as running:
                running.join()
        log = (root / "stores" / out / "log").read_text()
        tally.resumed += log.count("resumed at step")
        tally.trainings += 1
        if running.exitcode != 0:
            tally.different.append(f"{out}: {log}")
            continue
        tally.different += compare(root, f"{stage}-undisturbed", out)
    return tally


def main(
    kills: Annotated[int, typer.Option(help="In all; each of the four phases gets a quarter.", min=4)] = 50,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Kill trainings at random moments and compare what they end with."""
    with TemporaryDirectory(prefix="gwainet-kills-") as directory:
        root = Path(directory)
        seconds = prepare(root)
        shares = [kills // 4 + (place < kills % 4) for place in range(4)]
        tallies = [
            kill(root, stage, variant, seconds[stage], share, seed)
            for (stage, variant), share in track(list(zip(PHASES, shares, strict=True)), "killing")
        ]
    print("| phase | one run, s | kills | continued from a checkpoint | trainings ended | not bit-identical |")
    print("|---|---|---|---|---|---|")
    for tally, (stage, _) in zip(tallies, PHASES, strict=True):
        print(
            f"| {tally.phase} | {seconds[stage]:.1f} | {tally.kills} | {tally.resumed} | {tally.trainings} | "
            f"{len(tally.different)} |"
        )
    for difference in (difference for tally in tallies for difference in tally.different):
        print(difference)
    raise SystemExit(any(tally.different for tally in tallies))


if __name__ == "__main__":
    typer.run(main)
