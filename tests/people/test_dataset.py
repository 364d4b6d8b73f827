"""The drawn people as a data set: CelebA's layout, and the same bytes for the same params."""

import io
import re
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gwainet.files import tree_digest
from gwainet.params import DrawnPeople
from gwainet.people import Counts, write_people
from gwainet.people.dataset import _layout
from gwainet.people.photo import draw_photo_and_landmarks
from gwainet.sources.landmarks import COLUMNS, read_landmarks

PARAMS = DrawnPeople(people=6, photos=(2, 3), seed=5, supersampling=1, validation=0.2, test=0.34)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counts]:
    out = tmp_path_factory.mktemp("people")
    return out, write_people(PARAMS, out, workers=1)


def rows(path: Path) -> dict[str, int]:
    return {name: int(value) for name, value in (line.split(" ") for line in path.read_text().splitlines())}


def test_the_files_are_celebas_and_agree_on_every_photo(written: tuple[Path, Counts]) -> None:
    out, counts = written
    assert sorted(path.name for path in out.iterdir()) == [
        "identity_CelebA.txt",
        "img_align_celeba.zip",
        "list_eval_partition.txt",
        "list_landmarks_align_celeba.txt",
    ]
    with zipfile.ZipFile(out / "img_align_celeba.zip") as archive:
        members = archive.infolist()
    names = [f"{number:06d}.jpg" for number in range(1, counts.photos + 1)]
    assert [member.filename for member in members] == [f"img_align_celeba/{name}" for name in names]
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
    assert list(rows(out / "identity_CelebA.txt")) == names
    assert list(rows(out / "list_eval_partition.txt")) == names
    assert re.fullmatch(r"000001\.jpg \d+", (out / "identity_CelebA.txt").read_text().splitlines()[0])


def test_every_photo_is_a_jpeg_of_celebas_size_with_a_lit_face(written: tuple[Path, Counts]) -> None:
    out, _ = written
    with zipfile.ZipFile(out / "img_align_celeba.zip") as archive:
        for name in archive.namelist():
            image = Image.open(io.BytesIO(archive.read(name)))
            assert (image.format, image.size, image.mode) == ("JPEG", (178, 218), "RGB")
            face = np.asarray(image)[80:170, 60:118]
            assert 12 < face.mean() < 235
            assert face.std() > 5


def test_each_person_has_as_many_photos_as_asked_and_their_numbers_are_mixed(written: tuple[Path, Counts]) -> None:
    out, counts = written
    identities = list(rows(out / "identity_CelebA.txt").values())
    of_person: dict[int, int] = defaultdict(int)
    for identity in identities:
        of_person[identity] += 1
    assert set(of_person) == set(range(1, PARAMS.people + 1))
    assert all(PARAMS.photos[0] <= count <= PARAMS.photos[1] for count in of_person.values())
    assert counts == Counts(photos=len(identities), identities=PARAMS.people)
    assert identities != sorted(identities)


def test_the_partition_has_the_asked_shares_and_splits_no_person(written: tuple[Path, Counts]) -> None:
    out, _ = written
    identity, partition = rows(out / "identity_CelebA.txt"), rows(out / "list_eval_partition.txt")
    parts: dict[int, set[int]] = defaultdict(set)
    for name, part in partition.items():
        parts[identity[name]].add(part)
    assert all(len(found) == 1 for found in parts.values())
    found = [part for (part,) in parts.values()]
    assert [found.count(part) for part in (0, 1, 2)] == [3, 1, 2]


def test_the_number_of_processes_changes_no_byte(written: tuple[Path, Counts], tmp_path: Path) -> None:
    out, counts = written
    assert write_people(PARAMS, tmp_path, workers=2) == counts
    assert tree_digest(tmp_path) == tree_digest(out)


def test_the_landmarks_are_those_of_the_drawing_to_a_hundredth_of_a_pixel(written: tuple[Path, Counts]) -> None:
    out, counts = written
    path = out / "list_landmarks_align_celeba.txt"
    lines = path.read_text().splitlines()
    assert lines[0] == str(counts.photos)
    assert lines[1].split() == list(COLUMNS)
    listed = read_landmarks(path, path.read_text())
    assert list(listed.rows) == list(rows(out / "identity_CelebA.txt"))
    for (identity, photo), places in zip(_layout(PARAMS).order, listed.places, strict=True):
        _, drawn = draw_photo_and_landmarks(PARAMS.seed, identity, photo, 1)
        np.testing.assert_allclose(places, drawn, atol=0.0051)


def test_another_seed_draws_other_people(written: tuple[Path, Counts], tmp_path: Path) -> None:
    out, _ = written
    write_people(PARAMS.model_copy(update={"people": 2, "seed": 6}), tmp_path, workers=1)
    with (
        zipfile.ZipFile(out / "img_align_celeba.zip") as one,
        zipfile.ZipFile(tmp_path / "img_align_celeba.zip") as two,
    ):
        mine = {one.read(name) for name in one.namelist()}
        assert not mine & {two.read(name) for name in two.namelist()}
