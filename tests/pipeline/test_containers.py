from pathlib import Path

import pytest

from gwainet.errors import PipelineError
from pipeline.containers import docker_runner


def test_without_an_engine_it_says_so_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    runs = tmp_path / "runs"
    with (
        pytest.raises(PipelineError, match=r"no Docker engine answers .*DOCKER_HOST"),
        docker_runner("gwainet-python:1", tmp_path, runs, "key"),
    ):
        pass
    assert not runs.exists()
