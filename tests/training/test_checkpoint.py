"""Checkpoints belong to one training."""

from typing import Any

import pytest
import torch

from gwainet.errors import CheckpointError
from gwainet.training.checkpoint import Checkpoints, code_digest

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


@pytest.mark.parametrize(
    "damage", [lambda data: data[:500], lambda data: b"", lambda data: flipped(data, len(data) // 2)]
)
def test_a_damaged_file_says_what_to_delete(tmp_path, damage):
    checkpoints = Checkpoints(tmp_path, "stage", {})
    checkpoints.save({"x": torch.zeros(1000)})
    checkpoints.path.write_bytes(damage(checkpoints.path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"state\.pt cannot be read .*: delete .*stage-"):
        checkpoints.load(CPU)


@pytest.mark.parametrize("place", [0.2, 0.4, 0.6, 0.8])
def test_where_the_newest_state_is_damaged_the_one_before_is_continued(tmp_path, capsys, place):
    checkpoints = Checkpoints(tmp_path, "stage", {})
    for step in range(4):
        checkpoints.save({"step": step, "x": torch.full((1000,), float(step))})
    assert loaded(checkpoints)["step"] == 3
    data = checkpoints.path.read_bytes()
    checkpoints.path.write_bytes(flipped(data, int(place * len(data))))
    state = loaded(checkpoints)
    assert state["step"] == 2
    assert torch.equal(state["x"], torch.full((1000,), 2.0))
    assert "the checkpoint before it is continued" in capsys.readouterr().err
    checkpoints.save({"step": 9})
    assert loaded(checkpoints)["step"] == 9
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == [
        "fingerprint.json",
        "state.previous.pt",
        "state.pt",
    ]


def loaded(checkpoints: Checkpoints) -> dict[str, Any]:
    """The state, which must be there."""
    state = checkpoints.load(CPU)
    assert state is not None
    return state


def flipped(data: bytes, place: int) -> bytes:
    """One bit is another."""
    return data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :]


def test_a_training_that_is_not_continued_is_named_with_what_differs(tmp_path, capsys):
    mine = {"train_psnr.learning_rate": "0.0002", "faces": "1", "code": "x"}
    theirs = Checkpoints(tmp_path, "train_psnr@guided", {**mine, "train_psnr.learning_rate": "0.0001", "faces": "2"})
    theirs.save({"x": 1})
    Checkpoints(tmp_path, "train_psnr@banet", {}).save({"x": 1})
    assert Checkpoints(tmp_path, "train_psnr@guided", mine).load(CPU) is None
    said = " ".join(capsys.readouterr().err.split())
    assert f"the checkpoint in {theirs.directory} is not continued" in said
    assert "it has other faces, train_psnr.learning_rate (0.0001 there, 0.0002 here); delete" in said
    assert "code" not in said
    assert "banet" not in said


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


def test_the_code_digest_covers_the_named_sources():
    assert code_digest("losses") != code_digest("losses", "nets")
    assert code_digest("losses", "nets") == code_digest("nets", "losses")
