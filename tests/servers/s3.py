"""S3 in this process (moto), a user of it who may do little, and a connection that breaks."""

import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import boto3
from moto.server import ThreadedMotoServer

from tests.servers.radosgw import S3Server


@contextmanager
def moto() -> Iterator[S3Server]:
    """An S3 server that checks no login until `restrict` is called."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield S3Server(f"http://{host}:{port}", "tests-key", "tests-secret")
    finally:
        server.stop()


def reset(server: S3Server) -> None:
    """Forget all buckets, and every login is good again."""
    _order(server, "reset")
    _order(server, "reset-auth", b"1000000000")


def restrict(server: S3Server, *actions: str) -> tuple[str, str]:
    """Check logins from now on; the keys of a user who may do these actions alone."""
    iam = boto3.client("iam")
    iam.create_user(UserName="someone")
    if actions:
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="someone", PolicyName="some", PolicyDocument=policy)
    key: dict[str, Any] = iam.create_access_key(UserName="someone")["AccessKey"]
    _order(server, "reset-auth", b"0")
    return key["AccessKeyId"], key["SecretAccessKey"]


def _order(server: S3Server, what: str, value: bytes = b"") -> None:
    headers = {"Content-Type": "application/octet-stream"}
    urllib.request.urlopen(
        urllib.request.Request(f"{server.endpoint}/moto-api/{what}", value, headers), timeout=10
    ).close()


class BreakingProxy:
    """A connection to a server that is cut after so many bytes of its answers, again and again.

    Attributes:
        after: bytes towards clients from one break to the next; None: it never breaks.
        times: how often it breaks at most.
        broken: how often it broke.
        carried: bytes that reached clients in all.
        before_breaking: called in the moment before a break.
    """

    def __init__(self, server: S3Server) -> None:
        self.after: int | None = None
        self.times = 10**9
        self.broken = 0
        self.carried = 0
        self.before_breaking: Callable[[], None] = lambda: None
        address = urlsplit(server.endpoint)
        self._target = (str(address.hostname), int(address.port or 80))
        self._lock = threading.Lock()
        self._since_break = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Answer nobody any more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # closing alone would not wake the thread that accepts
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                threading.Thread(target=self._carry, args=(client, server), daemon=True).start()
                threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError), server, client:
            while data := server.recv(16384):
                client.sendall(data)
                with self._lock:
                    self.carried += len(data)
                    self._since_break += len(data)
                    breaks = self.after is not None and self._since_break > self.after and self.broken < self.times
                    if breaks:
                        self.broken, self._since_break = self.broken + 1, 0
                if breaks:
                    self.before_breaking()
                    client.shutdown(socket.SHUT_RDWR)  # closing alone would wait for the other thread's recv
                    server.shutdown(socket.SHUT_RDWR)
                    return
