"""What waits to be sent to MLflow: in blocks, from a thread, and again after a failure, so training never waits."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

from gwainet.files import write_json
from gwainet.progress import say

BLOCK = 1000  # MLflow's most metrics in one call
SECONDS_BETWEEN_BLOCKS = 10.0
SECONDS_BETWEEN_SAMPLES = 2.0  # of the system's metrics, averaged over a block
LONGEST_PAUSE = 300.0  # between two tries while the server is away
PAUSES_AT_END = (0.0, 2.0, 5.0)  # before the last tries
PATIENCE_AT_END = 60.0  # seconds without anything taken, after which the rest is left unsent


@dataclass(frozen=True)
class Parcel:
    """Anything but a metric that waits to be sent.

    Attributes:
        about: what it is, as JSON, for the file of unsent things.
        send: sends it, or raises.
        keep: called before it is given up; saves what `about` does not hold and says where.
    """

    about: dict[str, object]
    send: Callable[[], object]
    keep: Callable[[], dict[str, object]] = dict


class Outbox:
    """Sends one run's metrics and parcels in order, from a thread of its own; keeps what could not be sent.

    Args:
        client: of the server.
        run_id: where all goes.
        server: its address as the user knows it.
        system_metrics: whether to sample CPU, memory, disk, network and GPU.
    """

    def __init__(self, client: MlflowClient, run_id: str, server: str, system_metrics: bool) -> None:
        self._client, self._run_id, self._server = client, run_id, server
        self._metrics: deque[Metric] = deque()
        self._parcels: deque[Parcel] = deque()
        self._refused: list[Parcel] = []
        self._wake, self._closed, self._given_up = threading.Event(), False, False
        self._patient, self._taken_at = True, 0.0
        self._failures, self._try_at, self.problem = 0, 0.0, ""
        # of MLflow's monitor only the sampling is used: its own thread ends for good at the first failed call,
        # and logs nothing of a stage shorter than its interval
        self._monitor = SystemMetricsMonitor(run_id, tracking_uri=client.tracking_uri) if system_metrics else None
        self._system_step = 0
        if self._monitor is not None:
            self._monitor.collect_metrics()  # the first reading of CPU use has nothing to compare with
            for part in self._monitor.monitors:
                part.clear_metrics()
        self._thread = threading.Thread(target=self._work, name="gwainet-outbox", daemon=True)
        self._thread.start()

    @property
    def away(self) -> bool:
        """Whether the last try failed."""
        return self._failures > 0

    def add(self, metrics: Sequence[Metric]) -> None:
        """Take metrics, to be sent with the next block."""
        self._metrics.extend(metrics)
        if len(self._metrics) >= BLOCK:
            self.hurry()

    def put(self, parcel: Parcel) -> None:
        """Take anything else."""
        self._parcels.append(parcel)

    def hurry(self) -> None:
        """Have what waits sent soon, unless the server is away; nobody waits for it."""
        if not self.away:
            self._wake.set()

    def _flush(self) -> bool:
        """Send all that waits; False if the server could not be reached: then the rest still waits."""
        try:
            self._send_metrics()
            while self._parcels and not self._given_up:
                self._send_metrics()  # those reported before it: the parcel that closes the run reads their last values
                self._deliver(self._parcels[0])
                self._parcels.popleft()
        except Exception as error:  # noqa: BLE001  any error of any artifact store: kept, tried again, reported
            self.failed(error)
            return False
        if self._failures:
            say(f"MLflow at {self._server} is back: what waited was sent")
        self._failures, self.problem = 0, ""
        return True

    def _send_metrics(self) -> None:
        """Send the metrics that wait now, in blocks; those that come meanwhile wait for the next time."""
        left = len(self._metrics)
        while left > 0 and not self._given_up:
            block = [self._metrics[i] for i in range(min(BLOCK, left))]
            self._deliver(
                Parcel(
                    {"metrics": _as_json(block)},
                    # a metric that is sent twice, after an answer got lost, is stored once
                    partial(self._client.log_batch, self._run_id, metrics=block),
                )
            )
            for _ in block:
                self._metrics.popleft()
            left -= len(block)

    def _deliver(self, parcel: Parcel) -> None:
        """Send one thing; what the server will never take is put aside, so that the rest is not held up."""
        try:
            parcel.send()
        except MlflowException as error:
            if not is_refusal(error):
                raise
            if not self._refused:
                say(f"MLflow at {self._server} refuses {', '.join(parcel.about)}: {brief(error)}")
            self._refused.append(parcel)
        self._taken_at = time.monotonic()

    def failed(self, error: Exception) -> None:
        """Remember a failed try: the next is made after a pause that doubles."""
        self.problem = brief(error)
        if not self._failures:
            say(
                f"MLflow at {self._server} could not take something ({self.problem}). The stage goes on; what waits is "
                "kept and sent later"
            )
        self._failures += 1
        pause = min(LONGEST_PAUSE, SECONDS_BETWEEN_BLOCKS * 2 ** (self._failures - 1))
        self._try_at = time.monotonic() + pause

    def close(self, patient: bool = True) -> bool:
        """Send the rest and stop the thread; False if something is unsent.

        Args:
            patient: try several times; a process that is told to end should not.
        """
        self._patient, self._closed = patient, True
        closed_at = time.monotonic()
        patience = PATIENCE_AT_END if patient else min(5.0, PATIENCE_AT_END)
        self._wake.set()
        while self._thread.is_alive():
            self._thread.join(0.1)
            # a server may hold a request for minutes
            if time.monotonic() - max(closed_at, self._taken_at) > patience:
                self._given_up, self.problem = True, self.problem or "it does not answer"
                return False
        return not (self._metrics or self._parcels or self._refused)

    def write_unsent(self, path: Path, about: dict[str, object]) -> None:
        """Write what is still unsent as JSON."""
        metrics = self._metrics.copy()  # a request that hangs may still end, in its thread
        parcels = [Parcel({"metrics": _as_json(metrics)}, dict)] if metrics else []
        unsent = [{**parcel.about, **parcel.keep()} for parcel in (*parcels, *self._parcels.copy())]
        refused = [{**parcel.about, **parcel.keep()} for parcel in self._refused]
        write_json(path, {**about, "problem": self.problem, "unsent": unsent, "refused": refused})

    def _work(self) -> None:
        block_at = time.monotonic() + SECONDS_BETWEEN_BLOCKS
        while True:
            woken = self._wake.wait(SECONDS_BETWEEN_SAMPLES)
            self._wake.clear()
            self._sample()
            if self._closed:
                break
            now = time.monotonic()
            if now >= block_at:
                block_at = now + SECONDS_BETWEEN_BLOCKS
                self._publish()
                woken = True
            if woken and now >= self._try_at:
                self._flush()
        self._publish()
        for pause in PAUSES_AT_END if self._patient else (0.0,):
            time.sleep(pause)
            if self._flush():
                return

    def _sample(self) -> None:
        if self._monitor is not None:
            try:
                self._monitor.collect_metrics()
            except Exception as error:  # noqa: BLE001  psutil's and NVML's errors differ by system
                say(f"system metrics stop: they cannot be read here ({brief(error)})")
                self._monitor = None

    def _publish(self) -> None:
        """Turn the samples since the last time into metrics."""
        if self._monitor is None:
            return
        now = now_ms()
        values = self._monitor.aggregate_metrics()
        self.add([Metric(f"system/{key}", float(value), now, self._system_step) for key, value in values.items()])
        self._system_step += 1
        for part in self._monitor.monitors:
            part.clear_metrics()


def _as_json(metrics: Iterable[Metric]) -> list[dict[str, object]]:
    # the value as a string: JSON has no NaN
    return [{"key": m.key, "value": repr(m.value), "timestamp": m.timestamp, "step": m.step} for m in metrics]


def is_refusal(error: Exception) -> bool:
    """Whether the server will never take it: trying again is of no use."""
    return isinstance(error, MlflowException) and error.get_http_status_code() in (400, 404, 409)


def now_ms() -> int:
    """Unix time in milliseconds, as MLflow counts it."""
    return time.time_ns() // 1_000_000


def brief(error: Exception) -> str:
    """An error in one line: no password, and none of the arrays and traces that MLflow puts into its messages."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    if "NewConnectionError" in lines[0]:
        return "nothing answers there"
    return re.sub(r"://([^:/@\s]+):[^/@\s]+@", r"://\1:***@", lines[0])[:300]
