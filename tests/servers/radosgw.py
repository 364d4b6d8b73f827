"""Ceph's S3 server (radosgw) on the loopback interface, on objects in memory: real S3 for tests.

Needs Debian's packages radosgw, ceph-mon, ceph-osd and ceph-common; no service of theirs, and no root.
"""

import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from tests.servers.ports import free_port

PROGRAMS = ("radosgw", "ceph-mon", "ceph-osd", "ceph", "ceph-authtool", "monmaptool", "radosgw-admin")
SECONDS = 120.0  # to wait for a daemon


def missing() -> str | None:
    """Why radosgw cannot run here; None if it can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install radosgw ceph-mon ceph-osd ceph-common"
    return None


@dataclass(frozen=True)
class S3Server:
    """An S3 server with one user.

    Attributes:
        endpoint: its address.
        access_key: of the user.
        secret_key: of the user.
    """

    endpoint: str
    access_key: str
    secret_key: str

    def environment(self) -> dict[str, str]:
        """The usual variables with which boto3, DVC and MLflow find the server and log in."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "MLFLOW_S3_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def radosgw(folder: Path) -> Iterator[S3Server]:
    """Run a Ceph of one monitor, one storage daemon and radosgw below `folder`; all of it is gone afterwards.

    Raises:
        RuntimeError: a daemon does not start; the message ends with its log.
    """
    folder = folder.resolve()
    ceph = _Ceph(folder)
    with ExitStack() as stack:
        mon_port, gateway_port = free_port(), free_port()
        ceph.configure(mon_port, gateway_port)
        ceph.make_monitor(mon_port)
        ceph.start(stack, "ceph-mon", "--id", "a")
        ceph.wait_for("the monitor", lambda: ceph.run("ceph", "--connect-timeout", "5", "health"))
        ceph.make_osd()
        ceph.start(stack, "ceph-osd", "--id", "0")
        ceph.wait_for("the storage daemon", lambda: '"num_up_osds":1' in ceph.run("ceph", "osd", "stat", "-f", "json"))
        user = (
            "--uid",
            "tests",
            "--display-name",
            "tests",
            "--access-key",
            "tests-key",
            "--secret-key",
            "tests-secret",
        )
        ceph.run("radosgw-admin", "user", "create", *user, name="client.admin")
        ceph.start(stack, "radosgw", name="client.admin")
        server = S3Server(f"http://127.0.0.1:{gateway_port}", "tests-key", "tests-secret")
        ceph.wait_for("radosgw", lambda: _answers(server.endpoint))
        yield server


class _Ceph:
    """Commands and daemons that read one configuration file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "ceph.conf"
        self.keyring = folder / "keyring"

    def configure(self, mon_port: int, gateway_port: int) -> None:
        """Write the configuration: cephx on (without it radosgw hangs), no replicas, objects in memory."""
        for name in ("mon", "osd", "run"):
            (self.folder / name).mkdir(parents=True)
        self.conf.write_text(
            f"""[global]
fsid = {uuid4()}
mon initial members = a
mon host = v2:127.0.0.1:{mon_port}
keyring = {self.keyring}
run dir = {self.folder}/run
admin socket = {self.folder}/run/$name.$pid.asok
pid file = {self.folder}/run/$name.pid
log file = {self.folder}/$name.log
log to stderr = false
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 2
osd pool default pgp num = 2
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data = {self.folder}/mon
mon data avail warn = 1
mon data avail crit = 0
mon osd full ratio = 0.99
ms bind ipv6 = false

[osd]
osd data = {self.folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648

[client.admin]
rgw frontends = beast endpoint=127.0.0.1:{gateway_port}
rgw thread pool size = 32
"""
        )

    def make_monitor(self, mon_port: int) -> None:
        """Keys of everybody, and the monitor's store."""
        tool = ("ceph-authtool", str(self.keyring))
        self.run(*tool, "--create-keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
        every = (
            "--cap",
            "mon",
            "allow *",
            "--cap",
            "osd",
            "allow *",
            "--cap",
            "mgr",
            "allow *",
            "--cap",
            "mds",
            "allow *",
        )
        self.run(*tool, "--gen-key", "-n", "client.admin", *every)
        self.run(*tool, "--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
        fsid = next(line.split(" = ")[1] for line in self.conf.read_text().splitlines() if line.startswith("fsid"))
        monmap = str(self.folder / "monmap")
        self.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", monmap)
        self.run("ceph-mon", "--mkfs", "--id", "a", "--monmap", monmap, "--keyring", str(self.keyring))

    def make_osd(self) -> None:
        """The storage daemon's store, known to the monitor."""
        uuid = str(uuid4())
        self.run("ceph", "osd", "new", uuid, "0")
        self.run("ceph-osd", "--mkfs", "--id", "0", "--osd-uuid", uuid)

    def run(self, program: str, *arguments: str, name: str | None = None) -> str:
        """A program's output.

        Raises:
            RuntimeError: it failed.
        """
        done = subprocess.run(
            self._command(program, arguments, name), capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{program} {' '.join(arguments)} ended {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def start(self, stack: ExitStack, program: str, *arguments: str, name: str | None = None) -> None:
        """Start a daemon, in the foreground, that ends with the stack."""
        log = stack.enter_context((self.folder / f"{program}.out").open("wb"))
        command = [*self._command(program, arguments, name), "-f"]
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        stack.callback(_end, process)

    def wait_for(self, what: str, ready: Callable[[], object]) -> None:
        """Wait until `ready()` is neither false nor an error.

        Raises:
            RuntimeError: it takes too long.
        """
        deadline = time.monotonic() + SECONDS
        said = ""
        while time.monotonic() < deadline:
            try:
                if ready() is not False:
                    return
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                said = str(error)
            time.sleep(0.25)
        logs = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1500:]}" for log in self.folder.glob("*.log"))
        raise RuntimeError(f"{what} does not start: {said}\n{logs}")

    def _command(self, program: str, arguments: tuple[str, ...], name: str | None) -> list[str]:
        own = [] if program in ("ceph-authtool", "monmaptool") else ["--conf", str(self.conf)]
        return [program, *own, *(["--name", name] if name else []), *arguments]


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a daemon; its data is in memory, so there is nothing to write out."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(endpoint, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
