"""prepare_faces in parts: together they are, byte for byte, what the stage writes alone; a wrong part is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gwainet.errors import DataError
from gwainet.params import Params
from gwainet.recorder import NullRecorder
from gwainet.stages.prepare_faces import Entry, Group
from gwainet.stages.prepare_faces_parts import merge, share, write_part
from tests.photos import (
    celeba_rows,
    encoded,
    params,
    people,
    photo,
    pixels,
    write_celeba,
    write_folder,
    write_landmarks,
    write_zip,
)
from tests.stages.test_prepare_faces import Notebook, prepare

GREY = encoded(np.repeat(pixels(9)[..., :1], 3, axis=2))


def with_bad_photos(root: Path) -> Params:
    """People of 2 to 4 photos, of which some cannot be used: persons 02 and 07 are left with too few."""
    photos = people(12, photos=4)
    for number in (0, 1, 2):
        photos[f"set/person02/{number}.png"] = b"no photo"
    for number in (1, 2, 3):
        del photos[f"set/person07/{number}.png"]
    photos["set/person05/1.png"] = GREY
    photos["set/person08/0.png"] = photos["set/person08/1.png"][:-40]
    photos["set/alone.png"] = photo(4)
    write_zip(root / "source" / "set.zip", photos)
    return params("folder", "set.zip")


def as_celeba(root: Path) -> Params:
    write_celeba(root / "source", celeba_rows(people_per_split=4), {f"{n:06}.png": GREY for n in range(1, 36, 3)})
    return params("celeba", max_identities=9)


def with_landmarks(root: Path) -> Params:
    settings = as_celeba(root)
    write_landmarks(root / "source", celeba_rows(people_per_split=4))
    return settings


def as_pairs(root: Path) -> Params:
    """Pairs whose guide cannot be used, or is the target under another name, or guides several targets."""
    rows = ["identity,target,guide"]
    photos = {f"images/{number:02}.png": photo(number) for number in range(30)}
    rows += [f"p{number:02},{2 * number:02}.png,{2 * number + 1:02}.png" for number in range(15)]
    photos |= {"images/05.png": GREY, "images/09.png": photos["images/08.png"], "images/30.png": photo(30)}
    rows.append("p10,30.png,21.png")
    write_folder(root / "source" / "images", {**photos, "images/pairs.csv": "\n".join(rows).encode()})
    return params("pairs", "images", validation=0.3, test=0.3)


SOURCES = {"folder": with_bad_photos, "celeba": as_celeba, "landmarks": with_landmarks, "pairs": as_pairs}
each_source = pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def in_parts(root: Path, settings: Params, parts: int) -> list[Path]:
    """The parts of what `prepare` has fetched."""
    data = root / "data"
    folders = [data / f"part-{part}-of-{parts}" for part in range(parts)]
    for part, out in enumerate(folders):
        write_part(settings, part, parts, source=root / "source", raw=data / "raw", out=out)
    return folders


def merged(root: Path, settings: Params, parts: list[Path], recorder: NullRecorder | None = None) -> Path:
    out = root / "data" / "merged"
    merge(settings, raw=root / "data" / "raw", parts=parts, out=out, recorder=recorder or NullRecorder())
    return out


@each_source
def test_one_three_four_or_more_parts_than_people_give_the_files_of_one_stage(
    source: Callable[[Path], Params], tmp_path: Path
) -> None:
    settings = source(tmp_path)
    whole = files(prepare(tmp_path, settings))
    assert len(json.loads(whole["faces.json"])["rejected"]) > 0
    for parts in (1, 3, 4, 40):
        folders = in_parts(tmp_path, settings, parts)
        together = files(merged(tmp_path, settings, folders[::-1]))  # in whatever order they come
        assert together.keys() == whole.keys()
        assert [name for name in whole if together[name] != whole[name]] == [], parts


def test_merging_needs_no_photo_and_records_what_the_stage_records(tmp_path: Path) -> None:
    settings, alone, together = with_bad_photos(tmp_path), Notebook(), Notebook()
    prepare(tmp_path, settings)
    from gwainet.stages import prepare_faces

    data, source = tmp_path / "data", tmp_path / "source"
    prepare_faces.run(settings, source=source, raw=data / "raw", out=data / "faces", recorder=alone)
    folders = in_parts(tmp_path, settings, 3)
    shutil.rmtree(source)
    merged(tmp_path, settings, folders, together)
    assert together.numbers == alone.numbers
    assert together.datasets == alone.datasets
    assert together.pictures["faces"].tobytes() == alone.pictures["faces"].tobytes()


def test_nobody_is_in_two_parts_and_parts_are_neighbours_of_about_one_size() -> None:
    random = np.random.default_rng(0)
    groups = [
        Group("train", f"{person:04}", tuple(Entry(f"{person}/{n}", True) for n in range(random.integers(2, 36))))
        for person in range(1000)
    ]
    total = sum(len(group.entries) for group in groups)
    for parts in (1, 2, 7, 64):
        shares = [share(groups, part, parts) for part in range(parts)]
        assert [group for own in shares for group in own] == groups
        sizes = [sum(len(group.entries) for group in own) for own in shares]
        assert max(abs(size - total / parts) for size in sizes) <= 35


def test_a_part_leaves_nothing_behind_when_it_fails_and_can_be_made_again(tmp_path: Path) -> None:
    settings = with_bad_photos(tmp_path)
    whole = files(prepare(tmp_path, settings))
    folders = in_parts(tmp_path, settings, 4)
    before = [files(folder) for folder in folders]
    archive = tmp_path / "source" / "set.zip"
    archive.rename(tmp_path / "away.zip")
    shutil.rmtree(folders[2])
    with pytest.raises(Exception, match="gone since fetch_faces saw it"):
        write_part(settings, 2, 4, source=archive.parent, raw=tmp_path / "data" / "raw", out=folders[2])
    assert not folders[2].exists()
    with pytest.raises(DataError, match="part"):
        merged(tmp_path, settings, folders)
    assert not (tmp_path / "data" / "merged").exists()
    (tmp_path / "away.zip").rename(archive)
    write_part(settings, 2, 4, source=archive.parent, raw=tmp_path / "data" / "raw", out=folders[2])
    assert [files(folder) for folder in folders] == before
    assert files(merged(tmp_path, settings, folders)) == whole


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    root = tmp_path_factory.mktemp("parts")
    settings = with_bad_photos(root)
    prepare(root, settings)
    in_parts(root, settings, 3)
    return root, settings


def copied(made: tuple[Path, Params], root: Path) -> tuple[list[Path], Params]:
    shutil.copytree(made[0] / "data", root / "data")
    return [root / "data" / f"part-{part}-of-3" for part in range(3)], made[1]


def refuse(root: Path, settings: Params, parts: list[Path], said: str) -> None:
    with pytest.raises(DataError, match=said):
        merged(root, settings, parts)
    assert not [path for path in (root / "data").iterdir() if "merged" in path.name]


@pytest.mark.parametrize("chosen", [[0, 1], [1, 2], [0, 1, 1], []], ids=["no-last", "no-first", "twice", "none"])
def test_a_part_that_is_missing_or_there_twice_is_refused(made, chosen, tmp_path):
    folders, settings = copied(made, tmp_path)
    refuse(tmp_path, settings, [folders[part] for part in chosen], "each once")


@pytest.mark.parametrize("file", ["hr.npy", "lr.npy"])
def test_an_array_that_was_cut_short_is_refused(made, file, tmp_path):
    folders, settings = copied(made, tmp_path)
    content = (folders[1] / file).read_bytes()
    (folders[1] / file).write_bytes(content[:-1])
    refuse(tmp_path, settings, folders, f"{file} holds")


def test_an_array_of_another_length_than_its_rows_is_refused(made, tmp_path):
    folders, settings = copied(made, tmp_path)
    np.save(folders[1] / "hr.npy", np.load(folders[1] / "hr.npy")[:-1])
    refuse(tmp_path, settings, folders, "differ in length")


@pytest.mark.parametrize("file", ["part.json", "rows.parquet", "hr.npy"])
def test_a_file_that_is_no_such_file_is_refused(made, file, tmp_path):
    folders, settings = copied(made, tmp_path)
    (folders[2] / file).write_bytes(b"{}")
    refuse(tmp_path, settings, folders, "again")


@pytest.mark.parametrize("name", ["rejected", "dropped", "listed", "format"])
def test_a_part_that_lacks_what_merging_needs_is_to_be_prepared_again(made, name, tmp_path):
    folders, settings = copied(made, tmp_path)
    facts = json.loads((folders[0] / "part.json").read_text())
    del facts[name]
    (folders[0] / "part.json").write_text(json.dumps(facts))
    refuse(tmp_path, settings, folders, "prepare this part again")


def test_landmarks_of_a_part_that_are_gone_cut_short_or_of_other_rows_are_refused(tmp_path: Path) -> None:
    settings = with_landmarks(tmp_path)
    whole = files(prepare(tmp_path, settings))
    folders = in_parts(tmp_path, settings, 3)
    path = folders[1] / "landmarks.npy"
    content, places = path.read_bytes(), np.load(path)
    path.write_bytes(content[:-1])
    refuse(tmp_path, settings, folders, r"landmarks\.npy cannot be read")
    np.save(path, places[1:])
    refuse(tmp_path, settings, folders, rf"landmarks\.npy holds .* for {len(places)} rows")
    path.unlink()
    refuse(tmp_path, settings, folders, r"landmarks\.npy cannot be read")
    path.write_bytes(content)
    assert files(merged(tmp_path, settings, folders)) == whole


def test_parts_of_other_params_or_photos_are_refused(made, tmp_path):
    folders, settings = copied(made, tmp_path)
    other = params("folder", "set.zip", seed=1)
    write_part(other, 1, 3, source=made[0] / "source", raw=tmp_path / "data" / "raw", out=folders[1])
    refuse(tmp_path, settings, folders, "other photos or other params")
    in_parts_again = [made[0] / "data" / folder.name for folder in folders]
    description = json.loads((tmp_path / "data" / "raw" / "source.json").read_text())
    (tmp_path / "data" / "raw" / "source.json").write_text(json.dumps({**description, "photos": 1}))
    refuse(tmp_path, settings, in_parts_again, "than fetch_faces describes")
