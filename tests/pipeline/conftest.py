import pytest

from pipeline.login import COOKIES, ENDPOINT, NAMESPACE, PAGES, TOKEN, TOKEN_FILE
from tests.pipeline.server import Kubeflow
from tests.pipeline.toy import compile_toy
from tests.serving import serve

PARAMS = {"profile": "demo", "train_psnr": {"learning_rate": 5e-4, "epochs": 5.0}, "benchmark": {"splits": ["test"]}}


@pytest.fixture(autouse=True)
def no_login_of_this_machine(monkeypatch, tmp_path):
    for name in (*ENDPOINT, PAGES, NAMESPACE, TOKEN, TOKEN_FILE, COOKIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("KF_PIPELINES_DEFAULT_EXPERIMENT_NAME", "KF_PIPELINES_OVERRIDE_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def kubeflow():
    with serve(Kubeflow()) as kubeflow:
        yield kubeflow


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    return compile_toy(tmp_path_factory.mktemp("package") / "pipeline.yaml", PARAMS)
