"""PostgreSQL on the loopback interface, in a temporary folder: a real database server for tests.

Needs Debian's package postgresql (no service of it), and psycopg2-binary. It refuses to run as root, so root starts it
as a user who owns nothing but that folder.
"""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

SECONDS = 60.0  # to wait for the server
USERS = ("postgres", "nobody")  # the first of them that there is runs the server if the tests are root's


def missing() -> str | None:
    """Why PostgreSQL cannot run here; None if it can."""
    absent = [name for name in ("postgres", "initdb") if program(name) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install postgresql"
    if shutil.which("setpriv") is None:
        return "setpriv not found: apt-get install util-linux"
    if find_spec("psycopg2") is None:
        return "psycopg2 not found: pip install -e '.[server]'"
    if os.getuid() == 0 and _unprivileged() is None:
        return f"PostgreSQL does not run as root, and there is no user {' or '.join(USERS)}"
    return None


class Postgres:
    """A server with one user, who owns one database.

    Attributes:
        host: its address.
        port: of it.
        user: who may do all.
        password: of the user, made anew for each server.
        database: the user's.
    """

    host, user, database = "127.0.0.1", "mlflow", "mlflow"

    def __init__(self, folder: Path) -> None:
        self.port, self.password = free_port(), secrets.token_hex(16)
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._as: list[str] = []
        if os.getuid() == 0:
            owner = _unprivileged()
            assert owner is not None
            self._as = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups"]
            os.chown(folder, owner.pw_uid, owner.pw_gid)

    def environment(self) -> dict[str, str]:
        """The variables by which libpq, and so psycopg2 and MLflow, finds the server and logs in."""
        return {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}

    def make(self) -> None:
        """Make the files of a new server, which lets nobody in without the password.

        Raises:
            RuntimeError: initdb fails.
        """
        secret = self._folder / "password"
        secret.touch(0o600)
        secret.write_text(self.password)
        if self._as:
            shutil.chown(secret, *(int(one.partition("=")[2]) for one in self._as[:2]))
        command = [str(program("initdb")), "--pgdata", str(self._folder / "data"), "--username", self.user]
        command += ["--pwfile", str(secret), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        done = subprocess.run(
            ["setpriv", *self._as, *command], cwd=self._folder, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"initdb ended {done.returncode}:\n{done.stdout}\n{done.stderr}")
        secret.unlink()
        self.start()
        with self.connect("postgres") as connection, connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{self.database}"')

    def start(self) -> None:
        """Start the server, which ends when this process does, and wait until it takes the password.

        Raises:
            RuntimeError: it does not start; the message ends with its log.
        """
        settings = {
            "listen_addresses": self.host,
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "off",  # nothing of a test outlives the machine
            "shared_buffers": "32MB",
        }
        command = [str(program("postgres")), "-D", str(self._folder / "data")]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = self._folder / "postgres.log"
        with log.open("ab") as file:
            self._process = subprocess.Popen(
                ["setpriv", *self._as, "--pdeathsig=INT", *command],
                cwd=self._folder,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        deadline = time.monotonic() + SECONDS
        said = ""
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with self.connect("postgres"):
                    return
            except Exception as error:  # noqa: BLE001  psycopg2 may be missing where this file is only imported
                said = str(error)
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"PostgreSQL does not start: {said}\n{log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Stop the server: connections are cut, nothing that was written is lost."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    @contextmanager
    def connect(self, database: str = database, password: str | None = None) -> Iterator[Any]:
        """A connection, every statement committed at once.

        Raises:
            psycopg2.OperationalError: nothing answers, or the password is wrong.
        """
        import psycopg2

        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password if password is None else password,
            dbname=database,
            connect_timeout=10,
        )
        connection.autocommit = True
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a new server; it and its folder are gone afterwards.

    The folder is no test's own, as pytest's are closed to the user who runs the server for root.

    Raises:
        RuntimeError: it does not start; the message ends with its log.
    """
    with tempfile.TemporaryDirectory(prefix="gwainet-postgres-") as folder:
        server = Postgres(Path(folder))
        try:
            server.make()
            yield server
        finally:
            server.stop()


def program(name: str) -> Path | None:
    """Where a program is: on PATH, or where Debian keeps those of each version (the newest)."""
    found = shutil.which(name)
    if found:
        return Path(found)
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return versions[-1] if versions else None


def _unprivileged() -> pwd.struct_passwd | None:
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next((known[name] for name in USERS if name in known), None)
