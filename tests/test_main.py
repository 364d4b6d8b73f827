import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from gwainet.__main__ import SUMMARIES, app
from gwainet.params import Params, check_params, load_params
from gwainet.stages import STAGES

PROJECT = Path(__file__).parents[1]
HEAVY = ("torch", "mlflow", "great_expectations", "pandas", "kfp", "dvc", "sklearn", "scipy", "skimage")


@pytest.fixture
def call(monkeypatch):
    """Run the command line in this process, as wide as no line of help is."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def params_file(tmp_path) -> Path:
    path = Path(tmp_path) / "params.yaml"
    path.write_text("profile: demo\nbase: {networks: {width: 8}}\nprofiles: {demo: {}, lfw: {networks: {width: 9}}}\n")
    return path


def plain(text: str) -> str:
    """Without colours, frames and line breaks."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


# ---------------------------------------------------------------- commands and help


@pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))
def test_every_stage_has_a_command_with_help_of_its_own(call, stage):
    result = call(stage.name, "--help")
    assert result.exit_code == 0
    text = plain(result.output)
    assert SUMMARIES[stage.name] in text
    for option in ("--params", "--profile", "--set", "--root"):
        assert option in text
    assert ("--variant" in text) == bool(stage.variants)
    for variant in stage.variants:
        assert variant in text


def test_the_help_lists_every_stage_in_the_pipelines_order(call):
    text = plain(call("--help").output)
    places = [text.index(f" {name} {SUMMARIES[name]}") for name in STAGES]
    assert places == sorted(places)
    assert call().exit_code != 0  # no command: help, but not as if a stage had run
    assert "fetch_faces" in call().output


LOADED = """
import runpy, sys
codes = []
for arguments in {runs}:
    sys.argv = ["gwainet", *arguments]
    try:
        runpy.run_module("gwainet", run_name="__main__")
    except SystemExit as end:
        codes.append(end.code)
print("CODES", codes, "LOADED", [name for name in {heavy} if name in sys.modules])
"""


def test_help_params_and_their_errors_import_nothing_heavy(tmp_path):
    runs = [["--help"], ["train_psnr", "--help"], ["plan", "--help"], ["params"]]
    runs += [["benchmark", "--params", str(tmp_path / "absent.yaml")]]
    code = LOADED.format(runs=runs, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.splitlines()[-1] == "CODES [0, 0, 0, 0, 1] LOADED []"


# ---------------------------------------------------------------- mistakes of a user


@pytest.mark.parametrize("stage", [stage for stage in STAGES.values() if stage.variants], ids=lambda stage: stage.name)
def test_an_unknown_or_missing_variant_is_refused_with_the_known_ones(call, stage, params_file):
    unknown = call(stage.name, "--variant", "gwinet", "--params", params_file)
    assert unknown.exit_code == 2
    for variant in (*stage.variants, "gwinet"):
        assert variant in plain(unknown.output)
    missing = call(stage.name, "--params", params_file)
    assert missing.exit_code == 2
    assert "--variant" in plain(missing.output)


def test_a_stage_without_variants_takes_none(call):
    result = call("benchmark", "--variant", "gwainet")
    assert result.exit_code == 2
    assert "--variant" in plain(result.output)


def test_an_unknown_stage_is_refused(call):
    result = call("train_psn")
    assert result.exit_code == 2
    assert "train_psn" in plain(result.output)


@pytest.mark.parametrize("command", [*STAGES, "params"])
def test_a_params_error_prints_one_message_with_exit_code_1_and_no_traceback(call, command, params_file, tmp_path):
    variants = STAGES[command].variants if command in STAGES else ()
    arguments = ["--params", params_file, "--set", "networks.widht=[red]"]
    if variants:
        arguments += ["--variant", variants[0]]
    if command != "params":
        arguments += ["--root", tmp_path]
    result = call(command, *arguments)
    assert result.exit_code == 1
    assert result.stderr.count("ParamsError") == 1
    assert "unknown param `networks.widht`; known here: " in result.stderr
    assert "Traceback" not in result.output
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [params_file]  # nothing was begun


def test_an_error_of_the_program_keeps_its_traceback(call, params_file, monkeypatch):
    def broken(*_arguments):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("gwainet.__main__.load_params", broken)
    assert isinstance(call("benchmark", "--params", params_file).exception, ZeroDivisionError)


# ---------------------------------------------------------------- ended from outside

# a stage with the command line's own handling, without the tracking server
STAGE = """
import signal, sys
# a shell's background job ignores Ctrl-C from the start
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
import typer
from gwainet.__main__ import user_errors
from gwainet.params import check_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
def command():
    with user_errors():
        params = check_params({"profile": "x", "fetch_faces": {"drawn": {"people": 20000}}, "runtime": {"workers": 1}})
        STAGES["fetch_faces"].function()(
            params, source=Path(sys.argv[1]), out=Path(sys.argv[1]) / "raw", recorder=NullRecorder()
        )
sys.argv, root = sys.argv[:1], sys.argv[1]
sys.argv.append(root)
app = typer.Typer()
app.command()(command)
app(args=[])
"""


def test_the_callers_handling_of_sigterm_comes_back(call, params_file):
    before = signal.getsignal(signal.SIGTERM)
    assert call("params", "--params", params_file).exit_code == 0
    assert call("params", "--params", params_file / "missing").exit_code == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stage_that_is_ended_leaves_nothing_behind_and_exits_with_130(tmp_path, number):
    process = subprocess.Popen([sys.executable, "-c", STAGE, str(tmp_path)], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while not (tmp_path / ".raw.partial").exists() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()
        assert (tmp_path / ".raw.partial").exists()
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- params


def test_params_prints_the_merged_params_as_yaml_on_standard_output(call, params_file):
    for arguments, expected in (
        ([], {"profile": "demo", "networks": {"width": 8}}),
        (["--profile", "lfw"], {"profile": "lfw", "networks": {"width": 9}}),
        (["--profile", "lfw", "--set", "networks.width=7"], {"profile": "lfw", "networks": {"width": 7}}),
    ):
        result = call("params", "--params", params_file, *arguments)
        assert result.exit_code == 0
        assert result.stderr == ""
        assert check_params(YAML(typ="safe").load(result.stdout)) == check_params(expected)


@pytest.mark.parametrize("profile", ["demo", "lfw", "celeba", "pairs"])
def test_params_of_the_project_survive_being_printed(call, profile):
    path = PROJECT / "params.yaml"
    result = call("params", "--params", path, "--profile", profile)
    assert check_params(YAML(typ="safe").load(result.stdout)) == load_params(path, profile)
    assert list(YAML(typ="safe").load(result.stdout)) == list(Params.model_fields)


def test_params_diff_prints_exactly_what_differs_from_the_defaults(call, params_file):
    values = [
        "check_faces.images={train: 5}",
        "train_psnr.seed=0",
        "benchmark.splits=[test]",
        "train_psnr.epsilon=1e-9",
    ]
    result = call("params", "--params", params_file, "--diff", *(part for value in values for part in ("--set", value)))
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "check_faces.images.train: 5  # default: null",
        "networks.width: 8  # default: 64",
        "train_psnr.epsilon: 1e-09  # default: 1e-08",
        'benchmark.splits: ["test"]  # default: ["validation", "test"]',
    ]


def test_params_diff_rebuilds_the_params_by_set(call):
    path = PROJECT / "params.yaml"
    for profile in ("demo", "pairs"):
        text = call("params", "--params", path, "--profile", profile, "--diff").stdout
        changes = YAML(typ="safe").load(text)
        rebuilt: dict[str, object] = {"profile": profile}
        for name, value in changes.items():
            section, _, rest = name.partition(".")
            place = rebuilt.setdefault(section, {})
            assert isinstance(place, dict)
            *way, last = rest.split(".")
            for step in way:
                place = place.setdefault(step, {})
            place[last] = json.loads(json.dumps(value))
        assert check_params(rebuilt) == load_params(path, profile)


# ---------------------------------------------------------------- plan

SMALL = [part for value in ("networks.inet_width=1", "networks.inet_features=8") for part in ("--set", value)]


def test_plan_prints_tables_or_json_and_writes_nothing(call, params_file, tmp_path):
    arguments = ["plan", "--params", params_file, "--root", tmp_path, "--images", "1000", "--no-time", *SMALL]
    tables, machine = call(*arguments), call(*arguments, "--json")
    assert (tables.exit_code, machine.exit_code) == (0, 0)
    read = json.loads(machine.stdout)
    assert (read["profile"], read["sizes"]["train"], read["seconds"]) == ("demo", 1000, None)
    for training in read["trainings"]:
        assert f"{training['steps']:,}" in tables.stdout
    assert list(tmp_path.iterdir()) == [params_file]


def test_plan_asks_for_a_size_that_it_cannot_know(call, params_file, tmp_path):
    result = call("plan", "--params", params_file, "--root", tmp_path, "--set", "fetch_faces.source=folder")
    assert result.exit_code == 1
    assert "give --images N" in plain(result.stderr)
    assert result.stdout == ""


# ---------------------------------------------------------------- where to look


def test_where_names_what_was_made_and_what_was_not(call, params_file, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    grid = tmp_path / "reports" / "demo" / "benchmark" / "grid.png"
    grid.parent.mkdir(parents=True)
    grid.touch()
    text = call("where", "--params", params_file, "--root", tmp_path).output
    assert f"pictures: {grid}\n" in text
    assert f"benchmark: not made yet ({grid.with_name('benchmark.html')})\n" in text
    assert "make ui" in text


def test_ui_without_runs_says_how_to_make_them(call, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    result = call("ui", "--root", tmp_path)
    assert result.exit_code == 1
    assert "there are no runs yet: `make repro` makes them" in plain(result.stderr)


def test_ui_for_runs_on_a_server_names_its_page(call, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    result = call("ui", "--root", tmp_path)
    assert result.exit_code == 1
    assert "https://mlflow.example.org" in plain(result.stderr)
