"""The benchmark of preparation compares equal things."""

import tempfile
import zipfile

import numpy as np
import pytest

from benchmarks import cold, pairs, preparation
from gwainet.dataset import Faces

PHOTOS = 400


@pytest.fixture(autouse=True, name="folder")
def _folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(preparation, "PHOTOS", PHOTOS)
    monkeypatch.setattr(preparation, "_DRAWN", 4)
    return tmp_path


def value(work):
    made = work()
    assert callable(made)
    return made()


def test_the_archive_is_of_celebas_layout_and_size_and_the_same_each_time(folder):
    source = preparation.archive(PHOTOS)
    with zipfile.ZipFile(source / "img_align_celeba.zip") as zipped:
        contents = [zipped.read(info) for info in zipped.infolist()]
    assert len(set(contents)) == PHOTOS
    assert 6_500 < np.mean([len(content) for content in contents]) < 8_500
    again = source.rename(folder / "before")
    assert (preparation.archive(PHOTOS) / "img_align_celeba.zip").read_bytes() == (
        again / "img_align_celeba.zip"
    ).read_bytes()


def test_stage_loops_and_decoding_make_the_same_pictures():
    stage = value(preparation.stage(PHOTOS, 1, 1))
    loop, png = value(preparation.pillow_loop(1)), value(preparation.pillow_to_png(1))
    assert set(stage) == {f"all {PHOTOS}", "some"}
    assert stage == loop
    assert png == value(preparation.decoding(1)) == {"some": stage["some"]}


def test_all_stores_give_the_same_pairs(monkeypatch):
    monkeypatch.setattr(pairs, "FACES", PHOTOS)
    works = [build(1) for build in pairs.FORMS.values()]
    faces = Faces(pairs.prepared() / "faces")
    monkeypatch.setattr(pairs, "BATCH", 8)
    values = [value(work) for work in works]
    digests = [dict(each) for each in values]
    uint8 = [each["first batch"] for each in digests if "first batch" in each]
    as_floats = [each["first batch of floats"] for each in digests if "first batch of floats" in each]
    assert (len(set(uint8)), len(uint8)) == (1, 4)
    assert (len(set(as_floats)), len(as_floats)) == (1, 2)
    assert {"last copied": "True"} in values
    rows = np.arange(0, PHOTOS, 7)
    for name in ("png.lmdb", "raw.lmdb"):
        targets, guides = pairs.from_lmdb(name, pairs.prepared(), faces, rows, rows[::-1])
        assert np.array_equal(targets, faces.hr[rows])
        assert np.array_equal(guides, faces.hr[rows[::-1]])


@pytest.fixture(name="disk")
def _disk(folder):
    try:
        cold._check_disk(folder)
    except (OSError, AttributeError, RuntimeError) as error:
        pytest.skip(f"no page can be dropped here: {error}")


@pytest.mark.usefixtures("disk")
def test_stores_that_begin_cold_give_the_same_pairs_turn_by_turn(monkeypatch):
    monkeypatch.setattr(pairs, "FACES", PHOTOS)
    works = [build(1) for build in cold.FORMS.values()]
    turns = [[value(work) for _ in range(2)] for work in works]
    assert turns == [[turns[0][0]] * 2] * 3


@pytest.mark.usefixtures("disk")
def test_a_turn_that_begins_cold_reads_from_the_disk(monkeypatch):
    monkeypatch.setattr(pairs, "FACES", PHOTOS)
    work = cold.FORMS["mapped array, as trainings read it"](1)
    for _ in range(2):
        before = cold.bytes_read()
        check = work()
        assert cold.bytes_read() - before > 10 * 168 * 144 * 3
        assert callable(check)
        check()


def test_pages_that_are_not_dropped_are_refused(monkeypatch, folder):
    monkeypatch.setattr(cold, "_drop", lambda file: None)
    with pytest.raises(RuntimeError, match="set TMPDIR"):
        cold._check_disk(folder)
