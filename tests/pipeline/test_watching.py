import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from gwainet.errors import LoginError, PipelineError, UnavailableError
from pipeline.client import Run, Task
from pipeline.watching import check_success, follow, table

STAGES = {"fetch-faces": "fetch_faces", "train-psnr": "train_psnr"}
START = datetime(2026, 1, 1, 10, 0, tzinfo=UTC)


def run(state, **stages):
    ended = START + timedelta(seconds=90)
    tasks = tuple(
        Task(name, of_stage, START, None if of_stage == "RUNNING" else ended, "") for name, of_stage in stages.items()
    )
    return Run("r-1", "demo", state, START, "", tasks, "p", "v", None)


def watch(answers, terminal=False, **options):
    """What was shown, and the run at the end."""
    shown = io.StringIO()
    console = Console(file=shown, force_terminal=terminal, width=100, highlight=False)
    left = iter(answers)

    def read():
        answer = next(left)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return follow(read, STAGES, poll=0.001, shown_on=console, **options), shown.getvalue()


@pytest.mark.parametrize("state", ["SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"])
def test_it_ends_with_the_run_whatever_its_end(state):
    last, _ = watch([run("PENDING"), run("RUNNING"), run("CANCELING"), run(state)])
    assert last.state == state


def test_a_log_has_one_line_for_each_change(capsys):
    answers = [
        run(""),
        run("RUNNING", fetch_faces="RUNNING"),
        run("RUNNING", fetch_faces="RUNNING"),
        run("RUNNING", fetch_faces="SUCCEEDED", train_psnr="RUNNING"),
        run("SUCCEEDED", fetch_faces="SUCCEEDED", train_psnr="SUCCEEDED"),
    ]
    _, shown = watch(answers)
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines()] == [
        "run r-1: PENDING",
        "fetch_faces: RUNNING",
        "run r-1: RUNNING",
        "fetch_faces: SUCCEEDED",
        "train_psnr: RUNNING",
        "train_psnr: SUCCEEDED",
        "run r-1: SUCCEEDED",
    ]


def test_a_terminal_shows_a_table_of_all_stages_which_is_left_with_the_last_states():
    _, shown = watch([run("RUNNING", fetch_faces="RUNNING"), run("FAILED", fetch_faces="FAILED")], terminal=True)
    last = shown.rpartition("demo: FAILED")[2]
    assert "fetch_faces" in last
    assert "FAILED" in last
    assert "NOT RUN" in last


def test_the_table_says_how_long_each_stage_took():
    shown = io.StringIO()
    Console(file=shown, width=100).print(table(run("FAILED", fetch_faces="SUCCEEDED"), STAGES))
    rows = [line.split() for line in shown.getvalue().splitlines()]
    assert rows[0] == ["demo:", "FAILED"]
    assert [rows[2][0], rows[2][1], rows[2][-1]] == ["fetch_faces", "SUCCEEDED", "0:01:30"]
    assert rows[3] == ["train_psnr", "NOT", "RUN"]


def test_a_server_that_is_away_for_a_while_is_survived_and_told_once(capsys):
    lost = [UnavailableError("the server does not answer")] * 3
    last, _ = watch([run("RUNNING"), *lost, run("SUCCEEDED")])
    assert last.state == "SUCCEEDED"
    told = capsys.readouterr().err
    assert told.count("the server does not answer") == 1
    assert "the server answers again" in told


def test_a_server_that_stays_away_ends_the_following():
    with pytest.raises(UnavailableError):
        watch([run("RUNNING"), *[UnavailableError("gone")] * 1000], patience=0.01)


def test_the_patience_begins_afresh_with_each_outage():
    # each outage is shorter than the patience, all of them together are longer
    outage = [UnavailableError("gone")] * 2
    last, _ = watch(
        [*(answer for _ in range(100) for answer in (*outage, run("RUNNING"))), run("SUCCEEDED")], patience=0.1
    )
    assert last.state == "SUCCEEDED"


def test_a_refusal_is_not_an_outage():
    with pytest.raises(LoginError):
        watch([run("RUNNING"), LoginError("401")])


def test_success_is_silent_and_anything_else_names_the_stage_and_its_logs():
    check_success(run("SUCCEEDED"), STAGES, "http://page", "team-a")
    with pytest.raises(PipelineError) as caught:
        check_success(run("FAILED", fetch_faces="SUCCEEDED", train_psnr="FAILED"), STAGES, "http://page", "team-a")
    message = str(caught.value)
    assert "ended as FAILED" in message
    assert "train_psnr failed" in message
    assert "fetch_faces" not in message
    assert "http://page" in message
    assert "kubectl -n team-a get pods -l pipeline/runid=r-1" in message
    with pytest.raises(PipelineError, match="ended as CANCELED"):
        check_success(run("CANCELED"), STAGES, "", "")
