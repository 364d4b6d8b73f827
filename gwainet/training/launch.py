"""Starts the processes that train one model together, by torch's elastic agent as `torchrun` does.

On one machine a stage that trains starts them itself (`runtime.processes`). On several nodes torchrun is started on
each (docs/kubeflow.md), with the same worker and the same request on a volume that all of them see.
"""

import json
import logging
import signal
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from gwainet import errors
from gwainet.errors import GwainetError, ParamsError
from gwainet.params import Runtime
from gwainet.progress import say


class Request(BaseModel):
    """What a worker process is to run: `python -m gwainet.worker REQUEST`, below torchrun."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: str
    variant: str | None
    params: dict[str, object]  # of one profile, as `Params` has them
    paths: dict[str, Path]  # argument of the stage -> path, `out` among them; seen by all processes
    store: Path  # directory of MLflow's default store and of checkpoints

    @staticmethod
    def page(request: Path) -> Path:
        """Where the first process writes where its run can be looked at."""
        return request.with_suffix(".page")


def processes(runtime: Runtime, batch_size: int) -> int:
    """How many processes this machine should train with.

    Args:
        runtime: `auto` is one process for each GPU, or the next smaller number that divides the batch; 1 on a CPU.
        batch_size: of all processes together.

    Raises:
        ParamsError: a number was asked for that does not divide the batch, or that has not as many GPUs.
    """
    gpus = torch.cuda.device_count() if runtime.device != "cpu" and torch.cuda.is_available() else 0
    if runtime.processes == "auto":
        count = next(count for count in range(max(1, gpus), 0, -1) if batch_size % count == 0)
        if count < gpus:
            say(f"{count} of {gpus} GPUs are used: a batch of {batch_size} cannot be shared equally by more")
        return count
    if gpus and runtime.processes > gpus:
        raise ParamsError(f"runtime.processes is {runtime.processes}, but this machine has {gpus} GPUs")
    check_share(batch_size, runtime.processes)
    return runtime.processes


def check_share(batch_size: int, count: int) -> None:
    """Make sure that a batch can be shared equally.

    Raises:
        ParamsError: it cannot.
    """
    if batch_size % count:
        raise ParamsError(
            f"{count} processes cannot share a batch of {batch_size} equally: choose runtime.processes (GPUs, nodes) "
            "so that it divides batch_size"
        )


def launch(request: Request, count: int) -> str:
    """Run a request in `count` processes of this machine.

    Returns:
        Where to look at the run.

    Raises:
        GwainetError: what one of them stopped with, or that one died.
    """
    with TemporaryDirectory(prefix="gwainet-") as scratch:
        file, logs = Path(scratch) / "request.json", Path(scratch) / "logs"
        file.write_text(request.model_dump_json(), encoding="utf-8")
        before = _handled()
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            run_id=Path(scratch).name,
            max_restarts=0,  # DVC or Kubeflow start the whole stage again, which continues from its checkpoint
            logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
            signals_to_handle=",".join(number.name for number in before),
        )
        say(f"{request.stage}: {count} processes train together")
        for name in logging.root.manager.loggerDict:
            if name.startswith("torch.distributed.elastic"):  # what matters is raised, in one message
                logging.getLogger(name).setLevel(logging.CRITICAL)
        stopped: signal.Signals | None = None
        try:
            elastic_launch(config, sys.executable)("-m", "gwainet.worker", str(file), "--messages", scratch)
        except SignalException as signalled:
            stopped = signalled.sigval
        except ChildFailedError as failures:
            raise _reason(failures, Path(scratch), count) from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if stopped is not None:  # the agent has ended the workers; the signal goes on to whom it would have reached
            signal.raise_signal(stopped)
        return Request.page(file).read_text(encoding="utf-8")


def message_file(messages: Path, rank: int) -> Path:
    """Where a worker says why it stopped."""
    return messages / f"{rank}.json"


def _reason(failures: ChildFailedError, messages: Path, count: int) -> GwainetError:
    """What the first process that knew why has written, as the error that it was."""
    for rank in range(count):
        if (file := message_file(messages, rank)).exists():
            said = json.loads(file.read_text(encoding="utf-8"))
            kind: type[GwainetError] = getattr(errors, said["kind"])
            return kind(said["message"])
    rank, failure = failures.get_first_failure()
    how = f"exit code {failure.exitcode}" if failure.exitcode >= 0 else signal.Signals(-failure.exitcode).name
    return GwainetError(
        f"process {rank} of {count} that trained together ended ({how}), perhaps for lack of memory: its own messages "
        "stand above; the training continues from its last checkpoint when the stage is run again"
    )


def _handled() -> dict[signal.Signals, Any]:
    """The signals that the agent takes over, with their handlers: none that is ignored, as `nohup` lets SIGHUP be."""
    if threading.current_thread() is not threading.main_thread():  # where it takes none
        return {}
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    return {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
