import subprocess
from pathlib import Path

import pytest

from gwainet.files import tree_digest, write_json
from gwainet.params import Params
from gwainet.tracking import execution
from gwainet.tracking.execution import CodeVersion, code_version, data_digest, pipeline_key, shown, tracking_uri

PARAMS = Params(profile="demo")
CODE = CodeVersion("0123456789abcdef0123456789abcdef01234567", "")


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GWAINET_PIPELINE_KEY", "DVC_EXP_NAME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "gwainet").mkdir()
    (tmp_path / "gwainet" / "losses.py").write_text("weight = 1\n")
    (tmp_path / "dvc.lock").write_text("stages: {}\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@example.org commit -q -m first"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    return tmp_path


def test_code_without_changes_is_its_commit(repository: Path):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, capture_output=True, text=True, check=True)
    assert code_version(repository) == CodeVersion(head.stdout.strip(), "")
    assert str(code_version(repository)) == head.stdout[:12]


def test_a_change_of_code_changes_the_version_and_undoing_it_changes_it_back(repository: Path):
    clean = code_version(repository)
    (repository / "gwainet" / "losses.py").write_text("weight = 2\n")
    changed = code_version(repository)
    (repository / "gwainet" / "new.py").write_text("")
    added = code_version(repository / "gwainet")
    assert len({clean.changes, changed.changes, added.changes}) == 3
    assert clean.commit == changed.commit == added.commit
    (repository / "gwainet" / "losses.py").write_text("weight = 1\n")
    (repository / "gwainet" / "new.py").unlink()
    assert code_version(repository) == clean


def test_what_dvc_writes_between_two_stages_does_not_change_the_version(repository: Path):
    before = code_version(repository)
    (repository / "dvc.lock").write_text("stages: {prepare_faces: done}\n")
    (repository / "reports").mkdir()
    (repository / "reports" / "metrics.json").write_text("{}")
    assert code_version(repository) == before


def test_outside_a_repository_the_commit_is_unknown(tmp_path: Path):
    assert code_version(tmp_path) == CodeVersion("unknown", "")


def test_the_key_names_code_and_params(monkeypatch: pytest.MonkeyPatch):
    assert pipeline_key(PARAMS, CODE) == f"dvc/demo/0123456789ab/{PARAMS.digest()}"
    changed = CodeVersion(CODE.commit, "fedcba987654")
    assert pipeline_key(PARAMS, changed) == f"dvc/demo/0123456789ab+fedcba987654/{PARAMS.digest()}"
    monkeypatch.setenv("DVC_EXP_NAME", "shaky-dogs")
    assert pipeline_key(PARAMS, CODE) == f"dvc-exp/shaky-dogs/{PARAMS.digest()}"
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "kfp/1234")
    assert pipeline_key(PARAMS, CODE) == "kfp/1234"


def test_the_store_is_the_server_of_the_environment_else_the_projects_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert tracking_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    assert tracking_uri(tmp_path) == "https://mlflow.example.org"


def test_a_password_is_never_shown():
    assert shown("https://me:secret@mlflow.example.org/x") == "https://me:***@mlflow.example.org/x"
    with_options = "postgresql://db/mlflow?user=me&password=se%26cret&sslmode=require"
    assert shown(with_options) == "postgresql://db/mlflow?user=me&password=***&sslmode=require"
    assert shown("sqlite:////tmp/mlflow.db") == "sqlite:////tmp/mlflow.db"


def test_prepared_faces_bring_their_own_digest(tmp_path: Path):
    write_json(tmp_path / "faces.json", {"digest": "0123"})
    assert data_digest(tmp_path) == "0123"
    (tmp_path / "faces.json").write_text('{"digest"')
    assert data_digest(tmp_path) == tree_digest(tmp_path)


def test_what_a_stage_wrote_is_known_as_a_whole_and_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "weights").write_text("w")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "more").write_text("m")
    digests = execution.output_digests(tmp_path)
    assert digests == {
        "gwainet.output_digest": tree_digest(tmp_path),
        "gwainet.output.weights": data_digest(tmp_path / "weights"),
    }
    monkeypatch.setattr(execution, "HASHED_BYTES", 0)
    assert execution.output_digests(tmp_path).keys() == {"gwainet.output_digest"}
    assert execution.output_digests(tmp_path / "none") == {"gwainet.output_digest": "absent"}


def test_a_process_is_gone_when_it_has_ended_or_its_number_is_another_ones():
    pid, started, space = execution.this_process().split(" ")
    assert not execution.is_gone(execution.this_process())
    assert execution.is_gone(f"{pid} {float(started) - 1000:.0f} {space}")
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    assert execution.is_gone(f"{ended.pid} {started} {space}")
    for unknown in ("", f"{pid} 0 pid:[1]"):
        assert not execution.is_gone(unknown)


def test_data_are_digested_by_content_and_by_names_and_sizes_where_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a").write_bytes(b"12")
    assert data_digest(tmp_path) == tree_digest(tmp_path)
    assert data_digest(tmp_path / "a") == tree_digest(tmp_path / "a")
    assert data_digest(tmp_path / "b") == "absent"
    monkeypatch.setattr(execution, "HASHED_BYTES", 1)
    large = data_digest(tmp_path)
    assert large.startswith("sizes-")
    (tmp_path / "a").write_bytes(b"123")
    assert data_digest(tmp_path) != large
