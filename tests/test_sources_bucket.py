"""fetch_faces and prepare_faces with photos in a bucket: the same files as from a folder, on one machine or on two."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gwainet.__main__ import app
from gwainet.errors import DataError, StorageError
from gwainet.files import tree_digest
from gwainet.params import Params, check_params
from gwainet.recorder import NullRecorder
from gwainet.stages import STAGES
from tests.photos import CROP, celeba_rows, people, write_celeba, write_folder, write_landmarks
from tests.storage.conftest import BUCKET, moto_server, s3, server  # noqa: F401  fixtures

URL = f"s3://{BUCKET}/photos"


def params(source: str, **fetch: object) -> Params:
    return check_params(
        {
            "profile": "small",
            "fetch_faces": {"source": source, **fetch},
            "prepare_faces": {"crop": CROP},
            "runtime": {"workers": 1},
        }
    )


def upload(client: Any, folder: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            client.upload_file(str(file), BUCKET, f"photos/{file.relative_to(folder).as_posix()}")


def run(name: str, settings: Params, root: Path) -> Path:
    stage = STAGES[name]
    paths = stage.paths("small", None, root)
    stage.function()(settings, recorder=NullRecorder(), **paths)
    return paths["out"]


def celeba(folder: Path) -> dict[str, object]:
    write_celeba(folder, celeba_rows())
    return {"source": "celeba"}


def celeba_with_landmarks(folder: Path) -> dict[str, object]:
    fetch = celeba(folder)
    write_landmarks(folder, celeba_rows())
    return fetch


def folder_of_photos(folder: Path) -> dict[str, object]:
    write_folder(folder, people(6))
    return {"source": "folder", "images": "set"}


@pytest.mark.parametrize("kind", [celeba, celeba_with_landmarks, folder_of_photos])
def test_a_bucket_gives_the_files_that_a_folder_gives_on_one_machine_or_on_two(
    s3: Any,  # noqa: F811
    tmp_path: Path,
    kind: Callable[[Path], dict[str, Any]],
) -> None:
    here, there, other = tmp_path / "here", tmp_path / "there", tmp_path / "other"
    fetch = kind(here / "data" / "source" / "small")
    upload(s3, here / "data" / "source" / "small")
    local, remote = params(**fetch), params(**fetch, location=URL)
    raw, raw_there = run("fetch_faces", local, here), run("fetch_faces", remote, there)
    assert (raw / "source.json").read_bytes() == (raw_there / "source.json").read_bytes()
    assert {file.name for file in raw_there.iterdir()} == {"source.json", "location.json"}
    expected = tree_digest(run("prepare_faces", local, here))
    assert tree_digest(run("prepare_faces", remote, there)) == expected
    shutil.copytree(raw_there, other / "data" / "small" / "raw")  # as Kubeflow carries it to another pod
    assert tree_digest(run("prepare_faces", remote, other)) == expected


def test_photos_that_changed_after_fetch_faces_are_noticed_on_another_machine(s3: Any, tmp_path: Path) -> None:  # noqa: F811
    write_folder(tmp_path / "brought", people(6))
    upload(s3, tmp_path / "brought")
    settings = params("folder", images="set", location=URL)
    raw = run("fetch_faces", settings, tmp_path)
    version = json.loads((raw / "location.json").read_text())["version"]
    shutil.copytree(raw, tmp_path / "other" / "data" / "small" / "raw")
    s3.put_object(Bucket=BUCKET, Key="photos/set/person00/9.png", Body=b"another one")
    with pytest.raises(StorageError, match=f"and fetch_faces saw {version}: they have changed"):
        run("prepare_faces", settings, tmp_path / "other")
    assert not (tmp_path / "other" / "data" / "small" / "faces").exists()
    with pytest.raises(StorageError, match=f"location_version asks for {version}: they have changed"):
        run("fetch_faces", params("folder", images="set", location=URL, location_version=version), tmp_path)
    run("prepare_faces", settings, tmp_path)  # its photos are here, unchanged


def test_a_damaged_record_of_the_location_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "source" / "small", people(6))
    settings = params("folder", images="set")
    raw = run("fetch_faces", settings, tmp_path)
    (raw / "location.json").write_text("{}")
    with pytest.raises(DataError, match="run fetch_faces again"):
        run("prepare_faces", settings, tmp_path)


def test_mirror_source_follows_the_bucket_and_does_nothing_without_one(s3: Any, tmp_path: Path) -> None:  # noqa: F811
    s3.put_object(Bucket=BUCKET, Key="photos/lfw.zip", Body=b"one")
    command = ["mirror-source", "--profile", "lfw", "--root", str(tmp_path)]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert not (tmp_path / "data").exists()
    command += ["--set", f"fetch_faces.location={URL}"]
    for content in (b"one", b"other"):
        s3.put_object(Bucket=BUCKET, Key="photos/lfw.zip", Body=content)
        assert CliRunner().invoke(app, command).exit_code == 0
        assert (tmp_path / "data" / "source" / "lfw" / "lfw.zip").read_bytes() == content
