"""The same against a real S3 server (Ceph's radosgw): its answers, its faults, and DVC's remote in a bucket."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import torch

from gwainet.errors import StorageError
from gwainet.storage import checkpoint_mirror, download, look, mirror
from gwainet.storage.checkpoints import VARIABLE
from gwainet.training.checkpoint import Checkpoints, mirrored
from tests.servers.radosgw import S3Server, missing, radosgw
from tests.servers.s3 import BreakingProxy

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

MB = 2**20


@pytest.fixture(scope="module")
def ceph(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    if reason := missing():
        pytest.skip(reason)
    with radosgw(tmp_path_factory.mktemp("ceph")) as server:
        yield server


@pytest.fixture
def store(ceph: S3Server, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    """A client; `store.bucket` is a new bucket."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in ceph.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.bucket = f"bucket-{abs(hash(request.node.name)) % 10**9}"
    client.create_bucket(Bucket=client.bucket)
    return client


def test_photos_come_through_a_connection_that_breaks(store, ceph, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0.05,) * 6)
    big, small = os.urandom(40 * MB), {f"images/{n:03}.jpg": os.urandom(100 * n) for n in range(50)}
    (tmp_path / "big").write_bytes(big)
    store.upload_file(str(tmp_path / "big"), store.bucket, "photos/set.zip")
    for name, content in small.items():
        store.put_object(Bucket=store.bucket, Key=f"photos/{name}", Body=content)
    proxy = BreakingProxy(ceph)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    proxy.after = 5 * MB
    listing = look(f"s3://{store.bucket}/photos", ["set.zip", "images"])
    assert mirror(listing, tmp_path / "demo") == 51
    assert proxy.broken >= 5
    assert (tmp_path / "demo" / "set.zip").read_bytes() == big
    assert all((tmp_path / "demo" / name).read_bytes() == content for name, content in small.items())
    assert mirror(listing, tmp_path / "demo") == 0
    proxy.close()


def test_bytes_that_are_not_the_objects_are_noticed_by_the_tag_of_its_parts(store, tmp_path):
    (tmp_path / "big").write_bytes(os.urandom(20 * MB))
    store.upload_file(str(tmp_path / "big"), store.bucket, "set.zip")
    (remote,) = look(f"s3://{store.bucket}", ["set.zip"]).remotes
    bucket = look(f"s3://{store.bucket}", ["set.zip"]).bucket
    assert remote.etag.endswith('-3"')
    assert download._tag_of_parts(tmp_path / "big", 8 * MB) == remote.etag.strip('"')
    assert download.is_intact(bucket, remote, tmp_path / "big")


def test_its_refusals_are_told_in_words(store, monkeypatch):
    with pytest.raises(StorageError, match="there is no such bucket"):
        look("s3://nobody-made-this", ["set.zip"])
    with pytest.raises(StorageError, match=r"holds no set\.zip"):
        look(f"s3://{store.bucket}", ["set.zip"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StorageError, match="refuses the credentials"):
        look(f"s3://{store.bucket}", ["set.zip"])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    with pytest.raises(StorageError, match="refuses the credentials"):
        look(f"s3://{store.bucket}", ["set.zip"])


def test_an_object_that_changes_while_it_is_read_is_refused(store, ceph, tmp_path, monkeypatch):
    store.put_object(Bucket=store.bucket, Key="set.zip", Body=b"a" * 30 * MB)
    listing = look(f"s3://{store.bucket}", ["set.zip"])
    store.put_object(Bucket=store.bucket, Key="set.zip", Body=b"b" * 30 * MB)
    with pytest.raises(StorageError, match="has changed while it was read"):
        mirror(listing, tmp_path / "demo")
    assert not (tmp_path / "demo" / "set.zip").exists()


def test_a_checkpoint_goes_to_another_machine_and_is_forgotten_at_the_end(store, tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, f"s3://{store.bucket}/work")
    value = torch.rand(5 * MB)
    with checkpoint_mirror() as bucket, mirrored(bucket):
        Checkpoints(tmp_path / "one", "stage", {}).save({"x": value})
    with checkpoint_mirror() as bucket, mirrored(bucket):
        checkpoints = Checkpoints(tmp_path / "two", "stage", {})
        state = checkpoints.load(torch.device("cpu"))
        assert state is not None
        assert torch.equal(state["x"], value)
        checkpoints.remove()
    assert store.list_objects_v2(Bucket=store.bucket)["KeyCount"] == 0


def test_dvc_pushes_to_a_bucket_and_another_clone_pulls_from_it(store, tmp_path):
    program = shutil.which("dvc", path=str(Path(sys.executable).parent))
    assert program is not None
    one, two = tmp_path / "one", tmp_path / "two"
    kept = {key: value for key, value in os.environ.items() if not key.startswith("DVC_")}

    def run(folder: Path, *command: str) -> None:
        done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    one.mkdir()
    run(one, "git", "init", "--quiet")
    run(one, program, "init", "--quiet")
    (one / "faces").mkdir()
    contents = {name: os.urandom(size) for name, size in (("hr.npy", 12 * MB), ("faces.json", 100))}
    for name, content in contents.items():
        (one / "faces" / name).write_bytes(content)
    run(one, program, "add", "faces")
    run(one, program, "remote", "add", "-d", "store", f"s3://{store.bucket}/dvc")
    run(one, program, "push")
    run(one, "git", "add", "--all")
    run(one, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "--quiet", "-m", "faces")
    run(tmp_path, "git", "clone", "--quiet", str(one), str(two))
    run(two, program, "pull")
    assert {file.name: file.read_bytes() for file in (two / "faces").iterdir()} == contents
    assert "tests-secret" not in (one / ".dvc" / "config").read_text()
