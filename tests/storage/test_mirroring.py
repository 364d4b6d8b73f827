"""A folder follows a bucket: unchanged is skipped, changed replaced, gone removed, the user's own not touched."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from gwainet.errors import StorageError
from gwainet.storage import look, mirror, mirrored_before
from tests.servers.s3 import BreakingProxy
from tests.storage.conftest import BUCKET

URL = f"s3://{BUCKET}/photos"


@pytest.fixture
def put(s3: Any) -> Any:
    def put(**contents: bytes) -> None:
        for name, content in contents.items():
            s3.put_object(Bucket=BUCKET, Key=f"photos/{name.replace('__', '/').replace('_', '.')}", Body=content)

    return put


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def follow(folder: Path, *names: str) -> int:
    return mirror(look(URL, names), folder)


def test_names_bring_what_they_name_and_nothing_beside_it(s3, put, tmp_path):
    put(set_zip=b"zip", set_zip_bak=b"old", list_txt=b"list", other_txt=b"other")
    put(images__ann__1_jpg=b"1", images__ann__2_jpg=b"2", images2__x_jpg=b"x")
    s3.put_object(Bucket=BUCKET, Key="photos/images/.DS_Store", Body=b"hidden")
    s3.put_object(Bucket=BUCKET, Key="photos/images/empty/", Body=b"")
    assert follow(tmp_path / "demo", "set.zip", "list.txt", "images") == 4
    expected = {"set.zip": b"zip", "list.txt": b"list", "images/ann/1.jpg": b"1", "images/ann/2.jpg": b"2"}
    assert files(tmp_path / "demo") == expected


def test_what_is_unchanged_is_not_fetched_again(put, tmp_path, capsys):
    put(set_zip=b"zip", list_txt=b"list")
    assert follow(tmp_path / "demo", "set.zip", "list.txt") == 2
    before = (tmp_path / "demo" / "set.zip").stat()
    put(list_txt=b"LIST")
    capsys.readouterr()
    assert follow(tmp_path / "demo", "set.zip", "list.txt") == 1
    assert "fetched 1 of 2 objects" in capsys.readouterr().err
    assert files(tmp_path / "demo") == {"set.zip": b"zip", "list.txt": b"LIST"}
    assert (tmp_path / "demo" / "set.zip").stat().st_mtime_ns == before.st_mtime_ns
    assert follow(tmp_path / "demo", "set.zip", "list.txt") == 0


def test_the_version_changes_with_the_photos_and_not_with_where_they_lie(s3, put):
    put(images__1_jpg=b"1", images__2_jpg=b"2")
    before = look(URL, ["images"]).version
    for name in ("1", "2"):
        s3.put_object(Bucket=BUCKET, Key=f"elsewhere/{name}/images/{name}.jpg", Body=name.encode())
        s3.put_object(Bucket=BUCKET, Key=f"copy/images/{name}.jpg", Body=name.encode())
    assert look(f"s3://{BUCKET}/copy", ["images"]).version == before
    versions = {before}
    put(images__2_jpg=b"3")
    versions.add(look(URL, ["images"]).version)
    put(images__3_jpg=b"3")
    versions.add(look(URL, ["images"]).version)
    s3.delete_object(Bucket=BUCKET, Key="photos/images/1.jpg")
    versions.add(look(URL, ["images"]).version)
    assert len(versions) == 4


def test_a_photo_that_was_taken_out_of_the_bucket_is_removed_and_no_other_file(s3, put, tmp_path):
    put(images__1_jpg=b"1", images__2_jpg=b"2", set_zip=b"zip")
    folder = tmp_path / "demo"
    follow(folder, "images", "set.zip")
    (folder / "README.md").write_bytes(b"mine")
    s3.delete_object(Bucket=BUCKET, Key="photos/images/1.jpg")
    assert follow(folder, "images") == 0
    assert files(folder) == {"images/2.jpg": b"2", "set.zip": b"zip", "README.md": b"mine"}
    assert follow(folder, "set.zip") == 0, "what another name brought is still known"


def test_a_file_of_the_users_own_is_used_if_it_is_the_same_and_never_overwritten(put, tmp_path):
    put(set_zip=b"zip", list_txt=b"list")
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "set.zip").write_bytes(b"zip")
    assert follow(folder, "set.zip", "list.txt") == 1
    (folder / "list.txt").write_bytes(b"edited")
    before = files(folder)
    with pytest.raises(StorageError, match=r"list.txt is in the way: .*or was edited since. Move it away, or set"):
        follow(folder, "set.zip", "list.txt")
    assert files(folder) == before


def test_photos_that_are_not_in_the_bucket_are_not_mixed_with_those_that_are(put, tmp_path):
    put(images__1_jpg=b"1")
    folder = tmp_path / "demo"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"holds 1 files that are not in s3://faces/photos \(images/mine.jpg\)"):
        follow(folder, "images")
    assert files(folder) == {"images/mine.jpg": b"mine"}


@pytest.mark.parametrize("key", ["images/../../evil.jpg", "images//x.jpg", "images/./x.jpg", "images/a\\..\\b.jpg"])
def test_nothing_is_written_outside_the_folder(s3, tmp_path, key):
    s3.put_object(Bucket=BUCKET, Key="photos/images/1.jpg", Body=b"1")
    s3.put_object(Bucket=BUCKET, Key=f"photos/{key}", Body=b"evil")
    with pytest.raises(StorageError, match="is no path of a file: rename the object"):
        follow(tmp_path / "demo", "images")
    assert files(tmp_path) == {}


def test_a_name_that_the_bucket_lacks_is_told_unless_it_may_be_missing(put, tmp_path):
    put(set_zip=b"zip")
    with pytest.raises(StorageError, match=r"s3://faces/photos holds no lfw.zip: correct its name"):
        look(URL, ["lfw.zip"])
    assert look(URL, ["set.zip"], ["pairs.csv"]).names == ("set.zip",)
    put(set_zip__x_jpg=b"x")
    with pytest.raises(StorageError, match="an object and a folder at once"):
        look(URL, ["set.zip"])


def test_a_failed_attempt_leaves_all_files_as_they_were_and_the_next_one_finishes(
    put, tmp_path, small_parts, proxy: BreakingProxy, monkeypatch, server
):
    old, new = {"a_zip": b"a", "b_zip": b"b"}, {"a_zip": b"A", "b_zip": os.urandom(2**20)}
    put(**old)
    folder = tmp_path / "demo"
    follow(folder, "a.zip", "b.zip")
    put(**new)
    proxy.after, proxy.before_breaking = 400_000, proxy.close
    with pytest.raises(StorageError, match="does not answer"):
        follow(folder, "a.zip", "b.zip")
    assert files(folder) == {"a.zip": b"a", "b.zip": b"b"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    assert follow(folder, "a.zip", "b.zip") == 2
    assert files(folder) == {"a.zip": b"A", "b.zip": new["b_zip"]}
    assert {path.name for path in (tmp_path / ".demo.s3").iterdir()} <= {"mirrored.json", "lock"}


def test_what_was_mirrored_is_known_without_asking_the_bucket(put, tmp_path, monkeypatch):
    put(set_zip=b"zip")
    listing = look(URL, ["set.zip"])
    assert not mirrored_before(tmp_path / "demo", URL, listing.version)
    mirror(listing, tmp_path / "demo")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert mirrored_before(tmp_path / "demo", URL, listing.version)
    assert not mirrored_before(tmp_path / "demo", URL, "0" * 12)
    assert not mirrored_before(tmp_path / "demo", "s3://other", listing.version)


def test_a_damaged_record_costs_a_comparison_and_no_transfer(put, tmp_path):
    put(set_zip=b"zip")
    follow(tmp_path / "demo", "set.zip")
    record = tmp_path / ".demo.s3" / "mirrored.json"
    record.write_text("{")
    assert follow(tmp_path / "demo", "set.zip") == 0
    assert json.loads(record.read_text())["url"] == URL


def test_a_folder_that_is_a_link_to_another_disk_is_filled_there(put, tmp_path):
    put(set_zip=b"zip")
    (tmp_path / "disk" / "photos").mkdir(parents=True)
    (tmp_path / "demo").symlink_to(tmp_path / "disk" / "photos")
    follow(tmp_path / "demo", "set.zip")
    assert files(tmp_path / "disk" / "photos") == {"set.zip": b"zip"}
    assert (tmp_path / "disk" / ".photos.s3" / "mirrored.json").is_file()
