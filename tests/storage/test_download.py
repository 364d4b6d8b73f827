"""Objects come whole, checked and in parts; what broke off goes on where it broke."""

import base64
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from gwainet.errors import StorageError
from gwainet.storage import download
from gwainet.storage.client import Remote, open_bucket
from gwainet.storage.download import fetch, is_intact
from tests.servers.s3 import BreakingProxy
from tests.storage.conftest import BUCKET

MB = 2**20
URL = f"s3://{BUCKET}/photos"


def put(s3: Any, name: str, content: bytes) -> None:
    s3.put_object(Bucket=BUCKET, Key=f"photos/{name}", Body=content)


def listed(name: str) -> Remote:
    (remote,) = open_bucket(URL).list(name)
    return remote


def brought(name: str, folder: Path) -> bytes:
    return fetch(open_bucket(URL), [listed(name)], folder)[name].read_bytes()


@pytest.mark.parametrize("size", [0, 1, 2**18 - 1, 2**18, 2**18 + 1, 3 * MB])
def test_an_object_of_any_size_comes_as_it_is(s3, tmp_path, small_parts, size):
    content = os.urandom(size)
    put(s3, "set.zip", content)
    assert brought("set.zip", tmp_path) == content
    assert [file.suffix for file in tmp_path.iterdir()] == [".whole"]


def test_many_objects_come_side_by_side(s3, tmp_path):
    contents = {f"a/{number:03}.jpg": os.urandom(number) for number in range(60)}
    for name, content in contents.items():
        put(s3, name, content)
    bucket = open_bucket(URL)
    files = fetch(bucket, [*bucket.list("a")], tmp_path)
    assert {name: file.read_bytes() for name, file in files.items()} == contents


def test_a_connection_that_breaks_again_and_again_is_taken_up_where_it_broke(s3, tmp_path, small_parts, proxy):
    content = os.urandom(3 * MB)
    put(s3, "set.zip", content)
    proxy.after = 100_000  # less than a part
    assert brought("set.zip", tmp_path) == content
    assert proxy.broken >= 3 * MB // 2**18
    assert proxy.carried < 2 * len(content), "what had come was fetched again"


def test_a_store_that_stops_answering_is_told_and_the_next_attempt_fetches_the_rest_alone(
    server, s3, tmp_path, small_parts, proxy: BreakingProxy, monkeypatch
):
    content = os.urandom(4 * MB)
    put(s3, "set.zip", content)
    remote, bucket = listed("set.zip"), open_bucket(URL)
    proxy.after, proxy.times = 3 * MB, 1
    monkeypatch.setattr(download, "THREADS", 1)
    proxy.before_breaking = proxy.close
    with pytest.raises(StorageError, match=rf"s3://{BUCKET}/photos/set.zip: the store does not answer.*kept"):
        fetch(bucket, [remote], tmp_path)
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".partial", ".parts"]
    between = BreakingProxy(server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", between.endpoint)
    assert brought("set.zip", tmp_path) == content
    assert between.carried < 2 * MB, "the parts that were there were fetched again"


def test_an_object_that_changes_while_it_is_read_is_refused_and_not_mixed(s3, tmp_path, small_parts, proxy):
    put(s3, "set.zip", b"a" * 2 * MB)
    remote, bucket = listed("set.zip"), open_bucket(URL)
    proxy.after, proxy.times = 300_000, 1
    proxy.before_breaking = lambda: put(s3, "set.zip", b"b" * 2 * MB)
    with pytest.raises(StorageError, match="has changed while it was read: run again"):
        fetch(bucket, [remote], tmp_path)
    assert not list(tmp_path.glob("*.whole"))
    assert brought("set.zip", tmp_path) == b"b" * 2 * MB


def test_an_object_that_is_deleted_before_it_is_read_is_told(s3, tmp_path):
    put(s3, "set.zip", b"x")
    remote = listed("set.zip")
    s3.delete_object(Bucket=BUCKET, Key="photos/set.zip")
    with pytest.raises(StorageError, match=r"photos/set.zip: there is no such object any more"):
        fetch(open_bucket(URL), [remote], tmp_path)


def test_bytes_that_changed_on_the_disk_are_noticed_and_fetched_again(s3, tmp_path, small_parts):
    content = os.urandom(MB)
    put(s3, "set.zip", content)
    remote, bucket = listed("set.zip"), open_bucket(URL)
    whole = fetch(bucket, [remote], tmp_path)["set.zip"]
    damaged = whole.with_suffix(".partial")
    damaged.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    whole.with_suffix(".parts").write_text("".join(f"{start}\n" for start in range(0, MB, small_parts)))
    whole.unlink()
    with pytest.raises(StorageError, match="not those of its checksum: run again"):
        fetch(bucket, [remote], tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert brought("set.zip", tmp_path) == content


@pytest.mark.parametrize("part", [5, 8])
def test_an_object_uploaded_in_parts_is_checked_by_the_tag_of_its_parts(s3, tmp_path, part):
    content, file = os.urandom(11 * MB), tmp_path / "file"
    file.write_bytes(content)
    config = TransferConfig(multipart_threshold=part * MB, multipart_chunksize=part * MB)
    s3.upload_file(str(file), BUCKET, "photos/set.zip", Config=config)
    remote = listed("set.zip")
    assert re.search(r"-\d+\"$", remote.etag)
    assert is_intact(open_bucket(URL), remote, file)
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not is_intact(open_bucket(URL), remote, file)
    file.write_bytes(content[:-1])
    assert not is_intact(open_bucket(URL), remote, file)


@pytest.mark.parametrize("checksum", ["SHA256", "SHA1", "CRC32"])
def test_a_stored_checksum_decides_where_the_tag_does_not_fit(s3, tmp_path, checksum):
    file = tmp_path / "file"
    s3.put_object(Bucket=BUCKET, Key="photos/a", Body=b"content", ChecksumAlgorithm=checksum)
    head = s3.head_object(Bucket=BUCKET, Key="photos/a", ChecksumMode="ENABLED")
    for content in (b"content", b"CONTENT"):
        file.write_bytes(content)
        kind, value = download._stored_checksum(head) or ("", "")
        assert kind == checksum.lower()
        fits = value == base64.b64encode(download._digest(file, kind)).decode()
        assert fits == (content == b"content")


def test_a_full_disk_is_told_before_anything_is_fetched(s3, tmp_path):
    remote = Remote("photos/huge.zip", "huge.zip", 10**18, '"x"')
    with pytest.raises(StorageError, match=r"000 MB are to be fetched, and the disk of .* MB free: make room"):
        fetch(open_bucket(URL), [remote], tmp_path)
    assert list(tmp_path.iterdir()) == []


FULL = """
import sys
from pathlib import Path
from gwainet.errors import StorageError
from gwainet.storage import download
from gwainet.storage.client import open_bucket

download.PART = 2**18
download._check_space = lambda *_: None  # the disk fills up after the look at it
bucket = open_bucket(sys.argv[1])
try:
    download.fetch(bucket, [*bucket.list("set.zip")], Path(sys.argv[2]) / "staging")
except StorageError as error:
    print(error)
"""


def test_a_disk_that_fills_up_meanwhile_is_told_and_what_came_is_kept(s3, tmp_path):
    put(s3, "set.zip", os.urandom(3 * MB))
    disk = f"mount -t tmpfs -o size=2m none {tmp_path}"
    script = f'{disk} && {sys.executable} -c "$0" {URL} {tmp_path} && ls {tmp_path}/staging'
    command = [shutil.which("unshare") or "unshare", "--map-root-user", "--mount", "sh", "-c", script, FULL]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no disk of its own can be made here: {done.stderr.strip()}")
    assert "is full: make room and run again; what was fetched is kept" in done.stdout, done.stderr
    assert ".partial" in done.stdout
    assert ".whole" not in done.stdout


def test_a_killed_process_loses_no_more_than_the_parts_under_way(s3, tmp_path, small_parts, proxy):
    content = os.urandom(6 * MB)
    put(s3, "set.zip", content)
    held = threading.Event()
    proxy.after, proxy.times = 4 * MB, 1
    proxy.before_breaking = held.wait  # this connection hangs, the others go on
    code = (
        "import sys; from pathlib import Path; from gwainet.storage import download\n"
        "from gwainet.storage.client import open_bucket\n"
        "download.PART, download.THREADS = 2**18, 1\n"
        "bucket = open_bucket(sys.argv[1]); download.fetch(bucket, [*bucket.list('set.zip')], Path(sys.argv[2]))"
    )
    running = subprocess.Popen([sys.executable, "-c", code, URL, str(tmp_path)])
    try:
        deadline = time.monotonic() + 60
        while not proxy.broken and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        running.kill()
        running.wait()
        held.set()
    before = proxy.carried
    assert brought("set.zip", tmp_path) == content
    assert proxy.carried - before < 3 * MB
