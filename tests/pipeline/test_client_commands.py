import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from mlflow import MlflowClient
from typer.testing import CliRunner

from gwainet import __version__
from gwainet.params import check_params
from pipeline.client_commands import register
from tests.pipeline.conftest import PARAMS
from tests.pipeline.server import Kubeflow
from tests.pipeline.toy import compile_toy
from tests.serving import Failure, serve
from tests.tracking.server import serve_mlflow

PROJECT = Path(__file__).parents[2]
QUICK = ("--every", "0.01")


@pytest.fixture
def call(kubeflow, monkeypatch):
    """Run a command in this process, with the server's address set."""
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", kubeflow.address)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")
    app = typer.Typer()
    register(app)
    handler = signal.getsignal(signal.SIGTERM)
    yield lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])
    signal.signal(signal.SIGTERM, handler)


def plain(text):
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


# ---------------------------------------------------------------- submit


def test_submit_prints_the_runs_address_and_nothing_else_on_standard_output(call, kubeflow, package):
    result = call("submit", "--package", package)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{kubeflow.address}/#/runs/details/run-0\n"
    assert re.fullmatch(r"version \S+: uploaded\nMLflow: .* the first stage will make .*\n", result.stderr)
    assert kubeflow.pipelines[0]["display_name"] == kubeflow.experiments[0]["display_name"] == "gwainet"


def test_submit_makes_the_mlflow_run_that_the_stages_will_find(call, kubeflow, package, tmp_path, monkeypatch):
    monkeypatch.delenv("GWAINET_MLFLOW_PAGES", raising=False)
    with serve_mlflow(tmp_path) as gate:
        result = call("submit", "--package", package, "--run-name", "third try")
        (run,) = MlflowClient(gate.address).search_runs(["1"])
    assert result.exit_code == 0, result.stderr
    assert (
        f"MLflow: {gate.address}/#/experiments/1/runs/{run.info.run_id}?workflowType=machine_learning\n"
        in result.stderr
    )
    assert result.stdout == f"{kubeflow.address}/#/runs/details/run-0\n"
    assert (run.info.run_name, run.info.status) == ("third try", "SCHEDULED")
    tags, params = run.data.tags, run.data.params
    assert tags["gwainet.pipeline_key"] == "kfp/run-0"
    assert tags["gwainet.kubeflow_run"] == result.stdout.strip()
    assert tags["gwainet.pipeline_version"] == kubeflow.versions[0]["name"]
    assert tags["gwainet.profile"] == params["profile"] == "demo"
    assert tags["gwainet.params_digest"] == check_params(PARAMS).digest()
    assert params["train_psnr.learning_rate"] == "0.0005"


def test_a_tracking_server_that_is_down_hinders_no_run(call, kubeflow, package, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    result = call("submit", "--package", package)
    assert result.exit_code == 0
    assert len(kubeflow.runs) == 1
    assert "nothing answers there" in plain(result.stderr)
    assert "the first stage will make" in plain(result.stderr)


def test_a_versions_name_is_a_kubernetes_name_that_follows_from_code_and_content(call, kubeflow, package, tmp_path):
    call("submit", "--package", package)
    result = call("submit", "--package", package)
    assert "already on the cluster" in result.stderr
    call("submit", "--package", compile_toy(tmp_path / "other.yaml", PARAMS, gpus=2))
    first, second = (version["name"] for version in kubeflow.versions)
    assert len(kubeflow.runs) == 3
    assert first.rpartition("-")[0] == second.rpartition("-")[0]
    assert first.startswith(f"{__version__}-")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", first)


def test_the_names_of_experiment_and_run_can_be_given(call, kubeflow, package, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME", "default")
    call("submit", "--package", package)
    call("submit", "--package", package, "--experiment", "trials", "--run-name", "third try")
    monkeypatch.setenv("KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME", "forced")
    result = call("submit", "--package", package, "--experiment", "trials")
    assert "experiment `forced` and not `trials`: KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME is set" in result.stderr
    assert [experiment["display_name"] for experiment in kubeflow.experiments] == ["default", "trials", "forced"]
    assert kubeflow.runs[1]["display_name"] == "third try"


def test_waiting_follows_the_run_to_its_success(call, kubeflow, package):
    kubeflow.play = [
        ("PENDING", {}),
        ("RUNNING", {"fetch-faces": "RUNNING"}),
        ("SUCCEEDED", {"fetch-faces": "SUCCEEDED", "train-psnr": "SUCCEEDED"}),
    ]
    result = call("submit", "--package", package, "--wait", *QUICK)
    assert result.exit_code == 0, result.stderr
    for line in ("fetch-faces: RUNNING", "train_psnr@guided: SUCCEEDED", "succeeded"):
        assert line in result.stderr


@pytest.mark.parametrize("state", ["FAILED", "CANCELED"])
def test_waiting_for_a_run_that_does_not_succeed_exits_with_1(call, kubeflow, package, state):
    kubeflow.play = [("RUNNING", {}), (state, {"fetch-faces": "SUCCEEDED", "train-psnr": state})]
    result = call("submit", "--package", package, "--wait", *QUICK)
    assert result.exit_code == 1
    assert f"ended as {state}" in result.stderr
    assert "kubectl -n kubeflow get pods -l pipeline/runid=run-0" in result.stderr
    assert "Traceback" not in result.output


def test_waiting_outlives_a_server_that_fails_for_a_while(call, kubeflow, package):
    kubeflow.failures = [Failure("GET", "runs/", 503, times=3), Failure("GET", "runs/", "hang up", times=2)]
    result = call("submit", "--package", package, "--wait", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.count("The run goes on; asking again") == 1


def test_a_login_that_ends_while_waiting_says_how_to_follow_again(call, kubeflow, package):
    kubeflow.failures = [Failure("GET", "runs/", 401)]
    result = call("submit", "--package", package, "--wait", *QUICK)
    assert result.exit_code == 1
    assert "LoginError: " in result.stderr
    assert "Follow it again: python -m pipeline status run-0 --wait" in result.stderr


def test_a_package_takes_no_params(call, kubeflow, package):
    for option in (("--profile", "demo"), ("--set", "train_psnr.learning_rate=1e-3")):
        for command in (("submit",), ("diff",), ("schedule", "--cron", "0 0 3 * * *")):
            result = call(*command, "--package", package, *option)
            assert result.exit_code == 2
            assert "--package is compiled already" in plain(result.stderr)
    assert kubeflow.requests == []


def test_a_file_that_is_no_package_is_not_sent(call, kubeflow, tmp_path):
    result = call("submit", "--package", tmp_path / "absent.yaml")
    assert (result.exit_code, result.stderr.count("ClusterError")) == (1, 1)
    assert kubeflow.requests == []


INTERRUPTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores Ctrl-C from the start
import typer
from pipeline.client_commands import register
app = typer.Typer()
register(app)
app()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_the_run_going_and_says_how_to_follow_it_again(kubeflow, package, number):
    kubeflow.play = [("RUNNING", {"fetch-faces": "RUNNING"})]
    arguments = ["submit", "--package", str(package), "--endpoint", kubeflow.address, "--wait", *QUICK]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=PROJECT,
    )
    try:
        until = time.monotonic() + 120
        while kubeflow.looks < 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)
        _, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, error
    assert "the run goes on. Follow it again: python -m pipeline status run-0 --wait" in error
    assert "Traceback" not in error
    assert "terminate" not in "".join(request.path for request in kubeflow.requests)


# ---------------------------------------------------------------- status


def test_status_shows_the_stages_of_the_newest_run_or_of_one(call, kubeflow, package):
    kubeflow.play = [("FAILED", {"fetch-faces": "SUCCEEDED", "train-psnr-driver": "FAILED"})]
    call("submit", "--package", package, "--run-name", "first")
    call("submit", "--package", package, "--run-name", "second")
    result = call("status")
    assert result.exit_code == 0, result.stderr
    assert "second: FAILED" in result.stdout
    assert re.search(r"train_psnr@guided +FAILED", result.stdout)
    assert f"{kubeflow.address}/#/runs/details/run-1" in result.stdout
    assert "first: FAILED" in call("status", "run-0").stdout


def test_status_of_a_scheduled_run_reads_its_stages_from_its_version(call, kubeflow, package):
    """The server sends no spec with a run that was made of a version."""
    call("submit", "--package", package)
    kubeflow.runs[0].pop("pipeline_spec", None)
    assert "train_psnr@guided" in call("status", "latest").stdout


def test_status_waits_and_exits_with_1_if_the_run_fails(call, kubeflow, package):
    call("submit", "--package", package)
    kubeflow.play = [("RUNNING", {}), ("FAILED", {"train-psnr": "FAILED"})]
    result = call("status", "run-0", "--wait", *QUICK)
    assert result.exit_code == 1
    assert "train_psnr@guided failed" in result.stderr


def test_status_of_a_run_that_is_not_there_is_told(call):
    result = call("status", "run-9")
    assert result.exit_code == 1
    assert "could not read the run `run-9`" in result.stderr


# ---------------------------------------------------------------- schedule


def test_a_schedule_is_made_listed_and_deleted(call, kubeflow, package):
    result = call("schedule", "--cron", "0 0 3 * * *", "--package", package, "--name", "nightly")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "recurring_run-0\n"
    assert call("schedule", "--list").stdout == "nightly\t0 0 3 * * *\tenabled\trecurring_run-0\n"
    assert (
        "schedule --delete nightly"
        in call("schedule", "--cron", "0 0 3 * * *", "--package", package, "--name", "nightly").stderr
    )
    assert call("schedule", "--delete", "nightly").exit_code == 0
    assert kubeflow.recurring == []


def test_a_wrong_cron_expression_is_told_before_anything_is_sent(call, kubeflow, package):
    result = call("schedule", "--cron", "0 3 * * *", "--package", package)
    assert result.exit_code == 1
    assert "put the second first, as in `0 0 3 * * *`" in result.stderr
    assert kubeflow.requests == []


@pytest.mark.parametrize("arguments", [[], ["--list", "--delete", "x"], ["--cron", "0 0 3 * * *", "--list"]])
def test_a_schedule_is_one_of_three_things(call, arguments):
    result = call("schedule", *arguments)
    assert result.exit_code == 2
    assert "give one of --cron, --list and --delete" in plain(result.stderr)


# ---------------------------------------------------------------- diff


def test_diff_is_empty_with_0_after_a_submit_and_1_after_a_change(call, package, tmp_path):
    call("submit", "--package", package)
    same = call("diff", "--package", package)
    assert (same.exit_code, same.stdout) == (0, "")
    params = {**PARAMS, "train_psnr": {"learning_rate": 2e-4, "epochs": 5.0}}
    other = call("diff", "--package", compile_toy(tmp_path / "other.yaml", params, image="registry/gwainet-python:2"))
    assert other.exit_code == 1
    head, ours, *lines = other.stdout.splitlines()
    assert head.startswith(f"--- on the cluster: {__version__}-")
    assert ours.startswith(f"+++ here: {__version__}-")
    assert lines == [
        '-fetch-faces.container.image: "registry/gwainet-python:0.1.0"',
        '+fetch-faces.container.image: "registry/gwainet-python:2"',
        "-params.train_psnr.learning_rate: 0.0005",
        "+params.train_psnr.learning_rate: 0.0002",
    ]


def test_diff_compares_with_the_newest_version(call, package, tmp_path):
    call("submit", "--package", compile_toy(tmp_path / "older.yaml", PARAMS, gpus=8))
    call("submit", "--package", package)
    assert call("diff", "--package", package).exit_code == 0


def test_an_error_of_diff_is_2_and_so_no_difference(call, package):
    result = call("diff", "--package", package)
    assert result.exit_code == 2
    assert "no version of the pipeline `gwainet` on the cluster yet" in result.stderr


# ---------------------------------------------------------------- login


COMMANDS = [["submit"], ["status"], ["schedule", "--list"], ["diff"]]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_without_an_endpoint_says_what_to_set(call, monkeypatch, command):
    monkeypatch.delenv("KF_PIPELINES_ENDPOINT")
    result = call(*command)
    assert result.exit_code == (2 if command == ["diff"] else 1)
    assert result.stderr.startswith("LoginError: no endpoint of Kubeflow Pipelines is set. Give --endpoint URL")
    assert "localhost" not in "".join(result.stdout)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_command_takes_the_login_from_its_flags(call, package, command, tmp_path):
    token = tmp_path / "token"
    token.write_text("right")
    with serve(Kubeflow(token="right", multi_user=True)) as other:
        flags = ["--endpoint", other.address, "--namespace", "team-a", "--token-file", token]
        call("submit", "--package", package, *flags)
        arguments = ["--package", package] if command[0] in ("submit", "diff") else []
        result = call(*command, *arguments, *flags)
        assert result.exit_code == 0, result.stderr
        refused = call(*command, *arguments, "--endpoint", other.address)
        assert "refused the login (401: Unauthenticated). Sent was no token and no cookie" in refused.stderr


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("command", ["submit", "status", "schedule", "diff"])
def test_the_help_names_every_way_to_log_in(call, command):
    text = plain(call(command, "--help").output)
    for name in ("--endpoint", "KF_PIPELINES_ENDPOINT", "--namespace", "--token-file", "KF_PIPELINES_SA_TOKEN_PATH"):
        assert name in text


def test_help_imports_neither_kfp_nor_anything_else_that_is_heavy():
    code = (
        "import sys, typer; from pipeline.client_commands import register; app = typer.Typer(); register(app)\n"
        "for arguments in (['--help'], ['submit', '--help'], ['status', '--help']):\n"
        "    try: app(arguments)\n"
        "    except SystemExit: pass\n"
        "print([n for n in ('kfp', 'kfp_server_api', 'kubernetes', 'yaml', 'torch', 'mlflow') if n in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
