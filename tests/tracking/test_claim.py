"""Two processes on one registered model: whatever the order of their requests, one is inside at a time."""

import json
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel, RegisteredModelTag

from gwainet.errors import TrackingError
from gwainet.tracking import claim
from gwainet.tracking.claim import PREFIX, claimed

ABOUT = {"act": "promotion of models:/faces/2", "by": "ann", "host": "here", "at": "2026-01-01T00:00:00+00:00"}
STEPS = 5  # of one process alone: choose, look, take a ticket, look, work (and leave)


@pytest.fixture
def model(client: MlflowClient) -> MlflowClient:
    client.create_registered_model("faces")
    return client


class Turns:
    """A registry whose requests wait for their turn; tags are written one at a time and read together, as MLflow's."""

    def __init__(self) -> None:
        self.tags: dict[str, str] = {}
        self._turn = {name: threading.Semaphore(0) for name in "ab"}
        self._waits = {name: threading.Semaphore(0) for name in "ab"}
        self.ended: set[str] = set()

    def wait(self) -> None:
        name = threading.current_thread().name
        self._waits[name].release()
        self._turn[name].acquire()

    def get_registered_model(self, name: str) -> RegisteredModel:
        self.wait()
        return RegisteredModel(name, tags=[RegisteredModelTag(key, value) for key, value in self.tags.items()])

    def set_registered_model_tag(self, name: str, key: str, value: str) -> None:
        self.wait()
        self.tags[key] = value

    def delete_registered_model_tag(self, name: str, key: str) -> None:
        self.wait()
        self.tags.pop(key, None)

    def play(self, order: Iterator[str], run: Callable[[], None]) -> None:
        """Let two processes make their requests in this order."""

        def process(name: str) -> None:
            try:
                run()
            finally:
                self.ended.add(name)
                self._waits[name].release()

        threads = [threading.Thread(target=process, args=(name,), name=name, daemon=True) for name in "ab"]
        for thread in threads:
            thread.start()
        for name in "ab":
            self._waits[name].acquire()
        for name in order:
            if len(self.ended) == 2:
                break
            if name not in self.ended:
                self._turn[name].release()
                assert self._waits[name].acquire(timeout=20)
        for thread in threads:
            thread.join(20)
            assert not thread.is_alive()


def forever(first: list[str]) -> Iterator[str]:
    yield from first
    while True:
        yield from "ab"


class Token(NamedTuple):
    """In the place of a UUID."""

    hex: str


@pytest.fixture
def most_inside_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str], str], int]:
    """How many are inside together when requests come in this order, and tokens sort like this."""

    def play(order: list[str], tokens: str) -> int:
        turns, inside, most = Turns(), 0, 0

        def run() -> None:
            nonlocal inside, most
            with claimed(turns, "faces", ABOUT, 60.0):
                inside += 1
                most = max(most, inside)
                turns.wait()
                inside -= 1

        monkeypatch.setattr(uuid, "uuid4", lambda: Token(str(tokens.index(threading.current_thread().name))))
        turns.play(forever(order), run)
        assert turns.tags == {}
        return most

    monkeypatch.setattr(claim, "PAUSE", 0.0)
    return play


def test_in_every_order_of_requests_of_two_processes_one_is_inside_at_a_time_and_both_get_in(most_inside_at_once):
    for places in combinations(range(2 * STEPS), STEPS):
        order = ["a" if place in places else "b" for place in range(2 * STEPS)]
        assert most_inside_at_once(order, "ab") == 1, order


def test_in_longer_random_orders_too(most_inside_at_once):
    draw = random.Random(0)
    for _ in range(200):
        order = draw.choices("ab", weights=(draw.random() + 0.05, draw.random() + 0.05), k=40)
        assert most_inside_at_once(order, draw.choice(["ab", "ba"])) == 1, order


def test_a_claim_is_seen_while_it_is_held_and_gone_afterwards(model: MlflowClient):
    with claimed(model, "faces", ABOUT, 60.0):
        ((key, value),) = model.get_registered_model("faces").tags.items()
        assert key.startswith(PREFIX)
        assert {**json.loads(value), **ABOUT} == {**ABOUT, "ticket": 1, "beats": 2}
    assert model.get_registered_model("faces").tags == {}
    with pytest.raises(RuntimeError), claimed(model, "faces", ABOUT, 60.0):
        raise RuntimeError
    assert model.get_registered_model("faces").tags == {}


@pytest.mark.parametrize("left", [json.dumps({**ABOUT, "ticket": 1, "beats": 2}), json.dumps({"ticket": None}), "?"])
def test_what_a_killed_process_left_holds_others_up_for_its_time_and_they_are_told(
    model: MlflowClient, capsys: pytest.CaptureFixture[str], left: str
):
    model.set_registered_model_tag("faces", f"{PREFIX}0", left)
    entered = False
    with claimed(model, "faces", ABOUT, 5.0):  # half of it is what a request may take on a busy machine
        entered = True
        assert list(model.get_registered_model("faces").tags) != [f"{PREFIX}0"]
    assert entered
    assert model.get_registered_model("faces").tags == {}
    said = " ".join(capsys.readouterr().err.split())
    assert "has claimed faces: waiting for it, at most 5 seconds if it was killed" in said
    assert "is taken for killed: its claim on faces is removed" in said


def test_who_was_taken_for_killed_or_stood_still_writes_nothing_more(model: MlflowClient):
    with claimed(model, "faces", ABOUT, 60.0) as mine:
        mine.remove(mine.token)
        with pytest.raises(TrackingError, match="was lost"):
            mine.others()
    with claimed(model, "faces", ABOUT, 60.0) as mine:
        mine.written -= 31
        with pytest.raises(TrackingError, match="was lost"):
            mine.keep()
    with claimed(model, "faces", ABOUT, 60.0) as mine:
        mine.written -= 16
        mine.keep()
        assert mine.beats == 3
