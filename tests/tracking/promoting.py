"""What another process does to a registry in the tests of promotions: imports no pytest, so that it starts fast."""

import os
from multiprocessing.synchronize import Barrier
from pathlib import Path
from random import Random
from time import sleep
from typing import TYPE_CHECKING

from gwainet.errors import TrackingError
from gwainet.tracking.gate import Registry

if TYPE_CHECKING:
    from multiprocessing.queues import Queue

CLAIM_SECONDS = 20.0


def promote_again_and_again(
    uri: str, version: str, tries: int, seed: int, gate: Barrier, results: "Queue[str]"
) -> None:
    """In every try decide at once with the other process, then promote: what came of it goes to `results`."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    registry = Registry(Path(), "faces", CLAIM_SECONDS)
    draw = Random(seed)
    for _ in range(tries):
        gate.wait()  # the aliases are as they shall be
        challenger, champion = registry.find(version), registry.champion()
        gate.wait()  # both have decided
        sleep(draw.choice([0.0, 0.0, draw.random() / 20]))
        try:
            registry.promote(challenger, champion, "{}", "a race")
        except TrackingError as error:
            results.put(f"{version} lost: {error}")
        else:
            results.put(f"{version} won")
        gate.wait()


def act_once(uri: str, act: str) -> None:
    """Promote version 3, or roll back."""
    os.environ["MLFLOW_TRACKING_URI"] = uri
    registry = Registry(Path(), "faces", CLAIM_SECONDS)
    if act == "promote":
        registry.promote(registry.find("3"), registry.champion(), '{"passed": true}', "because")
    else:
        registry.rollback("because")
