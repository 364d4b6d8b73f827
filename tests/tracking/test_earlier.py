"""A stage finds what the last good run of its kind recorded, on other data, and nothing else."""

from pathlib import Path

import pytest
from mlflow import MlflowClient

from gwainet.errors import ContractError
from gwainet.params import Params
from tests.tracking.stages import PARAMS, stage

FILE = "distributions.json"


def faces(root: Path, digest: str) -> Path:
    folder = root / digest
    folder.mkdir(exist_ok=True)
    (folder / "faces.json").write_text(f'{{"digest": "{digest}"}}')
    return folder


def run(root: Path, digest: str, text: str | None, *, name: str = "check_faces", params: Params = PARAMS) -> str | None:
    """A run that records `text`; what it found of earlier ones."""
    with stage(root, name, None, params, {"faces": faces(root, digest)}) as recorder:
        found = recorder.earlier(FILE)
        if text is not None:
            (root / FILE).write_text(text)
            recorder.artifact(root / FILE)
    return found


def _fail(root: Path) -> None:
    """Record a file, then fail."""
    with stage(root, "check_faces", None, PARAMS, {"faces": faces(root, "two")}) as recorder:
        (root / FILE).write_text("2")
        recorder.artifact(root / FILE)
        raise ContractError("the contract does not hold")


def test_nothing_was_before_the_first_run(root: Path, client: MlflowClient):
    assert run(root, "one", "1") is None


def test_the_last_finished_run_on_other_data_is_found_again_and_again(root: Path, client: MlflowClient):
    run(root, "one", "1")
    run(root, "two", "2")
    assert run(root, "three", "3") == "2"
    assert run(root, "three", "3") == "2"  # not itself, so that running again tells the same
    assert run(root, "two", "2") == "3"


def test_a_run_that_failed_was_not_accepted(root: Path, client: MlflowClient):
    run(root, "one", "1")
    with pytest.raises(ContractError):
        _fail(root)
    assert run(root, "three", None) == "1"


def test_another_stage_or_profile_is_no_earlier_run(root: Path, client: MlflowClient):
    run(root, "one", "1", name="prepare_faces")
    run(root, "two", "2", params=Params(profile="other"))
    assert run(root, "three", "3") is None


def test_a_run_without_the_file_is_passed_over(root: Path, client: MlflowClient):
    run(root, "one", "1")
    run(root, "two", None)
    assert run(root, "three", None) == "1"


def test_a_store_that_fails_stops_nothing(
    root: Path, client: MlflowClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def broken(*arguments: object, **named: object) -> None:
        raise ConnectionError("the server is away")

    with stage(root, "check_faces", None, PARAMS, {"faces": faces(root, "one")}) as recorder:
        monkeypatch.setattr(recorder.client, "search_runs", broken)
        assert recorder.earlier(FILE) is None
        monkeypatch.undo()
    assert "the server is away" in " ".join(capsys.readouterr().err.split())
