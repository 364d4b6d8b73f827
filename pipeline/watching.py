"""Following a run: a live table of its stages on a terminal, a line for each change elsewhere."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from gwainet.errors import PipelineError, UnavailableError
from gwainet.progress import console, say
from pipeline.client import Run

POLL_SECONDS = 5.0
PATIENCE_SECONDS = 600.0  # an API server that is updated or moved to another node is away for minutes

_STYLES = {"SUCCEEDED": "green", "SKIPPED": "green", "RUNNING": "cyan", "FAILED": "bold red", "CANCELED": "bold red"}


def follow(
    read: Callable[[], Run],
    stages: Mapping[str, str],
    *,
    poll: float = POLL_SECONDS,
    patience: float = PATIENCE_SECONDS,
    shown_on: Console = console,
) -> Run:
    """Show a run until it ends.

    Args:
        read: asks for the run.
        stages: their names and titles, in the order of the table.
        poll: seconds between two questions.
        patience: seconds for which a server may not answer.
        shown_on: the terminal or log.

    Raises:
        UnavailableError: the server did not answer for `patience` seconds; the run may go on all the same.
        ClusterError: any other refusal, at once.
    """
    lost: float | None = None
    with _view(stages, shown_on) as show:
        while True:
            try:
                run = read()
            except UnavailableError as error:
                if lost is None:
                    lost = time.monotonic()
                    say(f"{error}\nThe run goes on; asking again for {timedelta(seconds=round(patience))}")
                elif time.monotonic() - lost > patience:
                    raise
            else:
                if lost is not None:
                    say("the server answers again")
                    lost = None
                show(run)
                if run.ended:
                    return run
            time.sleep(poll)


@contextmanager
def _view(stages: Mapping[str, str], shown_on: Console) -> Iterator[Callable[[Run], None]]:
    if not shown_on.is_terminal:
        yield _Lines(stages, shown_on)
        return
    latest: list[Run] = []

    def render() -> Table | Text:
        return table(latest[-1], stages) if latest else Text("asking for the run ...")

    # drawn every second from the last answer, so that the clocks of running stages go on between two answers
    with Live(get_renderable=render, console=shown_on, refresh_per_second=1) as live:

        def show(run: Run) -> None:
            latest[:] = [run]
            live.refresh()

        yield show


class _Lines:
    """A line for each stage that came into another state."""

    def __init__(self, stages: Mapping[str, str], shown_on: Console) -> None:
        self._stages = stages
        self._console = shown_on
        self._seen: dict[str, str] = {}

    def __call__(self, run: Run) -> None:
        states = {title: run.stage(name, title).state for name, title in self._stages.items()}
        for title, state in states.items():
            if state not in ("WAITING", "NOT RUN", self._seen.get(title)):
                self._console.print(f"{_now():%H:%M:%S} {title}: {state}", markup=False)
        if run.state != self._seen.get(""):
            self._console.print(f"{_now():%H:%M:%S} run {run.run_id}: {run.state or 'PENDING'}", markup=False)
        self._seen = {**states, "": run.state}


def table(run: Run, stages: Mapping[str, str]) -> Table:
    """The states of a run's stages and how long each took."""
    shown = Table("stage", "state", "started", "took", title=f"{run.name}: {run.state or 'PENDING'}", box=None)
    shown.title_justify = "left"
    for name, title in stages.items():
        stage = run.stage(name, title)
        end = stage.ended or (None if run.ended else _now())
        took = timedelta(seconds=max(0, round((end - stage.started).total_seconds()))) if end and stage.started else ""
        shown.add_row(
            title,
            Text(stage.state, style=_STYLES.get(stage.state, "")),
            f"{stage.started.astimezone():%Y-%m-%d %H:%M:%S}" if stage.started else "",
            str(took),
        )
    return shown


def check_success(run: Run, stages: Mapping[str, str], page: str, namespace: str) -> None:
    """Say how a run that ended otherwise than well can be read.

    Raises:
        PipelineError: it failed or was cancelled; the message names the stages and where their logs are.
    """
    if run.state == "SUCCEEDED":
        return
    failed = [stage for stage in map(run.stage, stages, stages.values()) if stage.state == "FAILED"]
    what = "".join(f"\n  {stage.name} failed{f': {stage.error}' if stage.error else ''}" for stage in failed)
    # only a component's own log says why it failed: the server passes no message of it on
    pods = f"kubectl -n {namespace or 'kubeflow'} get pods -l pipeline/runid={run.run_id}"
    raise PipelineError(
        f"the run `{run.name}` ended as {run.state}{f': {run.error}' if run.error else ''}{what}\n"
        f"logs: {page}\n  or: {pods}, then kubectl logs POD -c main"
    )


def _now() -> datetime:
    return datetime.now(UTC)
