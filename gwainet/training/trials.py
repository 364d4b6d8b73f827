"""Looking at a training without doing it: a few of its steps (`--dry-run`), a trace of some of them (`--trace`)."""

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from gwainet.files import staged_file
from gwainet.progress import say
from gwainet.training import TRACE, distributed

_WAIT, _WARM_UP, _TRACED = 2, 2, 3  # steps: the first ones load libraries and fill caches
TRACED_AFTER = _WAIT + _WARM_UP + _TRACED
_ROWS = 15  # of the printed table

_steps: ContextVar[int | None] = ContextVar("steps", default=None)


@contextmanager
def a_few_steps() -> Iterator[None]:
    """Let the trainings inside the block end after two steps, or as many as a trace needs."""
    token = _steps.set(TRACED_AFTER if os.environ.get(TRACE) else 2)
    try:
        yield
    finally:
        _steps.reset(token)


def steps_to_make(steps: int, settling: int) -> int:
    """Of so many planned steps; a few of them go on until one takes as long as those after it."""
    few = _steps.get()
    return steps if few is None else min(steps, max(few, settling + 1))


def peak_memory(device: torch.device) -> int:
    """The most that this process held so far, bytes: of the GPU's memory, or of the machine's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


@contextmanager
def traced(device: torch.device) -> Iterator[Callable[[], None]]:
    """Trace some steps if the environment names a file (`GWAINET_TRACE`): for chrome://tracing or ui.perfetto.dev.

    The first of several processes does. A training that ends before writes no trace, and says so.

    Yields:
        what to call after each step.
    """
    wanted = os.environ.get(TRACE)
    if not wanted or not distributed.is_first():
        yield lambda: None
        return
    path = Path(wanted)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    written = False

    def write(profiler: profile) -> None:
        nonlocal written
        with staged_file(path) as partial:
            profiler.export_chrome_trace(str(partial))
        written = True
        by = f"self_{device.type}_time_total"
        print(profiler.key_averages().table(sort_by=by, row_limit=_ROWS, max_name_column_width=50))
        say(f"trace of {_TRACED} steps: {path} (open it in ui.perfetto.dev)")

    plan = schedule(wait=_WAIT, warmup=_WARM_UP, active=_TRACED, repeat=1)
    with profile(activities=activities, schedule=plan, on_trace_ready=write) as profiler:
        try:
            yield profiler.step
        finally:
            if not written:
                profiler.on_trace_ready = None  # what stopped in the middle is no trace
    if not written:
        say(f"no trace: that takes {TRACED_AFTER} steps")
