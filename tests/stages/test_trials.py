"""Dry runs and traces, as the command line makes them."""

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from gwainet.__main__ import app
from tests.training_params import NETWORKS, TRAINING, Interrupting, Project


def call(project: Project, *arguments: str):
    """Run a command on the project's folder; `base` of the params is what `Project.params` has."""
    runtime = {"device": "cpu", "threads": 1}
    file = project.root / "params.yaml"
    values = {
        "profile": "tiny",
        "base": {"networks": NETWORKS, **TRAINING, "runtime": runtime},
        "profiles": {"tiny": {}},
    }
    YAML().dump(values, file)
    return CliRunner().invoke(app, [*arguments, "--root", str(project.root), "--params", str(file)])


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "params.yaml"}


@pytest.mark.parametrize("stage", ["pretrain_inet", "pretrain_wnet"])
def test_a_dry_run_makes_a_few_real_steps_and_writes_nothing(project: Project, stage):
    before = files(project.root)
    done = call(project, stage, "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"{stage}: 2 of 8 steps of batch 2; at most" in done.stderr
    assert f"would write {project.paths(stage)['out']}" in done.stderr
    assert "nothing was kept" in done.stderr
    assert files(project.root) == before


def test_a_dry_run_says_what_is_missing_as_the_run_would(project: Project):
    project.run("pretrain_wnet", epochs=0.0)
    shutil.rmtree(project.paths("pretrain_wnet")["out"])
    refused = call(project, "train_psnr", "--variant", "guided", "--dry-run")
    assert refused.exit_code == 1
    assert "pretrain_wnet/weights.safetensors does not exist" in refused.stderr.replace("\n", "")


def test_a_dry_run_of_a_stage_that_does_not_train_names_what_it_lacks_and_what_it_would_replace(project: Project):
    there = call(project, "check_faces", "--dry-run")
    assert there.exit_code == 0, there.output
    assert "which exists and would be replaced" in there.stderr
    lacking = call(project, "benchmark", "--dry-run")
    assert lacking.exit_code == 1
    assert "train_psnr does not exist: run the stage that writes it" in lacking.stderr.replace("\n", "")


def test_a_trace_of_three_steps_names_the_convolutions(project: Project, monkeypatch):
    monkeypatch.setenv("GWAINET_TRACE", "")  # what the command sets is taken back
    trace = project.root / "trace.json"
    done = call(project, "pretrain_wnet", "--dry-run", "--trace", str(trace))
    assert done.exit_code == 0, done.output
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event.get("name") for event in events}
    assert any("convolution" in str(name) for name in names)
    assert (
        sum(str(name).startswith("ProfilerStep#") for name in (e.get("name") for e in events if e.get("ph") == "X"))
        == 3
    )
    assert "aten::" in done.stdout  # the table
    assert "of 8 steps" in done.stderr


def test_a_training_too_short_for_a_trace_says_so(project: Project, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GWAINET_TRACE", str(tmp_path / "trace.json"))
    project.run("pretrain_wnet", epochs=0.25)
    assert not (tmp_path / "trace.json").exists()
    assert "no trace: that takes 7 steps" in capsys.readouterr().err


def test_a_training_that_fails_while_it_is_traced_leaves_no_trace(project: Project, monkeypatch, tmp_path):
    monkeypatch.setenv("GWAINET_TRACE", str(tmp_path / "trace.json"))
    with pytest.raises(KeyboardInterrupt):
        project.run("pretrain_wnet", None, Interrupting(6))
    assert not (tmp_path / "trace.json").exists()


def test_a_dry_run_without_photos_names_what_is_missing_but_drawn_people_need_none(tmp_path):
    alone = Project(tmp_path)
    assert call(alone, "fetch_faces", "--dry-run").exit_code == 0
    refused = call(alone, "fetch_faces", "--dry-run", "--set", "fetch_faces.source=folder")
    assert refused.exit_code == 1
    assert "does not exist" in refused.stderr


def test_what_does_not_train_cannot_be_traced(project: Project):
    refused = call(project, "check_faces", "--trace", str(project.root / "trace.json"))
    assert refused.exit_code == 2
    assert "trains nothing" in refused.output
