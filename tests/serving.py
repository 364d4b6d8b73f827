"""HTTP servers that answer as a real one does, on a free port of this machine, and fail when a test says so."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, urlsplit


class RefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Failure:
    """What to answer instead to the next `times` requests of a method whose path matches."""

    method: str
    path: str
    answer: int | str  # a status, or one of: silence, hang up, page, redirect
    times: int = 1
    message: str = "no"


@dataclass
class Server:
    """How a server shall behave, and what it was asked.

    `routes` leads from (method, pattern of the path behind `prefix`) to a method that gets the request, whose `ids` are
    the pattern's groups, and gives the answer.
    """

    prefix: ClassVar[str]
    routes: ClassVar[dict[tuple[str, str], str]]
    token: str = ""
    failures: list[Failure] = field(default_factory=list)
    requests: list[SimpleNamespace] = field(default_factory=list)
    address: str = ""

    def refusal(self, request: SimpleNamespace, status: int, message: str) -> dict[str, Any] | bytes:
        """The body of an answer that is no success."""
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    state: Server

    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""

    def _answer(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = SimpleNamespace(
            method=self.command,
            path=address.path,
            query=dict(parse_qsl(address.query)),
            headers=self.headers,
            body=body,
        )
        self.state.requests.append(request)
        for failure in self.state.failures:
            if failure.times and failure.method == self.command and re.search(failure.path, address.path):
                failure.times -= 1
                return self._fail(request, failure)
        token = self.state.token
        if token and self.headers.get("Authorization") != f"Bearer {token}":
            return self._refuse(request, 401, "Unauthenticated")
        try:
            return self._send(200, self._route(request))
        except RefusalError as refusal:
            return self._refuse(request, refusal.status, str(refusal))

    do_GET = do_POST = do_DELETE = _answer  # noqa: N815

    def _route(self, request: SimpleNamespace) -> dict[str, Any] | bytes:
        for (method, pattern), name in self.state.routes.items():
            match = re.fullmatch(self.state.prefix + pattern, request.path)
            if match and method == request.method:
                request.ids = match.groups()
                answer: dict[str, Any] | bytes = getattr(self.state, name)(request)
                return answer
        raise RefusalError(404, "Not Found")

    def _fail(self, request: SimpleNamespace, failure: Failure) -> None:
        match failure.answer:
            case "silence":
                time.sleep(3)
            case "hang up":
                self.connection.close()
            case "page":
                self._send(200, b"<html><body>Log in to Your Account</body></html>", "text/html; charset=utf-8")
            case "redirect":
                self.send_response(302)
                self.send_header("Location", "/dex/auth?client_id=kubeflow-oidc-authservice")
                self.end_headers()
            case int(status):
                self._refuse(request, status, failure.message)

    def _refuse(self, request: SimpleNamespace, status: int, message: str) -> None:
        self._send(status, self.state.refusal(request, status, message))

    def _send(self, status: int, body: dict[str, Any] | bytes, kind: str = "application/json") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(body, bytes) and "json" in kind else kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


Held = TypeVar("Held", bound=Server)


@contextmanager
def serve(state: Held) -> Iterator[Held]:
    """Answer while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    server.daemon_threads = True
    server.block_on_close = False
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
