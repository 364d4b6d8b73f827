"""`python -m gwainet ui` in a process of its own: who reaches the user's runs, and what others see of it."""

from pathlib import Path

import pytest
from mlflow import MlflowClient
from sqlalchemy import URL

from tests.servers import postgres
from tests.servers.tracking import FOREIGN, listens, status, ui

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

PROJECT = Path(__file__).parents[1]


def test_it_listens_on_the_loopback_interface_alone_and_refuses_pages_of_foreign_names(tmp_path: Path):
    MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").create_experiment("gwainet")
    with ui(tmp_path, tmp_path / "ui.log") as (process, port):
        uri = f"http://127.0.0.1:{port}"
        for host in (f"localhost:{port}", f"127.0.0.1:{port}", "localhost:6000"):
            assert status(uri, host) == 200, host
        for host in FOREIGN:
            assert status(uri, host) == 403, host
            assert status(uri, host, "/") == 403, host
        assert listens(process) == {("127.0.0.1", port)}


def test_the_password_of_a_database_is_neither_printed_nor_in_the_list_of_processes(tmp_path: Path):
    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.postgres() as database:
        where = database.user, database.password, database.host, database.port, database.database
        uri = URL.create("postgresql+psycopg2", *where).render_as_string(hide_password=False)
        MlflowClient(uri).create_experiment("gwainet")
        with ui(tmp_path, tmp_path / "ui.log", MLFLOW_TRACKING_URI=uri) as (process, port):
            found = MlflowClient(f"http://127.0.0.1:{port}").get_experiment_by_name("gwainet")
            every = [process, *process.children(recursive=True)]
            told = [(tmp_path / "ui.log").read_text(), *(" ".join(one.cmdline()) for one in every)]
    assert found is not None
    assert not [text for text in told if database.password in text]
