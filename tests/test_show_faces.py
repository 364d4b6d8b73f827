"""`python -m gwainet show-faces`: a picture for people, or a clear error."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from gwainet.__main__ import app
from gwainet.recorder import NullRecorder
from gwainet.show_faces import _cut, _font, _photo, _spread
from gwainet.sources.store import open_store
from gwainet.stages import fetch_faces, prepare_faces
from tests.faces import write_faces
from tests.photos import params as profile_params
from tests.photos import people, photo, write_folder, write_zip
from tests.test_main import plain

Call = Callable[..., Result]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text("profile: small\nbase: {}\nprofiles: {small: {}}\n")
    write_faces(tmp_path / "data" / "small" / "faces", {"train": 3, "validation": 2, "test": 2})
    return tmp_path


@pytest.fixture
def call(root: Path, monkeypatch: pytest.MonkeyPatch) -> Call:
    monkeypatch.chdir(root)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["show-faces", "--out", "sheet.png", *arguments])


def test_a_persons_faces_are_all_on_the_sheet_with_input_and_guide(call: Call, root: Path):
    result = call("--identity", "person_0001")
    assert result.exit_code == 0, result.output
    assert "person_0001, 4 images: sheet.png" in plain(result.output)
    sheet = np.asarray(Image.open(root / "sheet.png"))
    hr = np.load(root / "data" / "small" / "faces" / "hr.npy")
    table = pd.read_parquet(root / "data" / "small" / "faces" / "manifest.parquet")
    for row in (4, 7):
        assert contains(sheet, hr[row])
        assert contains(sheet, hr[table["guide_row"][row]])
    assert not contains(sheet, hr[0])


def contains(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a picture stands somewhere on the sheet, pixel by pixel."""
    height, width = picture.shape[:2]
    corner = (sheet[: 1 - height or None, : 1 - width or None] == picture[0, 0]).all(axis=2)
    return any(
        (sheet[y : y + height, x : x + width] == picture).all() for y, x in zip(*np.nonzero(corner), strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [((), "all splits, 28 images of 7 people"), (("--split", "test"), "the test split, 8 images of 2 people")],
)
def test_a_split_or_all_of_them_can_be_shown(call: Call, root: Path, arguments: tuple[str, ...], says: str):
    result = call(*arguments)
    assert says in plain(result.output)
    assert Image.open(root / "sheet.png").size[1] > 48


def test_what_is_left_out_is_said(call: Call):
    assert "28 images of 7 people, 5 shown, 23 left out" in plain(call("--most", "5").output)


def test_of_many_rows_evenly_spread_ones_are_shown():
    assert _spread(np.arange(10), 4).tolist() == [0, 3, 6, 9]
    assert _spread(np.arange(3), 4).tolist() == [0, 1, 2]


def test_a_wrong_name_gets_the_nearest_ones(call: Call, root: Path):
    result = call("--identity", "Persn_0001")
    assert result.exit_code == 1
    assert "did you mean person_0001" in plain(result.output)
    assert not (root / "sheet.png").exists()


def test_a_name_like_no_other_gets_some(call: Call):
    assert "none is near; there are person_0000, person_0001" in plain(call("--identity", "zzz").output)


def test_a_person_outside_the_split_is_an_error(call: Call):
    result = call("--identity", "person_0000", "--split", "test")
    assert (result.exit_code, "person_0000 has no image in the test split" in plain(result.output)) == (1, True)


def test_without_prepared_faces_it_says_what_to_run(call: Call, root: Path):
    (root / "data" / "small" / "faces" / "hr.npy").unlink()
    result = call()
    assert result.exit_code == 1
    assert "run prepare_faces again" in plain(result.output)
    assert "run fetch_faces and prepare_faces" in plain(call("--rejected").output)


def test_rejected_stands_alone(call: Call):
    assert call("--rejected", "--split", "test").exit_code == 2


def test_photos_that_were_not_used_are_shown_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "params.yaml").write_text("profile: own\nbase: {}\nprofiles: {own: {}}\n")
    source, data = tmp_path / "data" / "source" / "own", tmp_path / "data" / "own"
    write_folder(source / "photos", people(7) | {"set/person00/bad.png": b"no picture"})
    settings = profile_params("folder", "photos")
    fetch_faces.run(settings, source=source, out=data / "raw", recorder=NullRecorder())
    prepare_faces.run(settings, source=source, raw=data / "raw", out=data / "faces", recorder=NullRecorder())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, ["show-faces", "--rejected", "--out", "sheet.jpg"])
    assert result.exit_code == 0, result.output
    assert "1 photos that were not used (not an image 1)" in plain(result.output)
    assert Image.open("sheet.jpg").format == "JPEG"


def test_long_lines_are_shortened_where_they_say_least():
    font = _font(13)
    assert _cut("short", 200, font) == "short"
    path, words = _cut("a/" * 60 + "end.jpg", 120, font), _cut("these are words " * 20, 120, font)
    assert path.startswith("...")
    assert path.endswith("end.jpg")
    assert words.startswith("these are")
    assert words.endswith("...")
    assert max(font.getlength(text) for text in (path, words)) <= 120


@pytest.mark.parametrize("place", ["a zip", "a folder"])
def test_a_photo_that_cannot_be_read_is_a_tile_that_says_so(tmp_path: Path, place: str):
    name, photos = "set/person00/bad.png", {"set/person00/bad.png": photo(1)}
    if place == "a zip":
        path = write_zip(tmp_path / "photos.zip", photos)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    else:
        path = write_folder(tmp_path / "photos", {})
        (path / name).parent.mkdir(parents=True)
        os.mkfifo(path / name)  # without a writer it would be waited for
    with closing(open_store(path)) as store:
        tile = np.asarray(_photo(store, name))
    assert 1 < len(np.unique(tile.reshape(-1, 3), axis=0)) < 300  # grey, and words
    assert tuple(tile[0, 0]) == (0xD8, 0xDB, 0xE0)
