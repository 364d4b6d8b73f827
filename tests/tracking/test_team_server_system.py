"""What the project does with MLflow, over real servers: on SQLite, and as `compose.yaml` runs one on PostgreSQL and S3.

The tests that are imported are those of the other files, which have them on a SQLite file: here they get another `root`,
`client`, `server` and `registered`, of a server in a process of its own.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import mlflow.pyfunc
import psutil
import pytest
import yaml
from mlflow import MlflowClient
from sqlalchemy import URL

from gwainet.errors import TrackingError
from gwainet.files import file_digest
from gwainet.tracking import outbox
from gwainet.tracking.gate import Registry
from gwainet.tracking.lineage import lineage
from gwainet.tracking.registry import Registered, register
from gwainet.tracking.unsent import send_unsent
from tests.promotion.test_promotion import (  # noqa: F401
    call,
    test_a_worse_model_is_refused_with_a_table_of_reasons_and_nothing_changes,
    test_from_the_first_champion_to_a_better_one_and_back,
)
from tests.servers import postgres, radosgw
from tests.servers.postgres import Postgres
from tests.servers.radosgw import S3Server
from tests.servers.s3 import moto
from tests.servers.tracking import (
    FOREIGN,
    Server,
    connection,
    forget,
    listens,
    make_bucket,
    sqlite_server,
    status,
    team_server,
)
from tests.tracking import stages
from tests.tracking.chain import make_chain
from tests.tracking.conftest import VARIABLES
from tests.tracking.models import candidate
from tests.tracking.stages import all_runs, children, parents, stage

# ruff: noqa: E501  names of tests are sentences
from tests.tracking.test_claim import (  # noqa: F401
    model,
    test_a_claim_is_seen_while_it_is_held_and_gone_afterwards,
    test_what_a_killed_process_left_holds_others_up_for_its_time_and_they_are_told,
    test_who_was_taken_for_killed_or_stood_still_writes_nothing_more,
)
from tests.tracking.test_gate import (  # noqa: F401
    registry,
    test_a_newer_challenger_stays_one,
    test_a_process_killed_at_any_write_to_a_real_server_leaves_a_registry_that_the_next_puts_right,
    test_a_promotion_moves_all_aliases_and_says_on_the_version_who_when_and_why,
    test_a_registry_without_the_model_says_what_to_run,
    test_a_version_that_was_deleted_meanwhile_is_not_promoted,
    test_nothing_is_written_when_the_champion_changed_after_the_decision,
    test_of_two_processes_on_a_real_server_exactly_one_promotes_each_time,
    test_rollback_brings_the_predecessor_back_and_again_the_other,
    test_the_first_champion_follows_nobody,
    test_the_verdict_may_be_long,
    test_versions_are_found_by_alias_number_and_uri_and_others_are_refused,
)
from tests.tracking.test_lineage import (  # noqa: F401
    test_a_deleted_run_is_a_gap_and_what_is_left_of_it_is_shown,
    test_a_run_that_is_gone_for_good_is_a_gap,
    test_an_input_that_no_run_wrote_is_a_gap,
    test_another_run_that_wrote_the_same_bytes_stands_in_for_a_deleted_one,
    test_every_way_to_name_a_model_leads_to_the_same_complete_walk,
    test_the_command_prints_the_tree_or_json,
    test_the_walk_holds_photos_code_params_and_digests,
)
from tests.tracking.test_registry import (  # noqa: F401
    test_a_model_becomes_a_version_with_all_that_is_known_of_it,
    test_a_name_that_the_registry_refuses_is_said,
    test_other_weights_or_another_report_are_a_new_version_and_the_challenger,
    test_the_same_weights_with_the_same_report_are_one_version,
    test_weights_registered_before_challenge_again_unless_they_are_the_champion,
)
from tests.tracking.test_runs import (  # noqa: F401
    test_a_failed_stage_fails_its_execution_and_keeps_its_last_metrics_and_its_error,
    test_a_real_server_takes_all_goes_away_and_gets_the_rest_when_it_is_back,
    test_a_retried_stage_supersedes_the_failed_one_and_its_execution_ends_well,
    test_a_run_that_sigkill_left_behind_is_closed_by_the_next_stage_of_any_execution_and_no_living_one_is,
    test_a_stage_is_a_finished_child_of_its_execution,
    test_a_stage_stopped_from_outside_ends_as_killed,
    test_a_store_that_comes_back_gets_all_it_missed,
    test_an_explicit_key_holds_an_execution_together_whatever_it_contains,
    test_four_processes_on_a_new_database_make_one_parent,
    test_pictures_files_folders_tags_and_data_are_recorded,
    test_the_stages_of_an_execution_share_a_parent_and_other_params_have_their_own,
    test_thousands_of_metrics_arrive_complete_and_in_blocks,
    test_what_a_stage_reads_names_the_run_that_wrote_it,
    test_what_the_server_will_never_take_does_not_hold_up_the_rest,
)
from tests.tracking.test_unsent import (  # noqa: F401
    a_stage_without_its_store,
    test_everything_arrives_and_the_runs_end_as_and_when_they_did,
    test_what_is_refused_stays_in_the_file_and_the_rest_is_sent,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Place:
    """A server, and how to look at or take away the database behind it.

    Attributes:
        server: MLflow's.
        store: its database.
    """

    server: Server
    store: str | URL

    @contextmanager
    def away(self) -> Iterator[None]:
        """The database fails every write while MLflow's server runs."""
        with stages.store_away(self.server.folder):
            yield


@dataclass(frozen=True)
class Team(Place):
    """As `compose.yaml` starts it.

    Attributes:
        database: PostgreSQL.
        s3: where files lie, in the bucket `mlflow`.
    """

    database: Postgres
    s3: S3Server

    @contextmanager
    def away(self) -> Iterator[None]:
        """The database is down."""
        self.database.stop()
        try:
            yield
        finally:
            self.database.start()

    def bucket(self) -> Any:
        """A client of S3 with the server's keys."""
        keys = {"aws_access_key_id": self.s3.access_key, "aws_secret_access_key": self.s3.secret_key}
        return boto3.client("s3", endpoint_url=self.s3.endpoint, region_name="us-east-1", **keys)

    @contextmanager
    def bucket_away(self) -> Iterator[None]:
        """The bucket is not there for a while; what was in it is gone."""
        store = self.bucket()
        for found in store.list_objects_v2(Bucket="mlflow").get("Contents", []):
            store.delete_object(Bucket="mlflow", Key=found["Key"])
        store.delete_bucket(Bucket="mlflow")
        try:
            yield
        finally:
            make_bucket(self.database, self.s3)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Both places; PostgreSQL and S3 alone where a test is about them, or runs on SQLite in its own file."""
    if "place" in metafunc.fixturenames:
        alone = {"team", "server"} & set(metafunc.fixturenames)
        metafunc.parametrize("place", ["postgresql+s3"] if alone else ["sqlite", "postgresql+s3"], indirect=True)


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("server")
    with ExitStack() as stack:
        if request.param == "sqlite":
            made: Place = Place(sqlite_server(folder, folder / "mlflow.db"), f"sqlite:///{folder / 'mlflow.db'}")
        else:
            if reason := postgres.missing():
                pytest.skip(reason)
            database = stack.enter_context(postgres.postgres())
            # Ceph's checks keys, moto's does not
            s3 = stack.enter_context(moto() if radosgw.missing() else radosgw.radosgw(tmp_path_factory.mktemp("ceph")))
            make_bucket(database, s3)
            store = URL.create(
                "postgresql+psycopg2", database.user, database.password, database.host, database.port, database.database
            )
            made = Team(team_server(folder, database, s3), store, database, s3)
        made.server.start()
        stack.callback(made.server.stop)
        yield made


@pytest.fixture
def root(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project's root whose runs go to a server without any; the client has its address and nothing else."""
    for name in [name for name in os.environ if name in VARIABLES or name.startswith(("AWS_", "PG"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place.server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(outbox, "PAUSES_AT_END", (0.0,))
    with connection(place.store) as opened:
        forget(opened)
    monkeypatch.chdir(tmp_path)
    stages.AWAY[tmp_path] = place.away
    yield tmp_path
    del stages.AWAY[tmp_path]


@pytest.fixture
def client(root: Path, place: Place) -> MlflowClient:
    return MlflowClient(place.server.uri)


@pytest.fixture
def team(place: Place) -> Team:
    assert isinstance(place, Team)
    return place


@pytest.fixture
def server(root: Path, place: Place) -> Iterator[Server]:
    yield place.server
    if place.server.process.poll() is not None:  # some tests leave it stopped: here others need it
        place.server.start()


@pytest.fixture
def registered(root: Path) -> Registered:
    return make_chain(root)


ONE_STAGE = """
import sys
from pathlib import Path
from gwainet.params import Params
from gwainet.tracking import Task, stage_run
name, root = sys.argv[1], Path(sys.argv[2])
with stage_run(Task(name, None, Params(profile="demo"), (name,), root, {}, root / name)) as recorder:
    recorder.metrics({"one": 1.0}, 1)
"""


# ---------------------------------------------------------------- runs, registry


def test_stages_in_processes_of_their_own_find_their_execution_though_they_start_together(
    root: Path, client: MlflowClient
):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    names = ["pretrain_inet", "pretrain_wnet"]
    started = [
        subprocess.Popen([sys.executable, "-c", ONE_STAGE, name, str(root)], cwd=root, env=environment)
        for name in names
    ]
    assert [process.wait(120) for process in started] == [0, 0]
    subprocess.run([sys.executable, "-c", ONE_STAGE, "benchmark", str(root)], cwd=root, env=environment, check=True)
    (parent,) = [run for run in parents(client) if "mlflow.parentRunId" not in run.data.tags]
    assert {run.data.tags["mlflow.parentRunId"] for run in children(client)} == {parent.info.run_id}
    assert sorted(run.info.run_name for run in children(client)) == ["benchmark", *names]
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics == {f"{name}.one": 1.0 for name in ("benchmark", *names)}


def test_files_lie_in_the_bucket_and_a_client_without_a_key_of_it_reads_them_and_the_model(
    root: Path, team: Team, client: MlflowClient
):
    with stage(root, "register_model", None) as recorder:
        registered = register(made := candidate(root), recorder)
        recorder.artifact(made.report / "benchmark.json", "benchmark")
    assert not [name for name in os.environ if name.startswith(("AWS_", "PG"))]
    run = client.get_run(recorder.run_id)
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    objects = team.bucket().list_objects_v2(Bucket="mlflow")["Contents"]
    sizes = {found["Key"].rpartition("/")[2]: found["Size"] for found in objects}
    assert sizes["weights.safetensors"] == made.weights.stat().st_size
    version = Registry(root, "faces", 60.0).find("@challenger")
    kept = Registry(root, "faces", 60.0).weights(version, root / "kept")
    assert file_digest(kept) == registered.weights_digest
    served = mlflow.pyfunc.load_model("models:/faces@challenger")
    assert served.metadata.signature.inputs.input_names() == ["lr", "guide"]


def test_files_that_the_bucket_did_not_take_are_sent_when_it_is_back(root: Path, team: Team, client: MlflowClient):
    (root / "page.html").write_text("<p>")
    with team.bucket_away(), stage(root) as recorder:
        recorder.artifact(root / "page.html", "reports")
        recorder.metrics({"loss": 1.0}, 1)
    send_unsent(root)
    assert [file.path for file in client.list_artifacts(recorder.run_id, "reports")] == ["reports/page.html"]
    assert client.get_run(recorder.run_id).info.status == "FINISHED"
    assert not list((root / ".gwainet" / "unsent").glob("*"))


def test_a_database_that_is_still_down_is_said_and_costs_nothing(root: Path, team: Team, client: MlflowClient):
    path = a_stage_without_its_store(root)
    before = path.read_text()
    with team.away(), pytest.raises(TrackingError, match=f"cannot use the MLflow server {team.server.uri}"):
        send_unsent(root)
    assert path.read_text() == before
    send_unsent(root)
    assert children(client)[0].info.status == "FINISHED"


# ---------------------------------------------------------------- as docs/tracking.md says


def test_a_dump_that_is_restored_has_all_runs_and_the_schema_can_be_upgraded(
    root: Path, team: Team, client: MlflowClient, registered: Registered
):
    before = {run.info.run_id: run.to_dictionary() for run in all_runs(client)}
    dump, connect = root / "mlflow.dump", {**os.environ, **team.database.environment()}

    def run(*command: str) -> None:
        subprocess.run(command, env=connect, check=True)

    run(str(postgres.program("pg_dump")), "--format=custom", f"--file={dump}", "mlflow")
    with connection(team.store) as opened:
        forget(opened)
    assert client.search_experiments(filter_string="name = 'gwainet'") == []
    team.server.stop()
    try:
        run(str(postgres.program("pg_restore")), "--dbname=mlflow", "--clean", "--if-exists", str(dump))
        run(sys.executable, "-m", "mlflow", "db", "upgrade", "postgresql+psycopg2:///mlflow")
    finally:
        team.server.start()
    assert {run.info.run_id: run.to_dictionary() for run in all_runs(client)} == before
    assert lineage(root, "models:/faces@challenger").gaps == []


# ---------------------------------------------------------------- who gets in, and what is told


def test_a_page_of_a_foreign_name_is_refused_and_nobody_listens_but_on_the_loopback_interface(team: Team):
    server = team.server
    for host in (f"localhost:{server.port}", f"127.0.0.1:{server.port}", "localhost:6000"):
        assert status(server.uri, host) == 200, host
    for host in FOREIGN:
        assert status(server.uri, host) == 403, host
        assert status(server.uri, host, "/") == 403, host
        assert status(server.uri, host, "/api/2.0/mlflow-artifacts/artifacts") == 403, host
    assert listens(psutil.Process(server.process.pid)) == {("127.0.0.1", server.port)}


def test_nobody_gets_into_the_database_without_its_password(team: Team):
    import psycopg2

    with (
        pytest.raises(psycopg2.OperationalError, match="password authentication failed"),
        team.database.connect(password="guessed"),
    ):
        pytest.fail("it let somebody in")


def test_no_password_and_no_key_is_in_a_log_a_tag_a_file_or_a_list_of_processes_even_when_stores_fail(
    root: Path, team: Team, client: MlflowClient, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
):
    caplog.set_level("DEBUG")
    (root / "page.html").write_text("<p>")
    with stage(root) as recorder, team.bucket_away():
        recorder.artifact(root / "page.html", "reports")
    with team.away():
        with pytest.raises(TrackingError) as error, stage(root, variant="banet"):
            pytest.fail("the stage must not start")
        with pytest.raises(TrackingError) as other:
            Registry(root, "faces", 60.0)
    send_unsent(root)
    with stage(root, "register_model", None) as recorder:
        register(candidate(root), recorder)
    gate = Registry(root, "faces", 60.0)
    gate.promote(gate.find("@challenger"), None, "{}", "first")
    log = team.server.log.read_text()
    assert "NoSuchBucket" in log
    assert "OperationalError" in log
    told = [log, *capfd.readouterr(), caplog.text, str(error.value), str(other.value)]
    told += [str(run.to_dictionary()) for run in all_runs(client)]
    told += [f"{version} {version.tags}" for version in client.search_model_versions("name = 'faces'")]
    told += [file.read_text() for file in (root / ".gwainet").rglob("*") if file.is_file()]
    process = psutil.Process(team.server.process.pid)
    processes = [process, *process.children(recursive=True)]
    told += [" ".join(process.cmdline()) for process in processes]
    for secret in (team.database.password, team.s3.secret_key):
        assert secret in process.environ().values()  # it has them, or this would show nothing
        assert not [text for text in told if secret in text]


def test_the_command_that_runs_here_is_all_of_composes(team: Team):
    command = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]["mlflow"]["command"]
    running = psutil.Process(team.server.process.pid).cmdline()
    assert running[1:4] == ["-m", "mlflow", "server"]
    assert [option for option in command[2:] if "${" not in option and option not in running] == []
    assert len(running[4:]) == len(command[2:])
