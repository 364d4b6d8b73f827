"""A training's checkpoint outlives its machine, and a bucket that fails never ends a training."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from gwainet.errors import CheckpointError, ParamsError, StorageError
from gwainet.storage import checkpoint_mirror
from gwainet.storage.checkpoints import VARIABLE
from gwainet.training.checkpoint import Checkpoints, mirrored
from tests.storage.conftest import BUCKET
from tests.training_params import Interrupting, content, make_project

CPU = torch.device("cpu")


@pytest.fixture
def work(s3: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv(VARIABLE, f"s3://{BUCKET}/runs")
    return tmp_path / "machine"


def keys(s3: Any) -> list[str]:
    return [entry["Key"] for entry in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def save(work: Path, *values: int, size: int = 10) -> Checkpoints:
    """One process that saves and ends."""
    with checkpoint_mirror() as mirror, mirrored(mirror):
        checkpoints = Checkpoints(work, "stage@variant", {"params": "a"})
        for value in values:
            checkpoints.save({"x": torch.full((size,), value)})
    return checkpoints


def load(work: Path, fingerprint: str = "a") -> int | None:
    with checkpoint_mirror() as mirror, mirrored(mirror):
        state = Checkpoints(work, "stage@variant", {"params": fingerprint}).load(CPU)
    return None if state is None else int(state["x"][0])


def test_another_machine_continues_from_the_bucket(s3, work, capsys):
    assert load(work) is None
    saved = save(work, 1, 2, 3, size=3 * 2**20)  # in parts
    assert keys(s3) == [f"runs/{saved.directory.name}/state.pt"]
    shutil.rmtree(work)
    assert load(work) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert f"s3://{BUCKET}/runs/{saved.directory.name}/state.pt: this checkpoint is continued" in said
    assert load(work, "b") is None, "another training"


def test_the_newer_of_both_checkpoints_counts(s3, work, monkeypatch):
    save(work, 1)
    monkeypatch.delenv(VARIABLE)
    save(work, 2)
    monkeypatch.setenv(VARIABLE, f"s3://{BUCKET}/runs")
    assert load(work) == 2, "saved while the bucket was away"
    save(work.with_name("other machine"), 3)
    assert load(work) == 3


def test_a_finished_training_leaves_nothing_in_the_bucket(s3, work):
    with checkpoint_mirror() as mirror, mirrored(mirror):
        checkpoints = Checkpoints(work, "stage", {})
        checkpoints.save({"x": torch.zeros(10)})
        checkpoints.remove()
    assert keys(s3) == []
    assert list(work.iterdir()) == []


def test_uploads_that_fail_are_told_once_and_tried_again(s3, work, capsys):
    with checkpoint_mirror() as mirror, mirrored(mirror):
        assert mirror is not None
        checkpoints = Checkpoints(work, "stage@variant", {"params": "a"})
        s3.delete_bucket(Bucket=BUCKET)
        for value in (1, 2, 3):
            checkpoints.save({"x": torch.full((10,), value)})
            mirror._uploads.submit(lambda: None).result()  # the upload has ended
        said = " ".join(capsys.readouterr().err.split())
        assert said.count("there is no such bucket") == 1
        assert "The training goes on, and tries each new checkpoint" in said
        s3.create_bucket(Bucket=BUCKET)
        checkpoints.save({"x": torch.full((10,), 4)})
    assert "checkpoints are uploaded again" in capsys.readouterr().err
    shutil.rmtree(work)
    assert load(work) == 4


def test_a_bucket_that_cannot_be_asked_stops_a_training_before_it_starts_afresh(s3, work, monkeypatch):
    save(work, 1)
    shutil.rmtree(work)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StorageError, match="does not answer"):
        load(work)


def test_what_cannot_be_forgotten_is_told_and_the_training_has_succeeded(s3, work, monkeypatch, capsys):
    with checkpoint_mirror() as mirror, mirrored(mirror):
        checkpoints = Checkpoints(work, "stage", {})
        checkpoints.save({"x": torch.zeros(10)})
        assert mirror is not None
        mirror._uploads.submit(lambda: None).result()
        s3.delete_object(Bucket=BUCKET, Key=keys(s3)[0])
        s3.delete_bucket(Bucket=BUCKET)
        checkpoints.remove()
    assert "this checkpoint of it is left over: delete it" in " ".join(capsys.readouterr().err.split())


def test_a_damaged_checkpoint_names_both_places_to_delete(s3, work):
    saved = save(work, 1)
    s3.put_object(Bucket=BUCKET, Key=keys(s3)[0], Body=b"damaged")
    shutil.rmtree(work)
    with pytest.raises(CheckpointError, match=rf"delete {saved.directory} and s3://{BUCKET}/runs/stage@variant-"):
        load(work)


def test_what_is_no_bucket_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "/a/folder")
    with pytest.raises(ParamsError, match="GWAINET_CHECKPOINTS must be s3://bucket/prefix"), checkpoint_mirror():
        pass


def test_a_training_continues_on_another_machine_to_the_bytes_of_an_uninterrupted_one(s3, work, tmp_path, capsys):
    torch.set_num_threads(1)
    project = make_project(tmp_path)
    whole = content(project.run("pretrain_wnet", out="whole"))
    with pytest.raises(KeyboardInterrupt), checkpoint_mirror() as mirror, mirrored(mirror):
        project.run("pretrain_wnet", recorder=Interrupting(5))
    shutil.rmtree(tmp_path / ".gwainet")
    assert len(keys(s3)) == 1
    capsys.readouterr()
    with checkpoint_mirror() as mirror, mirrored(mirror):
        out = project.run("pretrain_wnet")
    assert "resumed at step 4 of" in " ".join(capsys.readouterr().err.split())
    assert content(out) == whole
    assert keys(s3) == []


def test_without_the_variable_no_bucket_is_opened(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with checkpoint_mirror() as mirror:
        assert mirror is None
    assert VARIABLE not in os.environ
