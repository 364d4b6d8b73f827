"""prepare_faces in four parts, by kfp's own local runner: processes, artifacts and retries as on a cluster."""

import json
import threading
import time
from pathlib import Path

import psutil
import pytest
from kfp import dsl, local
from mlflow import MlflowClient

from components.adapter import RUNTIME
from components.fetch_faces import fetch_faces
from components.prepare_faces import prepare_faces
from gwainet.params import check_params
from pipeline.cluster import ClusterSettings
from pipeline.graph import in_parts, params_of
from tests.photos import CROP, people, write_zip

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

PARAMS = check_params(
    {
        "profile": "small",
        "fetch_faces": {"source": "folder", "images": "set.zip"},
        "prepare_faces": {"crop": CROP},
        "runtime": {"workers": 1},
    }
)
CLUSTER = ClusterSettings.model_validate(
    {
        "image": "gwainet-python:test",
        "stages": {"prepare_faces": {"parts": 4, "retries": {"count": 1, "backoff_seconds": 0}}},
    }
)


@dsl.pipeline(name="parts")
def graph(root: str) -> None:
    fetched = fetch_faces(params=params_of("fetch_faces", PARAMS), root=root, source_version="1")
    raw = fetched.outputs["out"]
    prepare_faces(params=params_of("prepare_faces", PARAMS), root=root, raw=raw)
    in_parts(PARAMS, CLUSTER, root, fetched)


class Killer(threading.Thread):
    """Kills the first process that prepares part 2, as when its node goes away; counts all that prepare any part."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: dict[int, int] = {}
        self.killed: int | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.02):
            for process in psutil.Process().children(recursive=True):
                try:
                    command = process.cmdline()
                except psutil.Error:
                    continue
                if command[1:3] != ["-m", "kfp.dsl.executor_main"] or "prepare_faces_part" not in command:
                    continue
                executor_input = json.loads(command[command.index("--executor_input") + 1])
                part = executor_input["inputs"]["parameterValues"]["part"]
                self.seen[process.pid] = part
                if part == 2 and self.killed is None:
                    self.killed = process.pid
                    process.kill()


@pytest.mark.filterwarnings("ignore")  # what only a cluster can do, on every task
def test_four_parts_of_which_one_is_killed_give_the_files_of_one_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    photos = people(12, photos=4)
    photos |= {f"set/person02/{number}.png": b"no photo" for number in (0, 1, 2)}
    write_zip(root / "data" / "source" / "small" / "set.zip", photos)
    monkeypatch.setenv("GWAINET_PIPELINE_KEY", "a test")
    monkeypatch.setenv(RUNTIME, PARAMS.runtime.model_dump_json())
    for name in ("MLFLOW_TRACKING_URI", "KFP_RUN_ID", "GWAINET_PARAMS_DIGEST"):
        monkeypatch.delenv(name, raising=False)
    local.init(local.SubprocessRunner(use_venv=False), pipeline_root=str(tmp_path / "runs"), raise_on_error=True)
    killer = Killer()
    killer.start()
    began = time.perf_counter()
    graph(root=str(root))
    print(f"{time.perf_counter() - began:.0f} s")
    killer.stop.set()
    killer.join()
    assert killer.killed is not None
    assert sorted(killer.seen.values()) == [0, 1, 2, 2, 3], "a part that fails is tried again, and no other"
    (run,) = (tmp_path / "runs").iterdir()
    alone, merged = (run / task / "out" for task in ("prepare-faces", "prepare-faces-merge"))
    names = {path.name for path in alone.iterdir()}
    assert names == {path.name for path in merged.iterdir()} == {
        "converted.csv", "faces.json", "hr.npy", "lr.npy", "manifest.parquet", "rejected.csv",
    }  # fmt: skip
    for name in names:
        assert (merged / name).read_bytes() == (alone / name).read_bytes(), name
    facts = json.loads((merged / "faces.json").read_text())
    assert facts["rejected"] == {"not an image": 3}
    assert facts["dropped"] == {"too few images": 1}
    print(facts["digest"])
    client = MlflowClient(f"sqlite:///{root / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("gwainet")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`gwainet.kind` = 'stage'")
    assert sorted(run.info.run_name for run in runs) == ["fetch_faces", "prepare_faces", "prepare_faces"]
    tags = [run.data.tags["gwainet.output_digest"] for run in runs if run.info.run_name == "prepare_faces"]
    assert tags == [facts["digest"]] * 2
