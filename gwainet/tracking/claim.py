"""One at a time: a claim on a registered model, made of MLflow's tags alone.

MLflow has no compare-and-swap, so that of two processes that read "free" and then write "mine" both may go on. Tags of
different keys never overwrite each other, though, and all of a model's tags are read at once: that is enough for
Lamport's bakery algorithm ("A New Solution of Dijkstra's Concurrent Programming Problem", 1974). Every process writes a
tag of its own: first that it is choosing, then a ticket above all that it sees; and goes on when nobody who is choosing
or has a lower ticket is left. However their requests interleave, two are never inside together.

A killed process leaves its tag. Whoever waits sees the tag unchanged for `seconds` of its own clock (so that clocks
need not agree) and removes it; whoever waits or works writes its tag anew before that. The window that remains: a
process that stands still for longer than half of `seconds` between its last look at the clock and a write's arrival
writes though its claim has ended.
"""

import json
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from gwainet.errors import TrackingError
from gwainet.progress import say

PREFIX = "gwainet.claim."
PAUSE = 0.1  # seconds between two looks


@dataclass
class Claim:
    """A process's own tag on a registered model.

    Attributes:
        client: of the server.
        name: of the registered model.
        about: who and what for, shown to those who wait.
        seconds: after which an unchanged tag is a killed process's.
        token: of this process.
        ticket: None while it is choosing.
    """

    client: MlflowClient
    name: str
    about: Mapping[str, str]
    seconds: float
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    ticket: int | None = None
    beats: int = 0
    written: float = 0.0

    def write(self) -> None:
        """Write the tag: that the process lives, and its ticket."""
        self.beats += 1
        self.written = time.monotonic()  # before the write: others count from when they see it
        value = {**self.about, "ticket": self.ticket, "beats": self.beats}
        self.client.set_registered_model_tag(self.name, PREFIX + self.token, json.dumps(value))

    def others(self) -> dict[str, str]:
        """Token -> tag of everybody else's claim.

        Raises:
            TrackingError: our own is not there any more, or will not be for long (`keep`).
        """
        tags: dict[str, str] = self.client.get_registered_model(self.name).tags
        if PREFIX + self.token not in tags:
            raise self._lost()
        self.keep()
        return {
            key.removeprefix(PREFIX): value
            for key, value in tags.items()
            if key.startswith(PREFIX) and key != PREFIX + self.token
        }

    def before(self, other: str, value: str) -> bool:
        """Whether another's claim comes before this one, or may."""
        ticket = _read(value).get("ticket")
        return ticket is None or (ticket, other) < (self.ticket, self.token)

    def keep(self) -> None:
        """Look at the clock before going on, and write the tag anew in time.

        Raises:
            TrackingError: half of the claim's time is over: others may soon take this process for killed.
        """
        age = time.monotonic() - self.written
        if age > self.seconds / 2:
            raise self._lost()
        if age > self.seconds / 4:
            self.write()

    def _lost(self) -> TrackingError:
        return TrackingError(
            f"the claim on {self.name} was lost: nothing was heard of this process for too long (a slow server, a "
            "suspended machine?). Nothing more was written: run the same command again"
        )

    def remove(self, token: str) -> None:
        """Remove a claim; somebody else may have done so already."""
        try:
            self.client.delete_registered_model_tag(self.name, PREFIX + token)
        except MlflowException:
            if PREFIX + token in self.client.get_registered_model(self.name).tags:
                raise


@contextmanager
def claimed(client: MlflowClient, name: str, about: Mapping[str, str], seconds: float) -> Iterator[Claim]:
    """Wait until nobody else claims a registered model, and claim it for the block.

    Args:
        client: of the server.
        name: of the registered model.
        about: `by`, `host`, `at` and `act`, for those who wait.
        seconds: after which a claim that does not change is taken for a killed process's.

    Raises:
        TrackingError: this process, or a request of it, took too long (`Claim.keep`).
        MlflowException: the server refuses.
    """
    claim = Claim(client, name, about, seconds)
    try:
        claim.write()
        claim.ticket = 1 + max((int(_read(value).get("ticket") or 0) for value in claim.others().values()), default=0)
        claim.write()
        _wait(claim)
        yield claim
    finally:
        try:
            claim.remove(claim.token)
        except MlflowException:
            say(f"The claim on {name} could not be taken back: others wait up to {seconds:g} seconds for it")


def _wait(claim: Claim) -> None:
    """Return when nobody is before us."""
    seen: dict[str, tuple[str, float]] = {}  # token -> tag and when it was first seen so
    told: set[str] = set()
    while True:
        ahead = {token: value for token, value in claim.others().items() if claim.before(token, value)}
        if not ahead:
            return
        now = time.monotonic()
        for token, value in ahead.items():
            if token not in seen or seen[token][0] != value:
                seen[token] = value, now
            age = now - seen[token][1]
            if age > claim.seconds:
                say(f"{_who(value)} is taken for killed: its claim on {claim.name} is removed")
                claim.remove(token)
            elif age > 1 and token not in told:
                told.add(token)
                say(
                    f"{_who(value)} has claimed {claim.name}: waiting for it, at most {claim.seconds:g} seconds if it "
                    "was killed"
                )
        time.sleep(PAUSE)


def _read(value: str) -> dict[str, Any]:
    try:
        read = json.loads(value)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


def _who(value: str) -> str:
    read = _read(value)
    by, host, act, at = (read.get(key, "?") for key in ("by", "host", "act", "at"))
    return f"{act} by {by} on {host}, begun {at},"
