"""How near trainings come to what the device can do: `python -m benchmarks.roofline`.

The roofline is measured in the same run: the rate of a large matrix product in the precision of the training, and that
of copying memory. A phase's steps are timed with the plain engine and with the one that `auto` chooses, at the paper's
sizes and batches, on as many faces of noise as are asked for; their operations are counted (`gwainet.plan`). From the
step's time follows what the steps of the paper's two schedules would take: extrapolated, and said so.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.timing import machine
from gwainet.dataset import Faces
from gwainet.params import Params, load_params
from gwainet.plan import Training, make_plan
from gwainet.plan.rehearsal import rehearse, settings_of, write_noise
from gwainet.training.device import choose_device, describe, fold_for_training
from gwainet.training.engine import PLAIN, Engine, choose_engine

PARAMS = Path("params.yaml")
SCHEDULES = {"celeba": 162_734, "pairs": 18_000}  # profile -> its training targets (Sec. 4.1)
_BLOCKS = 5  # of steps: the spread of the step's time
_BIG = {"cuda": 8192, "cpu": 1024}  # rows and columns of the matrices


def seconds_of(work: Callable[[], object], times: int, device: torch.device) -> float:
    """Of one call, in the mean of several."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - started) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def roofline(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Operations a second of a matrix product, and bytes a second of copying: the best of some tries."""
    size = _BIG[device.type]
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    source = torch.zeros(2**28 if device.type == "cuda" else 2**25, device=device)
    target = torch.empty_like(source)
    torch.mm(a, b)
    target.copy_(source)
    product = min(seconds_of(lambda: torch.mm(a, b), 10, device) for _ in range(5))
    copy = min(seconds_of(lambda: target.copy_(source), 5, device) for _ in range(5))
    return 2 * size**3 / product, 2 * source.nbytes / copy


def step_seconds(
    name: str, params: Params, faces: Faces, device: torch.device, engine: Engine, steps: int
) -> list[float]:
    """Of a step of a training stage, in the mean of each of some blocks; steady ones."""
    stage, _, variant = name.partition("@")
    phase = rehearse(stage, variant or None, params, faces, device)(
        settings_of(params, stage, variant or None).batch_size
    )
    fold_for_training(phase.modules.values(), params.runtime, device, engine.frozen)
    phase.use(engine)
    numbers = cycle(range(phase.rates.parts[-1][0]))  # over again where there are few faces
    for _ in range(engine.settling):
        phase.step(next(numbers))
    block = max(1, steps // _BLOCKS)
    return [seconds_of(lambda: phase.step(next(numbers)), block, device) for _ in range(_BLOCKS)]


def _row(training: Training, taken: dict[str, list[float]], peak: float) -> list[str]:
    plain, chosen = (np.median(times) for times in taken.values())
    low, high = np.quantile(taken["chosen"], (0.25, 0.75))
    rate = 2 * training.step_macs / chosen
    minutes = f"{training.steps * chosen / 60:.1f}"
    times = (f"{1e3 * plain:.2f}", f"{1e3 * chosen:.2f}", f"{1e3 * low:.2f} to {1e3 * high:.2f}")
    return [training.name, str(training.batch_size), *times, f"{plain / chosen:.2f}", f"{rate / peak:.2f}", minutes]


def main() -> None:
    """Measure the roofline, then each phase, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=__doc__)
    parser.add_argument("--device", default="auto", choices=["auto", "cuda", "cpu"])
    parser.add_argument("--profile", nargs="+", default=list(SCHEDULES), choices=list(SCHEDULES))
    parser.add_argument("--steps", type=int, default=500, help="timed of each phase (default 500)")
    parser.add_argument("--targets", type=int, help="faces of noise (default: as many as the data set has)")
    parser.add_argument("--only", nargs="*", default=[], help="trainings, by their names")
    options = parser.parse_args()
    console = Console(width=150)
    console.print(machine(torch.get_num_threads()))
    for profile in options.profile:
        params = load_params(PARAMS, profile, [f"runtime.device={options.device}"])
        device = choose_device(params.runtime)
        plan = make_plan(params, images=SCHEDULES[profile])
        targets = options.targets or SCHEDULES[profile]
        with tempfile.TemporaryDirectory(prefix="gwainet-roofline-") as folder:
            faces = write_noise(Path(folder), plan.height, plan.width, targets + targets % 2)
            chosen = choose_engine(params.runtime, device, faces)
            dtype = torch.bfloat16 if chosen.precision == "bfloat16" else torch.float32
            peak, bandwidth = roofline(device, dtype)
            title = (
                f"{profile}: {describe(device)}, {peak / 1e12:.2f} TFLOP/s in {chosen.precision}, "
                f"{bandwidth / 1e9:.0f} GB/s; {targets:,} faces of noise, {options.steps} steps a phase"
            )
            table = Table(title=title, title_justify="left")
            names = ("training", "batch", "plain ms", "chosen ms", "quartiles", "times as fast", "of the roofline")
            for column in (*names, "schedule, min (extrapolated)"):
                table.add_column(column, justify="left" if column == "training" else "right")
            total = 0.0
            for training in plan.trainings:
                if not training.steps or (options.only and training.name not in options.only):
                    continue
                engines = {"plain": PLAIN, "chosen": chosen}
                taken = {
                    name: step_seconds(training.name, params, faces, device, engine, options.steps)
                    for name, engine in engines.items()
                }
                total += training.steps * float(np.median(taken["chosen"]))
                table.add_row(*_row(training, taken, peak))
            console.print(table)
            console.print(f"{profile}, steps of the rows above: {total / 60:.1f} min, extrapolated, no validations")
    console.print(f"load average after {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
