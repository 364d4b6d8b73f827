"""The benchmark of scale runs the stages' own code; here on few photos, in a process of its own, as it changes them."""

import json
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def test_lists_manifest_and_contract_of_made_up_photos_are_measured(tmp_path: Path):
    for phase in ("prepare", "check"):
        command = [sys.executable, "-m", "benchmarks.scale", "--phase", phase, "--folder", str(tmp_path), "2000"]
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        assert json.loads(done.stdout.splitlines()[-1])
