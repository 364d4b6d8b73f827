import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from gwainet.tracking import outbox
from gwainet.tracking.registry import Registered
from tests.tracking.chain import make_chain

VARIABLES = (
    "MLFLOW_TRACKING_URI",
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_RUN_ID",
    "GWAINET_PIPELINE_KEY",
    "DVC_EXP_NAME",
)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new MLflow database: making one takes seconds, copying it none."""
    database = tmp_path_factory.mktemp("migrated") / "mlflow.db"
    MlflowClient(f"sqlite:///{database}").search_experiments()
    return database


@pytest.fixture
def root(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's root with an empty store, in a folder outside any git repository; no setting of the user's."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    shutil.copy(migrated, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outbox, "PAUSES_AT_END", (0.0,))
    return tmp_path


@pytest.fixture
def client(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / 'mlflow.db'}")


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> tuple[Path, Registered]:
    place = tmp_path_factory.mktemp("chain")
    shutil.copy(migrated, place / "mlflow.db")
    with pytest.MonkeyPatch.context() as patch:
        for name in VARIABLES:
            patch.delenv(name, raising=False)
        patch.chdir(place)
        return place, make_chain(place)
