"""Two processes come to what one comes to: real processes, gloo, all four phases."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from gwainet.dataset import Batch, Faces
from gwainet.training import distributed
from gwainet.training.phases import AdversarialPhase, IdentityPhase
from gwainet.training.sampling import BatchSampler, Pairs
from tests.faces import write_faces
from tests.training.made import PHASES, make_phase

CPU = torch.device("cpu")
STEPS = 3


def in_float64(phase: Any) -> Any:
    """The phase with weights and batches of float64, where sums in another order differ by less than 1e-10."""
    for module in phase.modules.values():
        module.double()
    if isinstance(phase, IdentityPhase):
        pairs: Any = phase.feed.batch
        phase.feed.batch = lambda number=0: Pairs(*(part.double() for part in pairs(number)))
        return phase
    if isinstance(phase, AdversarialPhase):
        assert phase.inet is not None
        phase.inet.double()
        doubled(phase.critic_feed)
    doubled(phase.feed)
    return phase


def doubled(feed: Any) -> None:
    """Let a feed bring what it brings, in float64."""
    batch, epsilon = feed.batch, feed.epsilon
    feed.batch = lambda number=0: Batch(*(part.double() for part in batch(number)))
    feed.epsilon = lambda number=0: epsilon(number).double()


def train(faces: Faces) -> dict[str, dict[str, object]]:
    """What each phase comes to in `STEPS` steps of float64, and what it measures before in float32."""
    results: dict[str, dict[str, object]] = {}
    for name in PHASES:
        measured = make_phase(name, faces, CPU).validate()
        phase = in_float64(make_phase(name, faces, CPU))
        rows = [phase.step(step) for step in range(STEPS)]
        losses = [distributed.mean({key: float(value.detach()) for key, value in row.items()}) for row in rows]
        weights = torch.nn.ModuleDict(phase.modules).state_dict()
        results[name] = {"measured": measured, "losses": losses, "weights": weights}
    return results


def enter(rank: int, port: int) -> None:
    """Set what torchrun sets, and join."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    distributed.join(CPU)


def work(rank: int, port: int, root: str) -> None:
    """One of two processes."""
    enter(rank, port)
    faces = Faces(Path(root) / "faces")
    result: dict[str, object] = {"results": train(faces)}
    sampler = BatchSampler(faces, 4, 0, "generator")
    result["share"] = sampler.batch(5, CPU).i_gt
    module = torch.nn.Linear(2, 1)
    torch.nn.init.constant_(module.weight, rank + 1.0)
    distributed.same_weights({"module": module}, CPU)
    result["weight"] = module.weight.tolist()
    result["state"] = distributed.from_first(lambda: {"of": rank, "tensor": torch.full((2,), float(rank))})
    distributed.leave()
    torch.save(result, Path(root) / f"{rank}.pt")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, object]]]:
    """The faces, and what one process makes of them."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("together")
    # 40 of 42 validation faces are used: three batches, which two processes cannot share equally
    directory = write_faces(root / "faces", identities={"train": 5, "validation": 14, "test": 2}, images=3)
    return root, train(Faces(directory))


@pytest.fixture(scope="module")
def together(alone: tuple[Path, object]) -> list[dict[str, object]]:
    """What each of two processes ends with."""
    root = alone[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(work, (port, str(root)), nprocs=2)
    return [torch.load(root / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", PHASES)
def test_two_processes_train_the_same_weights_as_one(alone, together, name):
    expected: dict[str, Tensor] = alone[1][name]["weights"]
    for result in together:
        for key, tensor in result["results"][name]["weights"].items():
            torch.testing.assert_close(tensor, expected[key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", PHASES)
def test_two_processes_report_the_losses_of_the_whole_batch(alone, together, name):
    for result in together:
        for row, expected in zip(result["results"][name]["losses"], alone[1][name]["losses"], strict=True):
            assert row == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", PHASES)
def test_two_processes_measure_exactly_what_one_measures(alone, together, name):
    assert [result["results"][name]["measured"] for result in together] == [alone[1][name]["measured"]] * 2


def test_shares_of_a_batch_are_its_halves_in_order(alone, together):
    whole = BatchSampler(Faces(alone[0] / "faces"), 4, 0, "generator").batch(5, CPU).i_gt
    assert torch.equal(torch.cat([result["share"] for result in together]), whole)


def test_all_processes_start_from_the_first_ones_weights(together):
    assert [result["weight"] for result in together] == [[[1.0, 1.0]]] * 2


def test_the_first_process_reads_for_all(together):
    for result in together:
        assert result["state"]["of"] == 0
        assert result["state"]["tensor"].tolist() == [0.0, 0.0]


def test_without_a_group_everything_is_ones_own():
    gradient = torch.nn.Parameter(torch.zeros(3))
    gradient.grad = torch.arange(3.0)
    distributed.average_gradients([gradient])
    assert torch.equal(gradient.grad, torch.arange(3.0))
    assert distributed.share(5) == slice(None)
    assert distributed.own([1, 2]) == distributed.gather([1, 2], 2) == [1, 2]
    assert distributed.mean({"a": 2.0}) == {"a": 2.0}
