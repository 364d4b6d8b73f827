"""Stage fetch_faces: counts and pins what the user brought, or draws people; writes nothing when it fails."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gwainet.errors import SourceError
from gwainet.files import file_digest, tree_digest
from gwainet.params import check_params
from gwainet.recorder import NullRecorder
from gwainet.stages.fetch_faces import run
from tests.photos import celeba_rows, params, people, write_celeba, write_folder, write_landmarks, write_zip

QUOTA_PAGE = b"""<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p>Too many users have viewed or downloaded this file recently.</p></body></html>"""


class Notebook(NullRecorder):
    """Keeps the metrics."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.numbers |= values


def test_celeba_is_pinned_and_counted_and_left_untouched(tmp_path: Path) -> None:
    source, out, notebook = tmp_path / "source", tmp_path / "data" / "raw", Notebook()
    write_celeba(source, celeba_rows())
    before = tree_digest(source)
    run(params("celeba"), source=source, out=out, recorder=notebook)
    assert tree_digest(source) == before
    assert [path.name for path in out.iterdir()] == ["source.json"]
    info = json.loads((out / "source.json").read_text())
    assert (info["source"], info["photos"], info["identities"], info["inside_raw"]) == ("celeba", 18, 6, False)
    assert "non-commercial" in info["licence"]
    names = ("img_align_celeba.zip", "identity_CelebA.txt", "list_eval_partition.txt")
    assert info["files"] == [
        {"role": role, "path": name, "bytes": (source / name).stat().st_size, "sha256": file_digest(source / name)}
        for role, name in zip(("images", "identities", "partition"), names, strict=True)
    ]
    assert notebook.numbers == {"photos": 18, "identities": 6}


def test_celebas_landmarks_are_pinned_where_they_are_and_missed_where_they_are_not(tmp_path: Path, capsys) -> None:
    source, out = tmp_path / "source", tmp_path / "data" / "raw"
    write_celeba(source, celeba_rows())
    run(params("celeba"), source=source, out=out, recorder=NullRecorder())
    assert "No landmarks" in capsys.readouterr().err
    write_landmarks(source, celeba_rows())
    run(params("celeba"), source=source, out=out, recorder=NullRecorder())
    assert "No landmarks" not in capsys.readouterr().err
    (entry,) = json.loads((out / "source.json").read_text())["files"][3:]
    assert (entry["role"], entry["sha256"]) == ("landmarks", file_digest(source / "list_landmarks_align_celeba.txt"))


def test_the_same_source_gives_the_same_bytes(tmp_path: Path) -> None:
    write_folder(tmp_path / "source" / "set", people(3))
    for name in ("a", "b"):
        run(params("folder", "set"), source=tmp_path / "source", out=tmp_path / name, recorder=NullRecorder())
    assert tree_digest(tmp_path / "a") == tree_digest(tmp_path / "b")


def test_people_are_drawn_in_celebas_layout(tmp_path: Path) -> None:
    drawn = {"people": 10, "photos": [2, 3], "supersampling": 1}
    settings = check_params(
        {"profile": "demo", "fetch_faces": {"source": "drawn", "drawn": drawn}, "runtime": {"workers": 1}}
    )
    notebook = Notebook()
    run(settings, source=tmp_path / "absent", out=tmp_path / "raw", recorder=notebook)
    info = json.loads((tmp_path / "raw" / "source.json").read_text())
    assert (info["source"], info["identities"], info["inside_raw"]) == ("drawn", 10, True)
    assert 20 <= info["photos"] <= 30
    assert notebook.numbers == {"photos": info["photos"], "identities": 10}
    assert {path.name for path in (tmp_path / "raw").iterdir()} == {
        "source.json",
        *(entry["path"] for entry in info["files"]),
    }


@pytest.mark.parametrize("earlier", [False, True])
def test_a_failure_writes_nothing_and_leaves_an_earlier_result_alone(tmp_path: Path, earlier: bool) -> None:
    source, out = tmp_path / "source", tmp_path / "data" / "raw"
    write_zip(source / "set.zip", people(3))
    if earlier:
        run(params("folder", "set.zip"), source=source, out=out, recorder=NullRecorder())
    before = tree_digest(tmp_path / "data") if earlier else None
    content = (source / "set.zip").read_bytes()
    (source / "set.zip").write_bytes(content[: len(content) // 2])
    with pytest.raises(SourceError, match="cut short"):
        run(params("folder", "set.zip"), source=source, out=out, recorder=NullRecorder())
    if earlier:
        assert tree_digest(tmp_path / "data") == before
    else:
        assert not out.exists()
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.parent != source]


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("img_align_celeba.zip", lambda _: QUOTA_PAGE, "img_align_celeba.zip is a web page.*quota.*wait a day"),
        ("img_align_celeba.zip", lambda whole: whole[:-100], "img_align_celeba.zip is cut short.*get it again"),
        ("identity_CelebA.txt", lambda _: QUOTA_PAGE, "identity_CelebA.txt is a web page.*quota.*wait a day"),
        ("identity_CelebA.txt", lambda whole: whole[:100], "identity_CelebA.txt.*get it again"),
        ("list_eval_partition.txt", lambda whole: whole[:100], "list_eval_partition.txt.*get it again"),
    ],
)
def test_a_download_of_celeba_that_failed_is_explained_and_left_as_it_is(
    tmp_path: Path, name: str, damage: Callable[[bytes], bytes], said: str
) -> None:
    source = tmp_path / "source"
    write_celeba(source, celeba_rows())
    damaged = damage((source / name).read_bytes())
    (source / name).write_bytes(damaged)
    with pytest.raises(SourceError, match=said):
        run(params("celeba"), source=source, out=tmp_path / "data" / "raw", recorder=NullRecorder())
    assert (source / name).read_bytes() == damaged
    assert not (tmp_path / "data" / "raw").exists()
