"""Checkpoints belong to one training."""

import pytest
import torch

from gwainet.errors import CheckpointError
from gwainet.training.checkpoint import Checkpoints

CPU = torch.device("cpu")


def test_a_state_comes_back_as_it_was_saved_and_is_gone_after_remove(tmp_path):
    checkpoints = Checkpoints(tmp_path, "stage", {"params": "a"})
    assert checkpoints.load(CPU) is None
    checkpoints.save({"x": torch.arange(3), "rows": [{"step": 1, "loss": 0.5}]})
    state = checkpoints.load(CPU)
    assert state is not None
    assert torch.equal(state["x"], torch.arange(3))
    assert state["rows"] == [{"step": 1, "loss": 0.5}]
    checkpoints.remove()
    assert checkpoints.load(CPU) is None
    assert list(tmp_path.iterdir()) == []


def test_another_fingerprint_does_not_see_the_state(tmp_path):
    Checkpoints(tmp_path, "stage", {"params": "a", "faces": "1"}).save({"x": 1})
    assert Checkpoints(tmp_path, "stage", {"faces": "1", "params": "a"}).load(CPU) is not None
    assert Checkpoints(tmp_path, "stage", {"params": "b", "faces": "1"}).load(CPU) is None
    assert Checkpoints(tmp_path, "other", {"params": "a", "faces": "1"}).load(CPU) is None


def test_a_damaged_file_says_what_to_delete(tmp_path):
    checkpoints = Checkpoints(tmp_path, "stage", {})
    checkpoints.save({"x": torch.zeros(1000)})
    checkpoints.path.write_bytes(checkpoints.path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match=r"delete .*stage-"):
        checkpoints.load(CPU)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    checkpoints = Checkpoints(tmp_path, "stage", {})
    checkpoints.directory.mkdir(parents=True)
    torch.save({"format": 1, "x": Evil()}, checkpoints.path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoints.load(CPU)


def test_a_failed_save_keeps_the_earlier_state(tmp_path):
    checkpoints = Checkpoints(tmp_path, "stage", {})
    checkpoints.save({"x": 1})
    with pytest.raises(Exception, match="pickle"):
        checkpoints.save({"x": lambda: None})
    state = checkpoints.load(CPU)
    assert state is not None
    assert state["x"] == 1
