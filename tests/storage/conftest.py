from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from gwainet.storage import download
from tests.servers.radosgw import S3Server
from tests.servers.s3 import BreakingProxy, moto, reset

BUCKET = "faces"


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    """One for all tests: starting one takes a second."""
    with moto() as server:
        yield server


@pytest.fixture
def server(moto_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    """A server with nothing in it, named by the environment; nothing of the user's own settings."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    for name, value in moto_server.environment().items():
        monkeypatch.setenv(name, value)
    yield moto_server
    reset(moto_server)


@pytest.fixture
def s3(server: S3Server) -> Any:
    """boto3's client, with an empty bucket."""
    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    return client


@pytest.fixture
def proxy(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[BreakingProxy]:
    """A breaking connection, which the environment now names as the server."""
    between = BreakingProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
    yield between
    between.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> int:
    """Objects of some MB come in many parts, and a broken one is tried again at once."""
    monkeypatch.setattr(download, "PART", 2**18)
    monkeypatch.setattr(download, "PAUSES", (0.01, 0.02, 0.04))
    return 2**18
