import io
import os
import pty
import re
import subprocess
import sys
import time

import pytest
from rich.console import Console

from gwainet import progress as module
from gwainet.progress import progress, say


@pytest.fixture
def log(capsys):
    """What is written to standard error where that is no terminal."""
    assert not module.console.is_terminal
    return lambda: capsys.readouterr().err


@pytest.fixture
def screen(monkeypatch):
    """A terminal of 100 columns whose screen can be read."""
    stream = io.StringIO()
    terminal = Console(
        file=stream, force_terminal=True, width=100, color_system=None, highlight=False, emoji=False, _environ={}
    )
    monkeypatch.setattr(module, "console", terminal)
    return stream


@pytest.fixture
def clock(monkeypatch):
    """A clock that is moved by hand."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


# ---------------------------------------------------------------- a log file


def test_a_log_has_a_line_every_fifteen_seconds_and_one_at_the_end(log, clock):
    with progress("draw", 1000, "photos") as ticker:
        for _ in range(1000):
            clock[0] += 0.0625
            ticker.advance()
    lines = log().splitlines()
    assert len(lines) == 5  # 62.5 s
    assert lines[0] == "draw: 240/1,000 | 16.0 photos/s | 0:00:48 left"
    assert lines[-1] == "draw: 1,000/1,000 | 16.0 photos/s | 0:00:00 left"


def test_a_short_step_says_one_line(log):
    with progress("draw", 3, "photos") as ticker:
        ticker.advance(3)
    written = log()
    assert written.startswith("draw: 3/3 | ")
    assert written.count("\n") == 1


def test_rate_and_time_left_of_a_resumed_step_count_only_what_was_done_now(log, clock):
    with progress("train", 1000, "steps", done=900) as ticker:
        clock[0] += 20
        ticker.advance(20)
    assert log().splitlines()[0] == "train: 920/1,000 | 1.0 steps/s | 0:01:20 left"


def test_a_note_stands_in_the_line(log, clock):
    with progress("train", 10, "steps") as ticker:
        ticker.note("L_content 0.123")
        clock[0] += 16
        ticker.advance()
    assert log().splitlines()[0].endswith("left | L_content 0.123")


@pytest.mark.parametrize("total", [0, 5])
def test_a_step_that_did_nothing_yet_knows_no_time_left(log, clock, total):
    with progress("train", total, "steps"):
        pass
    assert log() == f"train: 0/{total} | 0.0 steps/s | unknown left\n"


def test_more_than_was_announced_is_not_a_negative_time(log, clock):
    with progress("train", 5, "steps") as ticker:
        clock[0] += 1
        ticker.advance(50)
    assert log() == "train: 50/5 | 50.0 steps/s | 0:00:00 left\n"


def test_a_failed_step_does_not_look_finished_and_its_error_passes(log):
    with pytest.raises(ValueError, match="broken"), progress("train", 5, "steps"):
        raise ValueError("broken")
    assert log() == ""


def test_text_is_printed_as_it_is(log, clock):
    odd = "[/bold] [red]x[/red] :smile: a:100:b {y} 12.5"
    say(odd)
    with progress(f"train [x] {odd}", 5, "steps") as ticker:
        ticker.note(f"note [y] {odd}")
        ticker.advance(5)
    said, line = log().splitlines()
    assert said == odd
    assert line.startswith(f"train [x] {odd}: 5/5 | ")
    assert line.endswith(f"| note [y] {odd}")


def test_a_long_line_is_not_broken(log):
    say("x " * 300)
    assert log() == "x " * 300 + "\n"


def test_all_is_said_on_standard_error(capfd):
    say("hello")
    with progress("draw", 1, "photos") as ticker:
        ticker.advance()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("hello\ndraw: 1/1")


# ---------------------------------------------------------------- a terminal


def test_a_terminal_shows_a_bar_with_count_rate_unit_and_note(screen):
    with progress("train [x]", 1000, "steps") as ticker:
        ticker.advance(250)
        ticker.note("loss [y] 0.5")
        ticker.advance(250)
    shown = screen.getvalue()
    for part in ("train [x]", "500/1000", "steps/s", "loss [y] 0.5"):
        assert part in shown
    assert "━" in shown


def test_a_resumed_bar_starts_where_it_was(screen):
    with progress("train", 1000, "steps", done=900):
        pass
    assert "900/1000" in screen.getvalue()


def test_a_word_said_while_the_bar_runs_stands_in_a_line_of_its_own(screen):
    with progress("train", 10, "steps") as ticker:
        say("a new best")
        ticker.advance()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.getvalue()).replace("\r", "\n").splitlines()
    assert "a new best" in lines


def test_a_failed_step_gives_the_terminal_back(screen):
    with pytest.raises(ValueError, match="broken"), progress("train", 5, "steps"):
        raise ValueError("broken")
    assert "\x1b[?25l" in screen.getvalue()  # the cursor was hidden
    assert screen.getvalue().rindex("\x1b[?25h") > screen.getvalue().rindex("\x1b[?25l")
    with progress("next", 5, "steps") as ticker:  # no bar is left running
        ticker.advance(5)
    assert "5/5" in screen.getvalue()


def test_a_step_inside_a_step_works_on_a_terminal(screen):
    with progress("train", 5, "steps") as outer:
        with progress("validate", 2, "faces") as inner:
            inner.advance(2)
        outer.advance(5)
    assert "validate" in screen.getvalue()
    assert "5/5" in screen.getvalue()


PROGRAM = """
from gwainet.progress import progress
with progress("draw", 4, "photos") as ticker:
    ticker.advance(4)
"""


def test_the_kind_of_standard_error_decides_between_bar_and_line():
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment["TERM"] = "xterm"
    piped = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env=environment, check=True)
    assert b"\x1b" not in piped.stderr
    assert piped.stderr.count(b"\n") == 1
    main, side = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.DEVNULL, stderr=side, env=environment, check=True)
    os.close(side)
    shown = os.read(main, 65536)
    os.close(main)
    assert b"\x1b" in shown
    assert b"4/4" in shown
