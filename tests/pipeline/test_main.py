import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from pipeline.__main__ import app
from tests.test_main import HEAVY, LOADED, plain

PROJECT = Path(__file__).parents[2]


def test_the_commands_are_listed_with_what_they_do():
    text = plain(CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).output)
    assert "compile Write the pipeline of a profile" in text
    assert "run-local Run the pipeline on this machine" in text


def test_help_and_mistakes_in_settings_import_nothing_heavy(tmp_path):
    (tmp_path / "cluster.yaml").write_text("imag: x")
    wrong = ["compile", "--out", "p.yaml", "--cluster", str(tmp_path / "cluster.yaml")]
    runs = [["--help"], ["compile", "--help"], ["run-local", "--help"], wrong]
    code = LOADED.format(runs=runs, heavy=HEAVY).replace('"gwainet"', '"pipeline"')
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.splitlines()[-1] == "CODES [0, 0, 0, 1] LOADED []"
    assert "unknown param `imag`" in done.stderr


def test_compile_writes_the_file_and_says_of_what(tmp_path, monkeypatch):
    out = tmp_path / "pipeline.yaml"
    arguments = ["compile", "--profile", "lfw", "--set", "train_psnr.epochs=1.0", "--out", str(out)]
    monkeypatch.chdir(PROJECT)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert re.search(r"wrote \S+pipeline\.yaml: profile lfw, params [0-9a-f]{12}, image registry", plain(result.output))
    assert '"epochs": 1.0' in out.read_text()


@pytest.mark.system
def test_a_stage_that_fails_ends_the_run_with_its_message_and_the_stages_name(tmp_path):
    document = {"profile": "mine", "base": {}, "profiles": {"mine": {"fetch_faces": {"source": "folder"}}}}
    YAML(typ="safe").dump(document, tmp_path / "params.yaml")
    command = [sys.executable, "-m", "pipeline", "run-local", "--params", tmp_path / "params.yaml", "--root", tmp_path]
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GWAINET_"))}
    done = subprocess.run(
        command, cwd=PROJECT, env={**kept, "COLUMNS": "200"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "SourceError" in done.stdout
    assert "PipelineError" in done.stderr
    assert "fetch-faces" in done.stderr
    assert "Traceback" not in done.stderr
    (made,) = (tmp_path / ".gwainet" / "kubeflow").glob("*/fetch-faces")
    assert not (made / "out").exists()
