"""Work spread over processes, with results in order and memory that does not grow with the amount of work."""

import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import TypeVar

from gwainet.errors import DataError

_AHEAD = 4  # tasks waiting per process: bounds the memory while the caller is behind

Task = TypeVar("Task")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use, fewer than the machine's in a container."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def ordered_map(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    prepare: Callable[..., None] | None = None,
    arguments: tuple[object, ...] = (),
) -> Generator[Result, None, None]:
    """`work` of every task, in the order of the tasks, done by `workers` processes.

    Whoever stops early (Ctrl-C, an error) waits for what is being worked on, not for what has not begun.

    Args:
        work: a function that a process can import.
        tasks: taken as they are needed.
        workers: how many processes.
        prepare: called once in each process, before its first task.
        arguments: of `prepare`.

    Raises:
        DataError: a process died.
    """
    remaining = iter(tasks)
    waiting: deque[Future[Result]] = deque()
    with processes(workers, prepare, arguments) as pool:
        waiting.extend(pool.submit(work, task) for task in islice(remaining, _AHEAD * workers))
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, task) for task in islice(remaining, 1))
            yield result


@contextmanager
def processes(
    workers: int, prepare: Callable[..., None] | None = None, arguments: tuple[object, ...] = ()
) -> Iterator[ProcessPoolExecutor]:
    """Processes that end with the block, however it ends: what has not begun by then is not done.

    Args:
        workers: how many; they start with their first task.
        prepare: called once in each process, before its first task.
        arguments: of `prepare`.

    Raises:
        DataError: a process died.
    """
    # spawn, not fork: the caller may run threads (MLflow's system metrics, torch), whose locks a fork would copy
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin, (prepare, arguments))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise DataError(
            f"a process that works on pictures died ({error}), perhaps for lack of memory: set runtime.workers lower"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(prepare: Callable[..., None] | None, arguments: tuple[object, ...]) -> None:
    """Start a worker process; Ctrl-C, which a terminal sends to all, is its parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if prepare is not None:
        prepare(*arguments)


def _end_with_parent() -> None:
    """End this process when its parent is killed: it would wait for tasks for ever, and hold what it has open."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
