import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from gwainet.images import Uint8
from gwainet.nets.model import load_generator
from gwainet.tracking.registry import save
from tests.tracking.models import candidate

ELSEWHERE = """
import sys
import numpy as np
import mlflow.pyfunc
folder, inputs, output = sys.argv[1:]
made = mlflow.pyfunc.load_model(folder).predict(dict(np.load(inputs)))
np.save(output, made["sr"])
import gwainet
print(gwainet.__file__)
"""


@pytest.fixture(autouse=True)
def same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model puts its code onto the path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)


@pytest.fixture(scope="module", params=[True, False], ids=["guided", "banet"])
def guided(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, guided: bool) -> Path:
    place = tmp_path_factory.mktemp("served")
    save(candidate(place, guided), place / "model", Model())
    return place / "model"


def pictures(count: int = 2, height: int = 3, width: int = 4) -> tuple[Uint8, Uint8]:
    random = np.random.default_rng(count * height * width)
    low = random.integers(0, 256, (count, height, width, 3), np.uint8)
    return low, random.integers(0, 256, (count, height * 8, width * 8, 3), np.uint8)


def expected(folder: Path, low: Uint8, guide: Uint8, guided: bool) -> Uint8:
    generator = load_generator(folder / "artifacts" / "weights.safetensors", torch.device("cpu"))
    return generator.super_resolve(low, guide if guided else None).sr


def elsewhere(**more: str) -> dict[str, str]:
    """An environment without a way to this repository, where MLflow refuses pickles."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return {**kept, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1", **more}


def test_the_model_loads_in_another_place_without_pickle_and_makes_the_same_pictures(tmp_path: Path):
    folder, (low, guide) = tmp_path / "model", pictures()
    save(candidate(tmp_path), folder, Model())
    np.savez(tmp_path / "inputs.npz", lr=low, guide=guide)
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder), str(tmp_path / "inputs.npz"), str(tmp_path / "sr.npy")],
        cwd=tmp_path,
        env=elsewhere(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert Path(done.stdout.strip()) == folder / "code" / "gwainet" / "__init__.py"
    made = np.load(tmp_path / "sr.npy")
    assert (made.dtype, made.shape) == (np.uint8, (2, 24, 32, 3))
    difference = np.abs(made.astype(int) - expected(folder, low, guide, guided=True).astype(int))
    assert difference.max() <= 1  # a last bit, where another number of threads adds in another order


def test_nothing_in_the_model_is_a_pickle(folder: Path):
    names = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert names <= {"", ".py", ".typed", ".safetensors", ".json", ".yaml", ".txt"}
    assert (folder / "artifacts" / "weights.safetensors").is_file()


@pytest.mark.parametrize(("height", "width"), [(2, 2), (5, 3)])
def test_any_size_and_batch_is_served(folder: Path, guided: bool, height: int, width: int):
    low, guide = pictures(3, height, width)
    made = mlflow.pyfunc.load_model(str(folder)).predict({"lr": low, "guide": guide})
    assert np.array_equal(made["sr"], expected(folder, low, guide, guided))


def test_the_example_is_small_and_is_served(folder: Path):
    model = mlflow.pyfunc.load_model(str(folder))
    example = model.input_example
    made = model.predict({name: np.asarray(value, np.uint8) for name, value in example.items()})
    assert made["sr"].shape == (1, 32, 32, 3)


def test_what_does_not_fit_is_refused_with_a_reason(folder: Path, guided: bool):
    model = mlflow.pyfunc.load_model(str(folder))
    low, guide = pictures()
    with pytest.raises(MlflowException, match="float32"):
        model.predict({"lr": low.astype(np.float32), "guide": guide})
    with pytest.raises(MlflowException, match=r"\(-1, -1, -1, 3\)"):
        model.predict({"lr": low[0], "guide": guide})
    if guided:
        with pytest.raises(MlflowException, match="missing inputs"):
            model.predict({"lr": low})
        with pytest.raises(MlflowException, match=r"guides must be \(2, 24, 32, 3\)"):
            model.predict({"lr": low, "guide": guide[:, :16]})


@pytest.mark.system
def test_mlflows_own_server_serves_it(folder: Path, guided: bool, tmp_path: Path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(folder), "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            cwd=tmp_path,
            env=elsewhere(PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}"),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                with urlopen(f"http://127.0.0.1:{port}/ping", timeout=2):
                    break
            except OSError:
                assert process.poll() is None, (tmp_path / "log").read_text()
                time.sleep(0.5)

        def ask(inputs: dict[str, object]) -> dict[str, object]:
            body = json.dumps({"inputs": inputs}).encode()
            request = Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
            with urlopen(request, timeout=60) as answer:
                return dict(json.load(answer))

        low, guide = pictures(1)
        inputs: dict[str, object] = {"lr": low.tolist(), "guide": guide.tolist()}
        made = np.asarray(ask(inputs)["predictions"]["sr"])  # type: ignore[index]
        assert np.abs(made - expected(folder, low, guide, guided).astype(int)).max() <= 1
        with pytest.raises(HTTPError) as error:
            ask({"lr": low[0].tolist(), "guide": guide.tolist()})
        assert error.value.code == 400
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
