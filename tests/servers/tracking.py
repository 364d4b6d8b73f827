"""Real MLflow servers, in processes of their own: on SQLite and a folder, and as `compose.yaml` runs one for a team."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import yaml
from sqlalchemy import URL, Connection, create_engine, inspect, text

from tests.servers.ports import free_port
from tests.servers.postgres import Postgres
from tests.servers.radosgw import S3Server

COMPOSE = Path(__file__).parents[2] / "compose.yaml"
SECONDS = 180.0  # to wait for a server: it may have to make all tables first


class Server:
    """A real MLflow server on this machine.

    Args:
        folder: where its log lies, and what it runs in.
        arguments: after `mlflow server`.
        settings: variables of its process, on top of this one's without what would point clients at a server.

    Attributes:
        port: it listens on.
        uri: for clients.
        log: all that it printed.
    """

    def __init__(self, folder: Path, arguments: Sequence[str], settings: Mapping[str, str]) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder, self.log = folder, folder / "server.log"
        self._command = [sys.executable, "-m", "mlflow", "server", *arguments]
        own = {"MLFLOW_HOST": "127.0.0.1", "MLFLOW_PORT": str(self.port), "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._environment = {**bare_environment(), **settings, **own}

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            RuntimeError: it does not; the message is its log.
        """
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True, env=self._environment
            )
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                with urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.3)
        self.stop()
        raise RuntimeError(self.log.read_text(errors="replace"))

    def stop(self) -> None:
        """Kill it, as a machine that is switched off would."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the workers outlive their parent otherwise
        self.process.wait()


def sqlite_server(folder: Path, database: Path) -> Server:
    """A server of one worker on a SQLite file, its files in a folder."""
    store, files = f"--backend-store-uri=sqlite:///{database}", f"--artifacts-destination={folder / 'server-artifacts'}"
    return Server(folder, [store, files, "--workers=1"], {})


def bare_environment() -> dict[str, str]:
    """This process's, without what a client or a server would be told by it."""
    told = ("MLFLOW_", "_MLFLOW_", "AWS_", "PG", "GWAINET_", "DVC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(told)}


# ---------------------------------------------------------------- as compose.yaml says


def compose(**variables: str) -> dict[str, Any]:
    """The services of `compose.yaml`, with these variables put in as Docker Compose does.

    Raises:
        ValueError: a variable without a default has no value.
    """
    uncommented = re.sub(r"^\s*#.*$", "", COMPOSE.read_text(encoding="utf-8"), flags=re.MULTILINE)

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if variables.get(name):
            return variables[name]
        if kind == ":-":
            return rest
        raise ValueError(f"{name}: {rest}")

    document = yaml.safe_load(re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, uncommented))
    services: dict[str, Any] = document["services"]
    return services


def team_settings(database: Postgres, store: S3Server) -> dict[str, str]:
    """What differs from `compose.yaml` here: addresses, keys and passwords."""
    keys = {"AWS_ACCESS_KEY_ID": store.access_key, "AWS_SECRET_ACCESS_KEY": store.secret_key}
    return {**database.environment(), **keys, "AWS_ENDPOINT_URL": store.endpoint}


def make_bucket(database: Postgres, store: S3Server) -> None:
    """Run the job `bucket` of `compose.yaml`.

    Raises:
        RuntimeError: it fails.
    """
    service = compose(POSTGRES_PASSWORD=database.password, S3_SECRET_KEY=store.secret_key)["bucket"]
    program, *arguments = service["command"]
    assert program == "python"
    environment = {**bare_environment(), **service["environment"], **team_settings(database, store)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def team_server(folder: Path, database: Postgres, store: S3Server) -> Server:
    """The service `mlflow` of `compose.yaml`: the same command, the same variables but for addresses and passwords."""
    service = compose(POSTGRES_PASSWORD=database.password, S3_SECRET_KEY=store.secret_key)["mlflow"]
    program, command, *arguments = service["command"]
    assert (program, command) == ("mlflow", "server")
    return Server(folder, arguments, {**service["environment"], **team_settings(database, store)})


# ---------------------------------------------------------------- who gets in


# the last three are what wildcards for private networks, or for a beginning, would let in
FOREIGN = ("evil.example", "evil.example:5000", "10.evil.example", "192.168.evil.example", "localhost.evil.example")


def status(uri: str, host: str, path: str = "/api/2.0/mlflow/experiments/search?max_results=1") -> int:
    """How a server answers a request that calls it by this name, as a page of that name would."""
    try:
        with urlopen(Request(uri + path, headers={"Host": host}), timeout=30) as answer:
            return int(answer.status)
    except HTTPError as error:
        return error.code


def listens(process: psutil.Process) -> set[tuple[str, int]]:
    """Address and port of everything that a process and its children listen on."""
    every = [process, *process.children(recursive=True)]
    found = [one for each in every for one in each.net_connections() if one.status == psutil.CONN_LISTEN]
    return {(one.laddr.ip, one.laddr.port) for one in found}


# ---------------------------------------------------------------- a store that a server has open


@contextmanager
def connection(uri: str | URL) -> Iterator[Connection]:
    """Of a test to a server's database.

    Args:
        uri: SQLAlchemy's.
    """
    engine = create_engine(uri)
    try:
        with closing(engine.connect()) as opened, opened.begin():
            yield opened
    finally:
        engine.dispose()


def forget(opened: Connection) -> None:
    """Forget all runs, models and experiments, as if the server were new, while it runs: a start takes seconds."""
    if opened.dialect.name == "postgresql":  # SQLite looks at foreign keys only where a connection asks for it
        opened.execute(text("SET session_replication_role = replica"))
    # what a new server has
    kept = {"alembic_version": "true", "workspaces": "true", "experiments": "experiment_id = 0"}
    for table in inspect(opened).get_table_names():
        opened.execute(text(f"DELETE FROM {table} WHERE NOT ({kept.get(table, 'false')})"))


@contextmanager
def ui(root: Path, log: Path, **variables: str) -> Iterator[tuple[psutil.Process, int]]:
    """`python -m gwainet ui`: its process, and the port that it listens on; all that it prints goes to `log`.

    Raises:
        RuntimeError: it does not answer; the message is its log.
    """
    port = free_port()
    command = [sys.executable, "-m", "gwainet", "ui", "--root", str(root), "--port", str(port)]
    with log.open("w") as file:
        process = subprocess.Popen(
            command,
            cwd=COMPOSE.parent,
            env={**bare_environment(), **variables},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _wait_for_ui(port, process, log)
        yield psutil.Process(process.pid), port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for_ui(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if status(f"http://127.0.0.1:{port}", "localhost", "/health") == 200:
                return
        except OSError:
            time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    raise RuntimeError(log.read_text())
