"""Work spread over processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from gwainet.errors import DataError
from gwainet.workers import cores, ordered_map


def test_cores_are_those_that_the_process_may_use():
    assert cores() == len(os.sched_getaffinity(0)) <= (os.cpu_count() or 1)


def test_results_come_in_the_order_of_the_tasks():
    assert list(ordered_map(abs, range(-40, 0), 2)) == list(range(40, 0, -1))


def test_whoever_stops_early_leaves_the_rest_undone(tmp_path: Path):
    places = (tmp_path / f"{number:03d}" for number in range(300))
    results = ordered_map(Path.touch, places, 1)
    next(results)
    results.close()
    assert 1 <= len(list(tmp_path.iterdir())) <= 5
    assert next(places).name == "005"  # tasks are taken as they are needed


def test_control_c_is_the_parents_to_answer():
    assert list(ordered_map(signal.getsignal, [signal.SIGINT], 1)) == [signal.SIG_IGN]


def test_a_process_that_dies_is_told_with_a_way_out():
    with pytest.raises(DataError, match=r"died.*runtime\.workers"):
        list(ordered_map(os._exit, [1], 1))


PARENT = """
import time
from gwainet.workers import ordered_map
for value in ordered_map(abs, [0, 1], 2):
    print(value, flush=True)
    time.sleep(60)
"""


def test_workers_end_when_their_parent_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "0\n"
        children = psutil.Process(parent.pid).children()
        workers = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(workers) == 2
        parent.kill()
    assert psutil.wait_procs(workers, timeout=20)[1] == []
