"""The ablations: one param changed at a time, trained once, measured on validation people."""

import json
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from benchmarks import ablations
from gwainet.params import load_params
from tests.training_params import NETWORKS, TRAINING, make_project

PROJECT = Path(__file__).parents[2]


def test_every_row_changes_what_it_says_on_real_faces():
    lfw = load_params(PROJECT / "params.yaml", "lfw").flat()
    for values in [*ablations.PSNR.values(), *ablations.ADVERSARIAL.values()]:
        made = load_params(PROJECT / "params.yaml", "lfw", values).flat()
        assert {name for name in made if made[name] != lfw[name]} == {value.partition("=")[0] for value in values}


def test_a_second_run_trains_nothing_and_prints_the_same_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path / "project")
    base = {"networks": NETWORKS, **TRAINING, "runtime": {"device": "cpu", "threads": 1}}
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump({"profile": "tiny", "base": base, "profiles": {"tiny": {}}}, file)
    monkeypatch.chdir(tmp_path)
    chosen = {ablations.BASE: [], "dropped": ["train_psnr.guide_dropout=0.5"]}
    monkeypatch.setattr(ablations, "PSNR", chosen)
    monkeypatch.setattr(ablations, "ADVERSARIAL", {ablations.BASE: []})
    paths = project.paths("pretrain_inet")
    command = ["--faces", str(paths["faces"]), "--passed", str(paths["passed"]), "--out", "out", "--profile", "tiny"]
    monkeypatch.setattr(sys, "argv", ["ablations", *command])
    ablations.main()
    made = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()}
    first = capsys.readouterr().out
    ablations.main()
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*") if path.is_file()} == made
    assert capsys.readouterr().out.splitlines()[:8] == first.splitlines()[:8]
    kinds = [set(json.loads(path.read_text())) for path in Path("out").glob("train_psnr-*.json")]
    assert sorted(kinds, key=len) == [{"own", "other"}, {"own", "other", "none"}]
    assert "dropped" in first
    assert "6 validation images of 2 people" in first
    # another start is another training
    monkeypatch.setattr(sys, "argv", ["ablations", *command, "--epochs", "0.5"])
    ablations.main()
    assert len(list(Path("out").glob("train_adversarial-*.json"))) == 2
