"""Progress of long steps: a bar with rate and time left on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

console = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

SECONDS_BETWEEN_LINES = 15.0  # in a log file: often enough to see life, rare enough to read


class _Rate(ProgressColumn):
    """Units a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f} {task.fields['unit']}/s", style="cyan")


class Ticker:
    """Counts a long step; `advance` after each unit of work, `note` to show a short state such as a loss."""

    def __init__(self, description: str, total: int, unit: str, done: int = 0) -> None:
        self.description, self.total, self.unit = description, total, unit
        self._done = self._done_at_start = done
        self._note = ""
        self._started = time.monotonic()
        self._next_line = self._started + SECONDS_BETWEEN_LINES
        self._bar: Progress | None = None
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=console,
            )
            self._task = self._bar.add_task(description, total=total, completed=done, unit=unit, note="")

    def __enter__(self) -> "Ticker":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None:
            self._line()

    def note(self, text: str) -> None:
        """Show `text` beside the count."""
        self._note = text
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def advance(self, count: int = 1) -> None:
        """Count `count` more units as done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(self._task, advance=count)
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            self._line()

    def _line(self) -> None:
        elapsed = time.monotonic() - self._started
        rate = (self._done - self._done_at_start) / elapsed if elapsed > 0 else 0.0
        left = str(timedelta(seconds=round(max(0, self.total - self._done) / rate))) if rate > 0 else "unknown"
        note = f" | {self._note}" if self._note else ""
        console.print(
            f"{self.description}: {self._done:,}/{self.total:,} | {rate:,.1f} {self.unit}/s | {left} left{note}",
            markup=False,
        )
        sys.stderr.flush()


@contextmanager
def progress(description: str, total: int, unit: str, done: int = 0) -> Iterator[Ticker]:
    """Show the progress of `total` units of work, of which `done` were done before (a resumed training)."""
    with Ticker(description, total, unit, done) as ticker:
        yield ticker


def say(message: str) -> None:
    """Tell the user one thing, on standard error."""
    console.print(message, markup=False)
