"""What tracking costs a training step: real steps of the demo's train_psnr@guided, with and without MLFlow's run.

Three ways in one process, interleaved in rounds: no tracking, a SQLite file, a local MLflow server. CPU time of this
process is compared, all threads, because other work on the machine disturbs it least.
"""

import argparse
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import psutil
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from gwainet import tracking
from gwainet.params import Params, load_params
from gwainet.plan.rehearsal import rehearse, write_noise
from gwainet.progress import progress
from gwainet.recorder import NullRecorder, Recorder
from gwainet.tracking.execution import code_version
from gwainet.training.loop import Phase

STAGE, VARIANT = "train_psnr", "guided"
LIMIT = 0.02  # of a step's time


class Timed(NullRecorder):
    """Passes on what a loop reports and counts the CPU seconds that the loop's own thread spends on it."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.seconds = 0.0

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.thread_time()
        yield
        self.seconds += time.thread_time() - start

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Pass on."""
        with self._clock():
            self._recorder.metrics(values, step)

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        """Pass on."""
        with self._clock():
            self._recorder.picture(name, picture, step)


@dataclass
class Way:
    """A way of tracking, and what was measured of it, a number a round.

    Attributes:
        uri: for MLFLOW_TRACKING_URI; None: no tracking.
        step: CPU seconds of a step, of all threads.
        calls: those of the loop's thread inside the recorder, a step.
        sending: those of the thread that samples the machine and sends, a step.
        ends: CPU seconds to begin and to end the stage's run, once.
    """

    uri: str | None
    step: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    sending: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)


def cpu_of_sender() -> float:
    """CPU seconds of the outbox's thread; 0 if there is none."""
    ids = {thread.native_id for thread in threading.enumerate() if thread.name == "gwainet-outbox"}
    return sum(float(t.user_time + t.system_time) for t in psutil.Process().threads() if t.id in ids)


def run_round(way: Way, phase: Phase, params: Params, root: Path, steps: int) -> None:
    """One stage with so many steps, each reported as `gwainet.training.loop.fit` does, and a validation's picture."""
    if way.uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = way.uri
    task = tracking.Task(STAGE, VARIANT, params, ("networks", STAGE), root, {}, root / "out")
    noise = np.random.default_rng(0).integers(0, 256, (131, 130, 3), np.uint8)
    picture = Image.fromarray(noise).resize(
        (1040, 1050), Image.Resampling.BICUBIC
    )  # a sheet's size, as smooth as photos
    begin = time.process_time()
    with nullcontext(NullRecorder()) if way.uri is None else tracking.stage_run(task) as recorder:
        timed = Timed(recorder)
        start, sender = time.process_time(), cpu_of_sender()
        for step in range(steps):
            means = {name: float(value.detach()) for name, value in phase.step(step).items()}
            timed.metrics(means, step)
            if step == steps // 2:
                timed.picture("samples", picture, step)
        end, sent = time.process_time(), cpu_of_sender() - sender
    way.step.append((end - start) / steps)
    way.calls.append(timed.seconds / steps)
    way.sending.append(sent / steps)
    way.ends.append(start - begin + time.process_time() - end)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A server of its own process, as `mlflow server` starts it; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", f"{folder}/files"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603
            command, cwd=folder, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            wait_until(lambda: urlopen(f"{address}/health", timeout=2).close(), 300)  # noqa: S310
            yield address
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def wait_until(answers: Callable[[], object], seconds: float) -> None:
    """Until a call ends without an OSError."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answers()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def spread(values: list[float], unit: str, scale: float = 1.0) -> str:
    """Median and range."""
    low, middle, high = (scale * value for value in (min(values), float(np.median(values)), max(values)))
    return f"{middle:.2f} [{low:.2f}, {high:.2f}] {unit}"


def show(ways: Mapping[str, Way], rounds: int, steps: int, batch: int) -> bool:
    """Print what was measured; whether every way costs less than `LIMIT`."""
    table = Table(
        title=f"{STAGE}@{VARIANT}, demo size, batch {batch}: {rounds} rounds of {steps} steps; median [range]"
    )
    for title in ("tracking", "CPU of a step", "ratio to none", "in the loop", "sending thread", "share", "begin, end"):
        table.add_column(title, justify="left" if title == "tracking" else "right")
    plain, within = ways["none"].step, True
    for name, way in ways.items():
        if way.uri is None:
            table.add_row(name, spread(way.step, "ms", 1e3), "1", "", "", "", "")
            continue
        ratios = [tracked / other for tracked, other in zip(way.step, plain, strict=True)]
        share = float(np.median(np.add(way.calls, way.sending)) / np.median(plain))
        within &= share < LIMIT
        table.add_row(
            name,
            spread(way.step, "ms", 1e3),
            spread(ratios, ""),
            spread(way.calls, "ms", 1e3),
            spread(way.sending, "ms", 1e3),
            f"{share:.2%}",
            spread(way.ends, "s"),
        )
    console = Console(width=180)
    console.print(table)
    console.print(
        f"share: CPU of the loop's calls and the sending thread, over that of an untracked step; target < {LIMIT:.0%}"
    )
    console.print(
        f"{platform.machine()}, {psutil.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; Python "
        f"{platform.python_version()}, torch {torch.__version__}, 1 thread; commit {code_version(Path.cwd())}"
    )
    return within


def main() -> int:
    """Measure; exit code 1 if tracking costs more than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100, help="of a round")
    parser.add_argument("--batch", type=int, default=None, help="default: the demo's")
    given = parser.parse_args()
    torch.set_num_threads(1)
    params = load_params(Path("params.yaml"), "demo")
    batch = given.batch or params.train_psnr.batch_size
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        (root / "faces").mkdir()
        (root / "out").mkdir()
        faces = write_noise(root / "faces", 168, 144)
        phase = rehearse(STAGE, VARIANT, params, faces, torch.device("cpu"))(batch)
        phase.step(0)
        with mlflow_server(root) as address:
            ways = {"none": Way(None), "SQLite": Way(f"sqlite:///{root}/mlflow.db"), "server": Way(address)}
            order = list(ways)
            with progress("tracking", given.rounds * len(ways), "rounds") as ticker:
                for name in order[1:]:
                    run_round(Way(ways[name].uri), phase, params, root, 1)  # opens and fills the store, not measured
                for number in range(given.rounds):
                    random.Random(number).shuffle(order)  # noqa: S311
                    for name in order:
                        run_round(ways[name], phase, params, root, given.steps)
                        ticker.advance()
    return 0 if show(ways, given.rounds, given.steps, batch) else 1


if __name__ == "__main__":
    sys.exit(main())
