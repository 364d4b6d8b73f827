"""Stage prepare_faces: rows, splits, guides and means are what docs/formats.md says; nothing is dropped in silence."""

import gc
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from array import array
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from gwainet import images
from gwainet.dataset import Faces
from gwainet.errors import DataError, SourceError
from gwainet.files import file_digest, tree_digest
from gwainet.images import downscale
from gwainet.params import Params
from gwainet.recorder import NullRecorder
from gwainet.sources import Store, crop, open_store
from gwainet.sources.checksum import pixel_digest
from gwainet.stages import fetch_faces, prepare_faces
from tests.faces import drawn_guides
from tests.photos import (
    CROP,
    celeba_rows,
    celeba_tables,
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

COLUMNS = {
    "row": "int64",
    "identity": "str",
    "identity_index": "int64",
    "split": "str",
    "source_file": "str",
    "source_sha256": "str",
    "source_height": "int64",
    "source_width": "int64",
    "is_target": "bool",
    "guide_row": "int64",
    "other_guide_row": "int64",
}


class Notebook(NullRecorder):
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.pictures: dict[str, Image.Image] = {}
        self.files: list[Path] = []
        self.datasets: list[tuple[str, str, str]] = []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.numbers |= values

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        self.pictures[name] = picture

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.is_file()
        self.files.append(path)

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        self.datasets.append((name, digest, context))


def prepare(root: Path, settings: Params, out: str = "faces") -> Path:
    """Run both stages on `root/source`; the folder of the faces."""
    source, raw, faces = root / "source", root / "data" / "raw", root / "data" / out
    fetch_faces.run(settings, source=source, out=raw, recorder=NullRecorder())
    prepare_faces.run(settings, source=source, raw=raw, out=faces, recorder=NullRecorder())
    return faces


def info(faces: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((faces / "faces.json").read_text())
    return value


def manifest(faces: Path) -> pd.DataFrame:
    return pd.read_parquet(faces / "manifest.parquet")


def reasons(faces: Path) -> dict[str, str]:
    table = pd.read_csv(faces / "rejected.csv")
    return dict(zip(table["source_file"], table["reason"], strict=True))


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Faces of CelebA's layout: 3 people of 3 photos a split, and 2 people of one photo."""
    root = tmp_path_factory.mktemp("celeba")
    rows = celeba_rows(people_per_split=3) | {"000900.png": ("90", "0"), "000901.png": ("91", "2")}
    write_celeba(root / "source", rows)
    return prepare(root, params("celeba"))


# --- rows ------------------------------------------------------------------------------------------------------------


def test_rows_are_the_crops_of_their_photos_in_the_documented_order(celeba: Path) -> None:
    table, hr, lr = manifest(celeba), np.load(celeba / "hr.npy"), np.load(celeba / "lr.npy")
    assert list(table.columns) == list(COLUMNS)
    for column, dtype in COLUMNS.items():
        assert str(table[column].dtype) in (dtype, "object" if dtype == "str" else dtype), column
    order = table["split"].map({"train": 0, "validation": 1, "test": 2})
    keys = list(zip(order, table["identity"], table["source_file"], strict=True))
    assert keys == sorted(keys)
    assert table["row"].tolist() == list(range(27))
    assert hr.shape == (27, 32, 24, 3)
    assert lr.shape == (27, 4, 3, 3)
    for row, file in enumerate(table["source_file"]):
        seed = int(Path(file).stem) - 1  # as `write_celeba` numbers them
        assert np.array_equal(hr[row], pixels(seed)[8:40, 4:28])
        assert np.array_equal(lr[row], downscale(hr[row]))
    assert set(table["source_height"]) == {44}
    assert set(table["source_width"]) == {36}


def test_people_with_one_photo_in_a_split_are_dropped_and_listed(celeba: Path) -> None:
    assert info(celeba)["dropped"] == {"too few images": 2}
    assert reasons(celeba) == {
        "img_align_celeba/000900.png": "too few images",
        "img_align_celeba/000901.png": "too few images",
    }


def test_counts_digests_and_means_are_those_of_the_files(celeba: Path) -> None:
    facts, table = info(celeba), manifest(celeba)
    hr, lr = np.load(celeba / "hr.npy"), np.load(celeba / "lr.npy")
    assert facts["images"] == {"train": 9, "validation": 9, "test": 9}
    assert facts["identities"] == {"train": 3, "validation": 3, "test": 3}
    assert (facts["found"], facts["rejected"], facts["guides"], facts["scale"]) == (29, {}, "sampled", 8)
    assert facts["source_digest"] == file_digest(celeba.parent / "raw" / "source.json")
    train = (table["split"] == "train").to_numpy()
    for name, pictures in (("hr", hr), ("lr", lr)):
        expected = pictures[train].astype(np.float64).mean((0, 1, 2)) / 255
        assert facts["means"][name] == pytest.approx(expected.tolist(), rel=1e-14)
    pixel_digests = [pixel_digest(a, b) for a, b in zip(hr, lr, strict=True)]
    assert facts["digest"] == prepare_faces.faces_digest(table, pixel_digests)
    pixel_digests[3] = pixel_digest(hr[3] ^ 1, lr[3])
    assert facts["digest"] != prepare_faces.faces_digest(table, pixel_digests)
    assert facts["digest"] != prepare_faces.faces_digest(table.assign(guide_row=0), pixel_digests)


def test_the_digest_is_that_of_the_rows_as_json_and_of_their_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare_faces, "_CHUNK", 2)
    rows = [
        [0, 'a "quoted" name, with a comma', True, -1],
        [1, "h\u00e9l\u00e8ne/\u2603.jpg", False, 2**62],
        [2, "\U0001f600\\", True, -(2**62)],
        [3, "", False, 0],
        [4, "plain.jpg", True, 7],
    ]
    columns = ["row", "source_file", "is_target", "guide_row"]
    lines = [json.dumps(columns), *(f"{json.dumps(row)} {number:024x}" for number, row in enumerate(rows))]
    expected = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    table = pd.DataFrame(rows, columns=columns).astype({"source_file": "str"})
    assert prepare_faces.faces_digest(table, [f"{number:024x}" for number in range(5)]) == expected


@pytest.mark.parametrize("fails", [False, True])
def test_the_photos_are_opened_once_and_closed_again(
    tmp_path: Path, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Store] = []

    def opening(path: Path) -> Store:
        opened.append(open_store(path))
        assert opened[-1].files()
        return opened[-1]

    def refused(*_: object) -> None:
        raise DataError("no plan")

    write_celeba(tmp_path / "source", celeba_rows(people_per_split=3))
    paths = {"source": tmp_path / "source", "raw": tmp_path / "raw"}
    fetch_faces.run(params("celeba"), source=paths["source"], out=paths["raw"], recorder=NullRecorder())
    monkeypatch.setattr(prepare_faces, "open_store", opening)
    if fails:
        monkeypatch.setattr(prepare_faces, "plan", refused)
    with pytest.raises(DataError, match="no plan") if fails else nullcontext():
        prepare_faces.run(params("celeba"), **paths, out=tmp_path / "faces", recorder=NullRecorder())
    assert [store.files() for store in opened] == [{}]  # as a closed zip has it
    assert gc.isenabled()


def test_landmarks_are_the_lists_in_pixels_of_the_crop_and_change_no_other_byte(tmp_path: Path) -> None:
    rows = celeba_rows(people_per_split=3)
    write_celeba(tmp_path / "source", rows, {"000002.png": encoded(pixels(1)[..., :1].repeat(3, axis=2))})
    without = prepare(tmp_path, params("celeba"), "without")
    places = write_landmarks(tmp_path / "source", rows)
    made = prepare(tmp_path, params("celeba"), "with")
    # nothing tells that there could be some where there are none
    before, after = without_source(without), without_source(made)
    assert after.keys() - before.keys() == {"landmarks.npy"}
    facts, others = after.pop("faces.json"), before.pop("faces.json")
    assert {name: after[name] for name in before} == before
    assert facts.keys() - others.keys() == {"landmarks"}
    assert {name for name in others if facts[name] != others[name]} == {"digest"}
    assert others["digest"] == prepare_faces.faces_digest(manifest(without), pixels_of(without))

    files = manifest(made)["source_file"].tolist()
    assert "img_align_celeba/000002.png" not in files  # grey: rows moved up
    expected = np.array([places[file.rpartition("/")[2]] for file in files], np.float32).reshape(-1, 5, 2)
    expected -= (CROP["left"], CROP["top"])
    last = np.array([CROP["width"] - 1, CROP["height"] - 1])
    inside: npt.NDArray[np.bool_] = np.all((expected >= 0) & (expected <= last), axis=2)
    assert 0.2 < inside.mean() < 0.9
    found = np.load(made / "landmarks.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.where(inside[..., None], expected, np.nan))
    assert facts["landmarks"] == inside.all(axis=1).sum()
    np.testing.assert_array_equal(np.array(Faces(made).landmarks), found)
    assert Faces(without).landmarks is None
    assert facts["digest"] == prepare_faces.faces_digest(manifest(made), pixels_of(made), found)
    found[0, 0, 0] = 1.25
    assert facts["digest"] != prepare_faces.faces_digest(manifest(made), pixels_of(made), found)


def pixels_of(faces: Path) -> list[str]:
    return [pixel_digest(*pair) for pair in zip(np.load(faces / "hr.npy"), np.load(faces / "lr.npy"), strict=True)]


def test_a_list_of_photos_that_lie_otherwise_stops_the_stage_before_anything_is_written(tmp_path: Path) -> None:
    rows = celeba_rows()
    write_celeba(tmp_path / "source", rows)
    write_landmarks(tmp_path / "source", rows)
    path = tmp_path / "source" / "list_landmarks_align_celeba.txt"
    lines = (f"{name}{' 500' * 10}" for name in rows)
    path.write_text("\n".join(lines))
    with pytest.raises(SourceError, match=r"0% of the landmarks lie in the crop"):
        prepare(tmp_path, params("celeba"))
    assert not list((tmp_path / "data").glob("**/*faces*"))


def test_landmarks_of_a_photo_that_was_turned_are_not_known(tmp_path: Path) -> None:
    rows = celeba_rows()
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    write_celeba(tmp_path / "source", rows, {"000002.png": encoded(pixels(1), exif=turned)})
    write_landmarks(tmp_path / "source", rows)
    made = prepare(tmp_path, params("celeba"))
    known = np.isfinite(np.load(made / "landmarks.npy")).any(axis=(1, 2))
    files = manifest(made)["source_file"]
    assert files[~known].tolist() == ["img_align_celeba/000002.png"]


def test_training_opens_them(celeba: Path) -> None:
    faces = Faces(celeba)
    assert len(faces.targets("train")) == 9
    rows = faces.targets("test")
    guides = drawn_guides(faces, rows, 0)
    assert (faces.identity[guides] == faces.identity[rows]).all()
    assert (guides != rows).all()


def test_fixed_guides_share_the_person_and_other_guides_the_split_alone(celeba: Path) -> None:
    table = manifest(celeba)
    guide, other = table.loc[table["guide_row"]], table.loc[table["other_guide_row"]]
    assert (guide["row"].to_numpy() != table["row"].to_numpy()).all()
    assert guide["identity"].tolist() == table["identity"].tolist()
    assert guide["split"].tolist() == table["split"].tolist()
    assert (other["identity"].to_numpy() != table["identity"].to_numpy()).all()
    assert other["split"].tolist() == table["split"].tolist()


def test_other_people_are_drawn_uniformly_however_many_photos_they_have() -> None:
    made = prepare_faces.Made()
    made.runs = [("train", "a"), ("train", "b"), ("train", "c"), ("test", "d"), ("test", "e")]
    made.sizes = [6000, 10, 90, 2, 2]
    made.guides, made.is_target = array("q", [-1] * 6104), array("b", [1] * 6104)
    run = np.repeat(np.arange(5), made.sizes)
    guide, other = made._fixed_guides(run, params("folder").prepare_faces)
    person = run[other]
    assert 2800 < (person[:6000] == 1).sum() < 3200
    assert (person[:6000] == 2).sum() == 6000 - (person[:6000] == 1).sum()
    assert set(other[:6000][person[:6000] == 1]) == set(range(6000, 6010))
    assert other[6100:].tolist() == [6102 + n % 2 for n in other[6100:6102]] + [6100 + n % 2 for n in other[6102:]]
    assert (run[guide] == run).all()
    assert (guide != np.arange(6104)).all()


def test_what_was_made_is_recorded(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", {**people(8), "set/person03/x.jpg": b"words"})
    prepare(tmp_path, params("folder", "set.zip"))
    notebook = Notebook()
    raw, out = tmp_path / "data" / "raw", tmp_path / "data" / "faces"
    prepare_faces.run(params("folder", "set.zip"), source=tmp_path / "source", raw=raw, out=out, recorder=notebook)
    assert notebook.numbers == {
        "found": 25,
        "images.train": 12,
        "images.validation": 6,
        "images.test": 6,
        "identities.train": 4,
        "identities.validation": 2,
        "identities.test": 2,
        "rejected.not_an_image": 1,
    }
    assert [path.name for path in notebook.files] == ["faces.json", "rejected.csv"]
    assert notebook.datasets == [("small", info(out)["digest"], "prepared")]
    assert notebook.pictures["faces"].width == 6 * (24 + 4) + 4


# --- photos that cannot be used --------------------------------------------------------------------------------------


def test_every_photo_is_a_row_or_listed_with_its_reason(tmp_path: Path) -> None:
    grey = pixels(1)[..., :1].repeat(3, axis=2)
    bad = {
        "set/person00/a.jpg": b"a text",
        "set/person00/b.png": encoded(pixels(1, 1, 1)),
        "set/person01/c.png": encoded(grey),
        "set/person01/d.jpg": photo(1, "JPEG")[:-300],
        "set/person99/e.png": photo(5),
        "loose.png": photo(6),
    }
    cmyk = {"set/person02/f.jpg": encoded(Image.fromarray(pixels(7)).convert("CMYK"), "JPEG")}
    write_zip(tmp_path / "source" / "set.zip", people(8) | bad | cmyk)
    faces = prepare(tmp_path, params("folder", "set.zip"))
    facts = info(faces)
    assert reasons(faces) == {
        "set/person00/a.jpg": "not an image",
        "set/person00/b.png": "too small",
        "set/person01/c.png": "grey",
        "set/person01/d.jpg": "unreadable",
        "set/person99/e.png": "too few images",
        "loose.png": "no identity",
    }
    assert facts["rejected"] == {"grey": 1, "no identity": 1, "not an image": 1, "too small": 1, "unreadable": 1}
    assert facts["dropped"] == {"too few images": 1}
    assert facts["converted"] == {"CMYK": 1}
    assert sum(facts["images"].values()) + 6 == facts["found"] == 31
    assert "set/person02/f.jpg" in set(manifest(faces)["source_file"])
    converted = pd.read_csv(faces / "converted.csv")
    assert converted.to_numpy().tolist() == [["set/person02/f.jpg", "CMYK"]]


def test_a_person_left_with_one_usable_photo_is_cut_out_of_the_arrays(tmp_path: Path) -> None:
    members = people(15)
    for person, numbers in (("person00", "02"), ("person04", "01"), ("person08", "012")):
        members |= {f"set/{person}/{number}.png": b"damaged" for number in numbers}
    write_zip(tmp_path / "source" / "set.zip", members)
    faces = prepare(tmp_path, params("folder", "set.zip", validation=0.34, test=0.34))
    table, hr, lr = manifest(faces), np.load(faces / "hr.npy"), np.load(faces / "lr.npy")
    assert len(table) == len(hr) == len(lr) == 36
    assert info(faces)["dropped"] == {"too few images": 2}
    assert not set(table["identity"]) & {"person00", "person04", "person08"}
    for row, file in enumerate(table["source_file"]):
        seed = 100 * int(Path(file).parent.name[-2:]) + int(Path(file).stem)
        assert np.array_equal(hr[row], pixels(seed)[8:40, 4:28])
        assert np.array_equal(lr[row], downscale(hr[row]))


# --- splits and choices ----------------------------------------------------------------------------------------------


def test_processes_do_not_change_a_byte(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", {**people(10), "set/person03/1.png": b"damaged"})
    alone = prepare(tmp_path, params("folder", "set.zip", workers=1), "alone")
    together = prepare(tmp_path, params("folder", "set.zip", workers=2), "together")
    assert tree_digest(alone) == tree_digest(together)


def without_source(faces: Path) -> dict[str, Any]:
    """Digests of all files; of faces.json without the digest of source.json, which holds that of the zip itself."""
    facts = info(faces)
    del facts["source_digest"]
    return {path.name: facts if path.suffix == ".json" else file_digest(path) for path in sorted(faces.iterdir())}


@pytest.mark.parametrize("kind", ["folder", "stored", "deflated"])
def test_the_order_in_which_files_lie_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    members = {**people(10), "set/person03/1.png": b"damaged", "set/person05/9.jpg": photo(7, "JPEG")}
    shuffled = {name: members[name] for name in np.random.default_rng(0).permutation(list(members)).tolist()}
    walk = os.walk
    made = []
    for number, (order, workers) in enumerate([(members, 1), (shuffled, 2)]):
        root = tmp_path / str(number)
        if kind == "folder":
            write_folder(root / "source" / "set.zip", order)
            listed = reversed_listing if number else tuple
            monkeypatch.setattr(os, "walk", lambda *of, listed=listed, **how: map(listed, walk(*of, **how)))
        else:
            packed = zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED
            write_zip(root / "source" / "set.zip", order, packed)
        made.append(without_source(prepare(root, params("folder", "set.zip", workers=workers))))
    assert made[0] == made[1]


def reversed_listing(entry: tuple[str, list[str], list[str]]) -> tuple[str, list[str], list[str]]:
    """What `os.walk` yields on a disk that lists names the other way round."""
    entry[1].reverse()  # in place: the walk goes on in this order
    return entry[0], entry[1], entry[2][::-1]


def test_the_order_of_celebas_lists_changes_no_byte(tmp_path: Path) -> None:
    rows = celeba_rows(people_per_split=3)
    made = []
    for number, order in enumerate([list(rows), list(rows)[::-1]]):
        write_celeba(tmp_path / str(number) / "source", rows)
        source = tmp_path / str(number) / "source"
        identities, partition = celeba_tables({name: rows[name] for name in order})
        (source / "identity_CelebA.txt").write_text(identities)
        (source / "list_eval_partition.txt").write_text(partition)
        made.append(without_source(prepare(tmp_path / str(number), params("celeba"))))
    assert made[0] == made[1]


def test_what_pillow_alone_makes_of_jpegs_is_the_same_to_the_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = {f"set/person{n // 3:02}/{n}.jpg": photo(n, "JPEG") for n in range(30)}
    members["set/person00/0.jpg"] = members["set/person00/0.jpg"][:-400]
    write_zip(tmp_path / "source" / "set.zip", members)
    usual = prepare(tmp_path, params("folder", "set.zip"), "usual")
    calls = []
    monkeypatch.setattr(crop, "decode_plain", lambda content: calls.append(content))
    monkeypatch.setattr(images, "reduces_exactly", lambda *_: False)
    monkeypatch.setattr(images, "cv2", None)
    alone = prepare(tmp_path, params("folder", "set.zip"), "alone")
    assert len(calls) == 30
    assert tree_digest(usual) == tree_digest(alone)


BARE = """
import sys
for name in ("simplejpeg", "cv2", "numba", "mlflow", "dvc", "great_expectations", "boto3", "kfp", "psutil"):
    sys.modules[name] = None
from pathlib import Path
import gwainet.training.loop, gwainet.training.phases, gwainet.training.session
from tests.photos import params
from tests.stages.test_prepare_faces import prepare
prepare(Path(sys.argv[1]), params("folder", "set.zip"), "bare")
"""


def test_a_machine_with_little_but_torch_prepares_the_same_bytes(tmp_path: Path) -> None:
    members = {f"set/person{n // 3:02}/{n}.jpg": photo(n, "JPEG") for n in range(30)}
    write_zip(tmp_path / "source" / "set.zip", members)
    usual = prepare(tmp_path, params("folder", "set.zip"), "usual")
    subprocess.run([sys.executable, "-c", BARE, str(tmp_path)], check=True)
    assert tree_digest(usual) == tree_digest(tmp_path / "data" / "bare")


def test_splits_share_no_person_and_follow_shares_and_seed(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", people(30, 2))
    shares: dict[str, Any] = {"validation": 0.2, "test": 0.3}
    splits = {}
    for seed in (0, 1):
        faces = prepare(tmp_path, params("folder", "set.zip", seed=seed, **shares), f"faces{seed}")
        table = manifest(faces)
        assert info(faces)["identities"] == {"train": 15, "validation": 6, "test": 9}
        assert len(table[["identity", "split"]].drop_duplicates()) == 30
        splits[seed] = dict(zip(table["identity"], table["split"], strict=True))
    assert splits[0] != splits[1]


def test_the_fewest_people_for_three_splits_are_six(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", people(6, 2))
    assert info(prepare(tmp_path, params("folder", "set.zip")))["identities"] == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }


@pytest.mark.parametrize("source", ["celeba", "folder"])
def test_max_identities_keeps_so_many_people_in_proportion(tmp_path: Path, source: str) -> None:
    if source == "celeba":
        rows = celeba_rows(2, 4) | {f"{900 + n:06}.png": (f"9{n // 2:02}", "0") for n in range(16)}
        write_celeba(tmp_path / "source", rows)  # 12, 4 and 4 people
        images = "img_align_celeba.zip"
    else:
        write_zip(tmp_path / "source" / "set.zip", people(20, 2))
        images = "set.zip"
    faces = prepare(tmp_path, params(source, images, max_identities=13, validation=0.2, test=0.2))
    assert info(faces)["identities"] == {"train": 7, "validation": 3, "test": 3}
    assert info(faces)["dropped"] == {"over max_identities": 14}
    again = prepare(tmp_path, params(source, images, max_identities=13, validation=0.2, test=0.2, seed=1), "again")
    assert set(manifest(again)["identity"]) != set(manifest(faces)["identity"])


# --- pairs -----------------------------------------------------------------------------------------------------------


def write_pairs(root: Path, rows: list[str], replaced: Mapping[str, bytes] | None = None) -> None:
    """Targets t0.png ... and guides g0.png ... of 8 people with 2 targets each; `rows` are those of pairs.csv."""
    files = {f"t{n}.png": photo(n) for n in range(16)} | {f"g{n}.png": photo(100 + n) for n in range(8)}
    write_folder(root / "source" / "photos", files | dict(replaced or {}))
    (root / "source" / "pairs.csv").write_text("\n".join(rows) + "\n")


ROWS = ["identity,target,guide", *(f"p{n // 2},t{n}.png,g{n // 2}.png" for n in range(16))]


def test_pairs_keep_their_own_guides(tmp_path: Path) -> None:
    write_pairs(tmp_path, ROWS)
    faces = prepare(tmp_path, params("pairs", "photos"))
    table = manifest(faces)
    assert info(faces)["guides"] == "fixed"
    assert info(faces)["found"] == len(table) == 24
    assert Faces(faces).fixed_guides
    targets = table[table["is_target"]]
    assert sorted(targets["source_file"]) == sorted(f"t{n}.png" for n in range(16))
    for row in targets.to_dict("records"):
        guide, other = table.iloc[row["guide_row"]], table.iloc[row["other_guide_row"]]
        assert guide["source_file"] == f"g{int(row['source_file'][1:-4]) // 2}.png"
        assert (guide["split"], guide["identity"]) == (row["split"], row["identity"])
        assert other["source_file"].startswith("g")
        assert other["split"] == row["split"]
        assert other["identity"] != row["identity"]
    assert (table.loc[~table["is_target"], ["guide_row", "other_guide_row"]] == -1).all(axis=None)


def test_the_splits_of_the_list_are_kept(tmp_path: Path) -> None:
    parts = ["train"] * 4 + ["validation"] * 2 + ["test"] * 2
    write_pairs(tmp_path, [f"{row},{'split' if n == 0 else parts[(n - 1) // 2]}" for n, row in enumerate(ROWS)])
    table = manifest(prepare(tmp_path, params("pairs", "photos")))
    assert {(i, s) for i, s in zip(table["identity"], table["split"], strict=True)} == {
        (f"p{n}", part) for n, part in enumerate(parts)
    }


def test_a_pair_goes_when_its_guide_or_its_target_goes(tmp_path: Path) -> None:
    replaced = {
        "g0.png": b"damaged",
        "t2.png": b"damaged",
        "t4.png": b"damaged",
        "t5.png": b"damaged",
        "t6.png": photo(103),
    }
    write_pairs(tmp_path, ROWS, replaced)
    faces = prepare(tmp_path, params("pairs", "photos", validation=0.25, test=0.25))
    assert reasons(faces) == {
        "g0.png": "not an image",
        "t0.png": "no usable guide",
        "t1.png": "no usable guide",
        "t2.png": "not an image",
        "t4.png": "not an image",
        "t5.png": "not an image",
        "g2.png": "no usable target",
        "t6.png": "guide is the target",
    }
    table, hr = manifest(faces), np.load(faces / "hr.npy")
    assert len(table) == 24 - 8
    for row, file in enumerate(table["source_file"]):
        assert np.array_equal(hr[row], pixels(int(file[1:-4]) + (100 if file[0] == "g" else 0))[8:40, 4:28])


def test_pairs_can_be_split_one_by_one_as_the_paper_did(tmp_path: Path) -> None:
    write_pairs(tmp_path, ROWS)
    faces = prepare(tmp_path, params("pairs", "photos", split_pairs_by="image", validation=0.25, test=0.25))
    table = manifest(faces)
    targets = table[table["is_target"]]
    assert targets["split"].value_counts().to_dict() == {"train": 8, "validation": 4, "test": 4}
    assert len(targets[["identity", "split"]].drop_duplicates()) > 8
    guide = table.loc[targets["guide_row"]]
    assert guide["split"].tolist() == targets["split"].tolist()
    assert guide["identity"].tolist() == targets["identity"].tolist()
    assert Faces(faces).identity_size.sum() == (table.groupby(["split", "identity"]).size() ** 2).sum()


def test_a_listed_split_of_one_person_is_refused_unless_asked_for(tmp_path: Path) -> None:
    parts = ["train", "test", *["train"] * 6, *["validation"] * 4, *["test"] * 4]
    write_pairs(tmp_path, [f"{row},{'split' if n == 0 else parts[n - 1]}" for n, row in enumerate(ROWS)])
    with pytest.raises(SourceError, match=r"p0: 1 in train \(t0\.png\), 1 in test \(t1\.png\).*split_pairs_by=image"):
        prepare(tmp_path, params("pairs", "photos"))
    faces = prepare(tmp_path, params("pairs", "photos", split_pairs_by="image"))
    assert set(manifest(faces).query("identity == 'p0'")["split"]) == {"train", "test"}


# --- what stops the stage --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("members", "prepare_params", "said"),
    [
        (people(1), {}, "too few people with 2 photos or more: 1, and 6 are the fewest"),
        (people(9, 1), {}, "train 0, validation 0, test 0(.|\n)*too few images: 9 photos"),
        (
            people(9, 2),
            {"crop": {"height": 64, "width": 64}},
            r"train 0, validation 0, test 0(.|\n)*too small: 18 photos",
        ),
        (people(9, 2), {"validation": 0.0}, r"prepare_faces\.validation is 0"),
        (people(9, 2), {"max_identities": 5}, r"prepare_faces\.max_identities is 5; 6 are the fewest"),
    ],
)
def test_too_few_usable_people_stop_the_stage_with_the_numbers(
    tmp_path: Path, members: dict[str, bytes], prepare_params: dict[str, Any], said: str
) -> None:
    write_zip(tmp_path / "source" / "set.zip", members)
    with pytest.raises(DataError, match=said):
        prepare(tmp_path, params("folder", "set.zip", **prepare_params))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_a_split_that_loses_its_people_while_decoding_stops_the_stage(tmp_path: Path) -> None:
    rows = celeba_rows(people_per_split=2)
    lost = {name: b"damaged" for name, (identity, _) in rows.items() if identity == "20"}
    write_celeba(tmp_path / "source", rows, lost)
    with pytest.raises(DataError, match=r"test 1\.(.|\n)*not an image: 3 photos, such as img_align_celeba/"):
        prepare(tmp_path, params("celeba"))
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["raw"]


def test_an_earlier_result_outlives_a_failure(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", people(6))
    faces = prepare(tmp_path, params("folder", "set.zip"))
    before = tree_digest(faces)
    with pytest.raises(DataError):
        prepare(tmp_path, params("folder", "set.zip", validation=0.0))
    assert tree_digest(faces) == before


def test_photos_that_changed_since_they_were_fetched_stop_the_stage(tmp_path: Path) -> None:
    write_zip(tmp_path / "source" / "set.zip", people(6))
    faces = prepare(tmp_path, params("folder", "set.zip"))
    write_zip(tmp_path / "source" / "set.zip", people(7))
    where = {"source": tmp_path / "source", "raw": faces.parent / "raw", "out": faces}
    with pytest.raises(SourceError, match="has changed since fetch_faces"):
        prepare_faces.run(params("folder", "set.zip"), **where, recorder=NullRecorder())
    shutil.rmtree(faces.parent / "raw")
    with pytest.raises(DataError, match="run fetch_faces again"):
        prepare_faces.run(params("folder", "set.zip"), **where, recorder=NullRecorder())


def test_too_little_space_is_said_before_anything_is_decoded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"[GM]B free; 1,000,000,000,000 faces need 2,340,000\.0 GB"):
        prepare_faces.check_space(tmp_path, 10**12, 2_340_000 * 10**9)


def test_what_a_killed_run_left_does_not_count_as_space_that_is_lacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zip(tmp_path / "source" / "set.zip", people(6))
    leftover = tmp_path / "data" / ".faces.partial"
    leftover.mkdir(parents=True)
    (leftover / "hr.npy").write_bytes(bytes(10))
    usual = shutil.disk_usage

    def usage(path: Path) -> Any:  # a disk that the leftover has filled
        total, used, free = usual(path)
        return shutil._ntuple_diskusage(total, used, 0 if (leftover / "hr.npy").exists() else free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert info(prepare(tmp_path, params("folder", "set.zip")))["images"] == {"train": 6, "validation": 6, "test": 6}


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"inside_raw":'])
def test_a_damaged_source_json_names_the_stage_that_writes_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "source.json").write_text(text)
    with pytest.raises(DataError, match=r"source\.json cannot be read .*: run fetch_faces again"):
        prepare_faces.run(
            params("celeba"), source=tmp_path, raw=tmp_path, out=tmp_path / "out", recorder=NullRecorder()
        )
    assert [file.name for file in tmp_path.iterdir()] == ["source.json"]


# --- near-duplicates -------------------------------------------------------------------------------------------------


def twins(count: int) -> dict[str, bytes]:
    """People of three photos, of which the first two are one photo, saved twice: the second with a little noise."""
    made = {}
    for person in range(count):
        for number, kind in enumerate(("png", "bmp", "png")):
            picture = pixels(100 * person + max(number, 1))
            noise = np.random.default_rng(person).integers(0, 4, picture.shape, np.uint8) * (number == 1)
            made[f"set/person{person:02}/{number}.{kind}"] = encoded(picture // 2 + 64 + noise, kind.upper())
    return made


def test_no_fixed_guide_is_a_near_duplicate_of_its_target(tmp_path: Path) -> None:
    write_folder(tmp_path / "source" / "photos", twins(8))
    faces = prepare(tmp_path, params("folder", "photos"))
    table = manifest(faces)
    names = table["source_file"].str[-5:].to_numpy()
    guides = names[table["guide_row"]]
    assert set(guides[(names == "0.png") | (names == "1.bmp")]) == {"2.png"}
    assert set(guides[names == "2.png"]) <= {"0.png", "1.bmp"}
    # with the limit at 1 the guides are drawn plainly, and nothing else differs
    (tmp_path / "plain").mkdir()
    write_folder(tmp_path / "plain" / "source" / "photos", twins(8))
    drawn = manifest(prepare(tmp_path / "plain", params("folder", "photos", near_duplicate=1.0)))
    assert (drawn["guide_row"] != table["guide_row"]).any()
    assert drawn.drop(columns="guide_row").equals(table.drop(columns="guide_row"))


def test_without_near_duplicates_the_limit_changes_nothing(tmp_path: Path) -> None:
    write_folder(tmp_path / "source" / "photos", people(8))
    first = prepare(tmp_path, params("folder", "photos"), "first")
    second = prepare(tmp_path, params("folder", "photos", near_duplicate=1.0), "second")
    assert tree_digest(first) == tree_digest(second)


def test_what_the_source_lists_is_recorded(celeba: Path) -> None:
    assert info(celeba)["listed"] == {
        "photos": 29,
        "identities": 11,
        "splits": {"train": 10, "validation": 9, "test": 10},
    }


def test_a_source_without_splits_lists_none(tmp_path: Path) -> None:
    write_folder(tmp_path / "source" / "photos", people(8))
    assert info(prepare(tmp_path, params("folder", "photos")))["listed"] == {
        "photos": 24,
        "identities": 8,
        "splits": {},
    }
