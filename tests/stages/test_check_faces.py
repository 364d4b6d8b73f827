import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gwainet import contract_tables, duplicates, measured, quality
from gwainet.errors import ContractError, DataError
from gwainet.images import Uint8, downscale
from gwainet.params import Params, check_params
from gwainet.recorder import NullRecorder
from gwainet.sources.landmarks import Places
from gwainet.stages import check_faces
from tests.faces import channel_means, write_faces


@dataclass
class Editable:
    """Prepared faces in memory, to be spoilt, and the params to check them with."""

    manifest: pd.DataFrame
    hr: Uint8
    lr: Uint8
    info: dict[str, Any]
    params: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> "Editable":
        info = json.loads((directory / "faces.json").read_text())
        hr, lr = np.load(directory / "hr.npy"), np.load(directory / "lr.npy")
        return cls(pd.read_parquet(directory / "manifest.parquet"), hr, lr, info)

    def paint(self, row: int, picture: Uint8) -> None:
        """Put another picture into a row, with all that follows from it."""
        self.hr[row] = picture
        self.with_lr()
        self.with_means()

    def write(self, directory: Path) -> Path:
        directory.mkdir()
        self.manifest.to_parquet(directory / "manifest.parquet", index=False)
        np.save(directory / "hr.npy", self.hr)
        np.save(directory / "lr.npy", self.lr)
        (directory / "faces.json").write_text(json.dumps(self.info))
        return directory

    def with_means(self) -> None:
        """Make the recorded means right again."""
        train = (self.manifest["split"] == "train").to_numpy()
        self.info["means"] = {"lr": channel_means(self.lr[train]), "hr": channel_means(self.hr[train])}

    def with_lr(self) -> None:
        self.lr = np.stack([downscale(image) for image in self.hr])

    def with_other_guides(self) -> None:
        """Point to the first image of another person of the split."""
        for row, entry in self.manifest[self.manifest["is_target"]].iterrows():
            others = self.manifest[
                (self.manifest["split"] == entry["split"]) & (self.manifest["identity"] != entry["identity"])
            ]
            self.manifest.loc[row, "other_guide_row"] = others["row"].iloc[0]

    def with_identity_numbers(self) -> None:
        self.manifest["identity_index"] = pd.factorize(self.manifest["identity"])[0].astype(np.int64)

    def call(self, first: int, identity: str) -> None:
        """Give the four images of the person at row `first` another name."""
        self.manifest.loc[first : first + 3, "identity"] = identity
        self.with_identity_numbers()

    def keep(self, rows: list[int]) -> None:
        self.manifest = self.manifest.iloc[rows].reset_index(drop=True)
        self.hr, self.lr = self.hr[rows], self.lr[rows]


# rows of the valid faces: 0 to 15 are four people to train on, 16 to 23 two to validate on, 24 to 39 four to test on
PEOPLE = {"train": 4, "validation": 2, "test": 4}
PHOTOS = {"train": 16, "validation": 8, "test": 16}
PUBLISHED = {"photos": 40, "identities": 10, "partition": PHOTOS}


def set_cell(column: str, row: int, value: object) -> Callable[[Editable], None]:
    def spoil(faces: Editable) -> None:
        values = faces.manifest[column].tolist()
        values[row] = value
        faces.manifest[column] = values

    return spoil


def drop_column(faces: Editable) -> None:
    del faces.manifest["is_target"]


def cut_array(faces: Editable) -> None:
    faces.lr = faces.lr[:-1]


def record_other_size(faces: Editable) -> None:
    faces.info["height"] += 8


def grow_by_four_pixels(faces: Editable) -> None:
    faces.hr = np.pad(faces.hr, ((0, 0), (0, 4), (0, 0), (0, 0)), mode="edge")
    faces.info["height"] += 4
    faces.with_lr()
    faces.with_means()


def use_fourth_split(faces: Editable) -> None:
    faces.manifest.loc[32:, "split"] = "holdout"
    faces.info["images"]["test"] = 8
    faces.info["identities"]["test"] = 2
    faces.with_other_guides()


def mix_two_people(faces: Editable) -> None:
    order = [*range(3), 4, 3, *range(5, len(faces.manifest))]  # the order is its own inverse
    faces.keep(order)
    faces.manifest["row"] = np.arange(len(order))
    for column in ("guide_row", "other_guide_row"):
        faces.manifest[column] = np.array(order)[faces.manifest[column].to_numpy()]
    faces.with_means()


def put_person_into_two_splits(faces: Editable) -> None:
    faces.call(24, "person_0000")


def copy_photo_across_splits(faces: Editable) -> None:
    set_cell("source_sha256", 24, faces.manifest["source_sha256"][0])(faces)


def leave_one_image(faces: Editable) -> None:
    faces.keep([*range(37)])
    faces.info["images"]["test"] = 13
    faces.manifest.loc[36, ["is_target", "guide_row", "other_guide_row"]] = [False, -1, -1]
    faces.with_other_guides()


def leave_only_guides(faces: Editable) -> None:
    faces.manifest.loc[36:, "is_target"] = False
    faces.manifest.loc[36:, ["guide_row", "other_guide_row"]] = -1


def record_other_images(faces: Editable) -> None:
    faces.info["images"]["train"] += 1


def record_other_identities(faces: Editable) -> None:
    faces.info["identities"]["test"] += 1


def ask_for_more_people(faces: Editable) -> None:
    faces.params["check_faces"] = {"min_test_identities": 5}


def ask_for_published_images(faces: Editable) -> None:
    faces.params["check_faces"] = {"images": {"train": 162734, "validation": 8}}


def copy_photo_of_guide(faces: Editable) -> None:
    guide = faces.manifest["guide_row"][0]
    set_cell("source_sha256", 0, faces.manifest["source_sha256"][guide])(faces)


def guide_from_other_split(faces: Editable) -> None:
    # the same person in two splits is possible only where pairs are split image by image
    faces.info["source"] = "pairs"
    faces.params["prepare_faces"] = {"split_pairs_by": "image"}
    put_person_into_two_splits(faces)
    faces.manifest.loc[0, "guide_row"] = 24


def nearly(picture: Uint8) -> Uint8:
    """The same photo, developed and saved again."""
    noise = np.random.default_rng(1).normal(0, 2, picture.shape)
    return np.clip(picture * 0.9 + 12 + noise, 0, 255).astype(np.uint8)


def copy_almost_into_guide(faces: Editable) -> None:
    faces.paint(int(faces.manifest["guide_row"][0]), nearly(faces.hr[0]))


def leave_nothing_but_near_duplicates(faces: Editable) -> None:
    for row in (1, 2, 3):
        faces.hr[row] = nearly(faces.hr[0])
    faces.paint(0, faces.hr[0])


def copy_almost_across_splits(faces: Editable) -> None:
    faces.paint(24, nearly(faces.hr[2]))


def ask_for_published_source(faces: Editable) -> None:
    faces.info["listed"] = {"photos": 40, "identities": 9, "splits": PHOTOS}
    faces.params["check_faces"] = {"published": PUBLISHED}


def ask_for_published_partition(faces: Editable) -> None:
    faces.info["listed"] = {"photos": 40, "identities": 10, "splits": PHOTOS | {"test": 15}}
    faces.params["check_faces"] = {"published": PUBLISHED}


def blacken(faces: Editable) -> None:
    faces.hr[2] = 0
    faces.with_lr()
    faces.with_means()


def darken_all(faces: Editable) -> None:
    faces.hr //= 10
    faces.with_lr()
    faces.with_means()


def record_other_means(faces: Editable) -> None:
    faces.info["means"]["hr"][1] += 2e-6


def change_lr(faces: Editable) -> None:
    faces.lr[30, 0, 0, 0] ^= 1


def reject_many(faces: Editable) -> None:
    faces.info |= {"rejected": {"not a picture": 2, "too small": 1}, "found": 43}


BREAKS: dict[str, Callable[[Editable], None]] = {
    "columns_as_promised": drop_column,
    "rows_match_arrays": cut_array,
    "sizes_as_recorded": record_other_size,
    "sizes_divisible": grow_by_four_pixels,
    "rows_numbered": set_cell("row", 3, 99),
    "nothing_missing": set_cell("source_file", 5, None),
    "splits_known": use_fourth_split,
    "identities_together": mix_two_people,
    "identities_numbered": set_cell("identity_index", 39, 99),
    "identity_in_one_split": put_person_into_two_splits,
    "photo_in_one_split": copy_photo_across_splits,
    "no_near_duplicate_across_splits": copy_almost_across_splits,
    "enough_images": leave_one_image,
    "everyone_is_a_target": leave_only_guides,
    "images_as_recorded": record_other_images,
    "identities_as_recorded": record_other_identities,
    "enough_identities": ask_for_more_people,
    "images_as_published": ask_for_published_images,
    "guide_exists": set_cell("guide_row", 0, 40),
    "guide_is_another_image": set_cell("guide_row", 0, 0),
    "guide_is_another_photo": copy_photo_of_guide,
    "guide_shows_the_person": set_cell("guide_row", 0, 4),
    "guide_in_same_split": guide_from_other_split,
    "other_guide_exists": set_cell("other_guide_row", 0, -1),
    "other_guide_shows_another": set_cell("other_guide_row", 0, 1),
    "other_guide_in_same_split": set_cell("other_guide_row", 0, 24),
    "guide_is_no_near_duplicate": copy_almost_into_guide,
    "few_near_duplicate_guides": leave_nothing_but_near_duplicates,
    "not_black": blacken,
    "means_in_range": darken_all,
    "means_as_recorded": record_other_means,
    "lr_is_downscaled": change_lr,
    "source_as_published": ask_for_published_source,
    "partition_as_published": ask_for_published_partition,
    "photos_tall_enough": set_cell("source_height", 2, 47),
    "photos_wide_enough": set_cell("source_width", 2, 39),
    "few_rejected": reject_many,
}
STRUCTURAL = {"columns_as_promised", "rows_match_arrays", "sizes_as_recorded"}


class Notebook(NullRecorder):
    """Keeps what a stage records."""

    def __init__(self) -> None:
        self.numbers: dict[str, float] = {}
        self.files: list[str] = []
        self.datasets: list[tuple[str, str, Mapping[str, object], str]] = []

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        self.numbers |= values

    def picture(self, name: str, picture: Image.Image, step: int = 0) -> None:
        raise AssertionError("the pictures are in the page")

    def artifact(self, path: Path, folder: str = "") -> None:
        assert path.is_file()
        self.files.append(path.name)

    def dataset(self, name: str, digest: str, profile: Mapping[str, object], context: str) -> None:
        self.datasets.append((name, digest, profile, context))


# the photos of one person in these faces are one picture in other light, a little shifted
ALIKE = 0.995


def params(**sections: Any) -> Params:
    prepare = {"near_duplicate": ALIKE, **sections.pop("prepare_faces", {})}
    return check_params({"profile": "demo", "prepare_faces": prepare, **sections})


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faces(tmp_path_factory.mktemp("valid") / "faces", PEOPLE)


@pytest.fixture(scope="module")
def checked(valid: Path) -> Path:
    """What the stage writes for valid faces."""
    out = valid.parent / "reports" / "check_faces"
    check_faces.run(params(), faces=valid, out=out, recorder=NullRecorder())
    return out


def check(faces: Editable, directory: Path) -> tuple[dict[str, Any], str]:
    """Run the stage on spoilt faces; validation.json and the error's message."""
    path = faces.write(directory / "faces")
    with pytest.raises(ContractError) as caught:
        check_faces.run(params(**faces.params), faces=path, out=directory / "out", recorder=NullRecorder())
    return json.loads((directory / "out" / "validation.json").read_text()), str(caught.value)


def test_every_rule_is_broken_once():
    settings = params(check_faces={"images": {"train": 1}, "published": PUBLISHED}).check_faces
    assert [rule.name for rule in quality.contract(settings, ALIKE)] == list(BREAKS)


@pytest.mark.parametrize("rule", BREAKS)
def test_breaking_a_rule_fails_it_and_no_other(valid: Path, tmp_path: Path, rule: str):
    faces = Editable.read(valid)
    BREAKS[rule](faces)

    validation, message = check(faces, tmp_path)

    results = {item["name"]: item["result"] for item in validation["expectations"]}
    assert [name for name, result in results.items() if result == "failed"] == [rule]
    if rule in STRUCTURAL:
        assert results["not_black"] == "not checked"
    else:
        assert "not checked" not in results.values()
    assert not validation["passed"]
    assert not (tmp_path / "out" / "passed.json").exists()
    broken = next(item for item in validation["expectations"] if item["name"] == rule)
    assert 1 <= broken["offending"] <= broken["checked"]
    assert 1 <= len(broken["examples"]) <= 5
    assert f"{rule}: {broken['says']} Broken by {broken['offending']} of {broken['checked']}:" in message
    for name, value in broken["examples"][0].items():
        assert f"{name} {'missing' if value is None else value}" in message
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The contract does not hold" in page
    assert f'href="#{rule}"' in page


def test_the_message_names_five_offenders_and_counts_the_rest(valid: Path, tmp_path: Path):
    faces = Editable.read(valid)
    faces.hr[3:16] = 1
    faces.with_lr()
    faces.with_means()
    validation, message = check(faces, tmp_path)
    black = next(item for item in validation["expectations"] if item["name"] == "not_black")
    assert black["offending"] == 13
    assert black["examples"][0] == {
        "row": 3,
        "identity": "person_0000",
        "split": "train",
        "source_file": "person_0000/0003.png",
        "brightest": 1,
    }
    assert message.count("brightest 1") == 5
    assert "and 8 more" in message


def test_a_missing_value_in_any_column_is_reported_and_breaks_nothing(valid: Path, tmp_path: Path):
    faces = Editable.read(valid)
    for row, column in enumerate(contract_tables.KINDS):
        faces.manifest[column] = faces.manifest[column].astype(object)
        faces.manifest.loc[row, column] = None
        if column in ("identity", "split", "source_file", "source_sha256"):
            continue
        if column == "is_target":
            faces.manifest[column] = faces.manifest[column].astype("boolean")
        else:
            faces.manifest[column] = faces.manifest[column].astype(float)
    validation, _ = check(faces, tmp_path)
    missing = next(item for item in validation["expectations"] if item["name"] == "nothing_missing")
    assert missing["offending"] == len(contract_tables.KINDS)
    assert validation["counts"]["not checked"] == 0


@pytest.mark.parametrize("guides", ["sampled", "fixed"])
def test_valid_faces_pass(tmp_path: Path, guides):
    faces = write_faces(tmp_path / "faces", guides=guides)
    check_faces.run(params(), faces=faces, out=tmp_path / "out", recorder=NullRecorder())
    assert (tmp_path / "out" / "passed.json").is_file()


def test_pairs_split_image_by_image_may_share_people_and_photos(valid: Path, tmp_path: Path):
    faces = Editable.read(valid)
    faces.info["source"] = "pairs"
    put_person_into_two_splits(faces)
    copy_photo_across_splits(faces)
    path = faces.write(tmp_path / "faces")
    by_image = params(prepare_faces={"split_pairs_by": "image"})
    check_faces.run(by_image, faces=path, out=tmp_path / "out", recorder=NullRecorder())
    names = {item["name"] for item in json.loads((tmp_path / "out" / "validation.json").read_text())["expectations"]}
    apart = {"identity_in_one_split", "photo_in_one_split", "no_near_duplicate_across_splits"}
    published = {"images_as_published", "source_as_published", "partition_as_published"}
    assert names == set(BREAKS) - apart - published - {"guide_is_no_near_duplicate"}


def test_passed_json_says_what_passed(valid: Path, checked: Path):
    digest = json.loads((valid / "faces.json").read_text())["digest"]
    expectations = len(json.loads((checked / "validation.json").read_text())["expectations"])
    assert json.loads((checked / "passed.json").read_text()) == {
        "format": 1,
        "digest": digest,
        "expectations": expectations,
    }


def test_same_faces_give_the_same_bytes(valid: Path, checked: Path, tmp_path: Path):
    check_faces.run(params(), faces=valid, out=tmp_path / "again", recorder=NullRecorder())
    files = {path.name: path.read_bytes() for path in checked.iterdir()}
    assert sorted(files) == ["distributions.json", "passed.json", "report.html", "validation.json"]
    assert {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()} == files


def test_a_failure_takes_an_earlier_passed_json_away(valid: Path, checked: Path, tmp_path: Path):
    shutil.copytree(checked, tmp_path / "out")
    faces = Editable.read(valid)
    reject_many(faces)
    check(faces, tmp_path)
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["distributions.json", "report.html", "validation.json"]


@pytest.mark.parametrize("holds", [True, False])
def test_results_are_recorded_whether_or_not_the_contract_holds(valid: Path, tmp_path: Path, holds: bool):
    faces = Editable.read(valid)
    if not holds:
        reject_many(faces)
    path = faces.write(tmp_path / "faces")
    notebook = Notebook()
    if holds:
        check_faces.run(params(), faces=path, out=tmp_path / "out", recorder=notebook)
    else:
        with pytest.raises(ContractError):
            check_faces.run(params(), faces=path, out=tmp_path / "out", recorder=notebook)
    assert notebook.numbers["expectations"] == len(BREAKS) - 3
    assert notebook.numbers["failed"] == (0 if holds else 1)
    assert notebook.numbers["mean_brightness"] == pytest.approx(faces.hr.mean())
    assert [notebook.numbers[f"images_{split}"] for split in PEOPLE] == [16, 8, 16]
    assert notebook.files == ["report.html", "validation.json", "distributions.json"]
    [(name, digest, facts, context)] = notebook.datasets
    assert (name, digest, context) == ("demo", faces.info["digest"], "checked")
    assert facts["images"] == faces.info["images"]


def test_chunks_of_any_size_measure_the_same(valid: Path, monkeypatch: pytest.MonkeyPatch):
    prepared = measured.open_prepared(valid)
    monkeypatch.setattr(measured, "CHUNK_BYTES", prepared.hr[0].nbytes * 7)
    pixels = measured.measure(prepared)
    assert np.array_equal(pixels.faces, duplicates.small_faces(prepared.hr))
    assert np.array_equal(pixels.brightest, prepared.hr.max(axis=(1, 2, 3)))
    assert np.array_equal(pixels.hr, prepared.hr.sum(axis=(1, 2), dtype=np.int64))
    assert np.array_equal(pixels.lr, prepared.lr.sum(axis=(1, 2), dtype=np.int64))


def test_a_near_duplicate_in_another_split_is_shown_with_its_twin(valid: Path, tmp_path: Path):
    faces = Editable.read(valid)
    copy_almost_across_splits(faces)
    validation, _ = check(faces, tmp_path)
    broken = next(e for e in validation["expectations"] if e["name"] == "no_near_duplicate_across_splits")
    first, second = broken["examples"]
    assert (first["row"], first["twin_row"], first["twin_split"]) == (2, 24, "test")
    assert (second["row"], second["twin_row"], second["twin_split"]) == (24, 2, "train")
    assert first["twin_correlation"] == second["twin_correlation"] > 0.95
    assert validation["statistics"]["near_duplicates"]["across_splits"] == 1
    assert "in another split" in (tmp_path / "out" / "report.html").read_text()


def test_a_guide_that_cannot_be_another_is_allowed_for_up_to_the_limit(valid: Path, tmp_path: Path):
    faces = Editable.read(valid)
    leave_nothing_but_near_duplicates(faces)
    path = faces.write(tmp_path / "faces")
    settings = params(check_faces={"max_near_duplicate_guides": 0.1})  # 4 of 40 targets
    check_faces.run(settings, faces=path, out=tmp_path / "out", recorder=NullRecorder())
    validation = json.loads((tmp_path / "out" / "validation.json").read_text())
    rule = next(e for e in validation["expectations"] if e["name"] == "few_near_duplicate_guides")
    assert (rule["result"], rule["offending"], rule["checked"]) == ("held", 4, 40)
    assert "4 allowed for" in (tmp_path / "out" / "report.html").read_text()
    assert validation["statistics"]["near_duplicates"]["pairs_of_a_person"] == 6


class Remembering(Notebook):
    """Knows what an earlier run recorded."""

    def __init__(self, text: str | None) -> None:
        super().__init__()
        self.text = text

    def earlier(self, name: str) -> str | None:
        return self.text if name == "distributions.json" else None


def test_a_distribution_that_moved_is_warned_of_with_numbers_and_stops_nothing(
    valid: Path, checked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    faces = Editable.read(valid)
    faces.hr = (faces.hr * 0.7).astype(np.uint8)
    faces.with_lr()
    faces.with_means()
    faces.info["digest"] = "f" * 64
    notebook = Remembering((checked / "distributions.json").read_text())
    check_faces.run(params(), faces=faces.write(tmp_path / "faces"), out=tmp_path / "out", recorder=notebook)
    drift = json.loads((tmp_path / "out" / "validation.json").read_text())["drift"]
    moved = {item["statistic"]: item for item in drift["statistics"]}
    assert (drift["images_before"], drift["images_now"]) == (40, 40)
    assert moved["brightness"]["median_now"] == pytest.approx(0.7 * moved["brightness"]["median_before"], rel=0.02)
    assert moved["brightness"]["distance"] > 0.5
    assert notebook.numbers["drift.brightness.moved"] == pytest.approx(moved["brightness"]["moved"])
    assert notebook.numbers["warned"] == 1
    assert "warning: distributions_as_before" in " ".join(capsys.readouterr().err.split())
    # what passed depends on the data alone: the same bytes with and without an earlier data set
    check_faces.run(params(), faces=tmp_path / "faces", out=tmp_path / "alone", recorder=NullRecorder())
    passed, alone = ((tmp_path / name / "passed.json").read_bytes() for name in ("out", "alone"))
    assert passed == alone


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2}', "no json"])
def test_an_earlier_record_that_cannot_be_read_is_said_and_not_compared(valid: Path, tmp_path: Path, text: str):
    check_faces.run(params(), faces=valid, out=tmp_path / "out", recorder=Remembering(text))
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["drift"] is None


def lose_array(directory: Path) -> None:
    (directory / "lr.npy").unlink()


def cut_manifest(directory: Path) -> None:
    path = directory / "manifest.parquet"
    path.write_bytes(path.read_bytes()[:100])


def spoil_header(directory: Path) -> None:
    path = directory / "hr.npy"
    path.write_bytes(path.read_bytes().replace(b")", b"(", 1))


def empty_array(directory: Path) -> None:
    (directory / "lr.npy").write_bytes(b"")


def use_other_format(directory: Path) -> None:
    path = directory / "faces.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))


def empty_manifest(directory: Path) -> None:
    path = directory / "manifest.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lose_array, "lr.npy"),
        (cut_manifest, "no complete prepared faces"),
        (spoil_header, "hr.npy is no whole array"),
        (empty_array, "lr.npy is no whole array"),
        (use_other_format, "format"),
        (empty_manifest, "no images at all"),
    ],
)
def test_unreadable_faces_are_refused_and_nothing_is_written(valid: Path, tmp_path: Path, spoil, says: str):
    shutil.copytree(valid, tmp_path / "faces")
    spoil(tmp_path / "faces")
    with pytest.raises(DataError, match=says) as caught:
        check_faces.run(params(), faces=tmp_path / "faces", out=tmp_path / "out", recorder=NullRecorder())
    assert "run prepare_faces again" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["faces"]


def with_landmarks(directory: Path, places: Places) -> Path:
    """Faces that have landmarks, as far as the contract can tell."""
    np.save(directory / "landmarks.npy", places)
    info = json.loads((directory / "faces.json").read_text())
    (directory / "faces.json").write_text(json.dumps({**info, "landmarks": len(places)}))
    return directory


@pytest.fixture
def places(valid: Path, tmp_path: Path) -> Places:
    """Of the valid faces, which are copied: the corners of each crop, and one that is not known."""
    shutil.copytree(valid, tmp_path / "faces")
    last = [np.load(valid / "hr.npy").shape[2] - 1, np.load(valid / "hr.npy").shape[1] - 1]
    corners = [[0, 0], last, [0, last[1]], [last[0], 0], [np.nan, np.nan]]
    return np.array([corners] * sum(PHOTOS.values()), np.float32)


def results_of(directory: Path) -> dict[str, str]:
    try:
        check_faces.run(params(), faces=directory / "faces", out=directory / "out", recorder=NullRecorder())
    except ContractError:
        assert not (directory / "out" / "passed.json").exists()
    found = json.loads((directory / "out" / "validation.json").read_text())["expectations"]
    return {item["name"]: item["result"] for item in found}


def test_landmarks_at_the_edge_of_their_crops_hold(places: Places, tmp_path: Path):
    with_landmarks(tmp_path / "faces", places)
    assert set(results_of(tmp_path).values()) == {"held"}
    assert "landmarks_in_crop" in results_of(tmp_path)


@pytest.mark.parametrize("place", [-0.5, 48.0, np.inf])
def test_a_landmark_outside_its_crop_fails_the_contract(places: Places, tmp_path: Path, place: float):
    places[7, 2, 1] = place
    with_landmarks(tmp_path / "faces", places)
    assert [name for name, result in results_of(tmp_path).items() if result == "failed"] == ["landmarks_in_crop"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda x: x[:-1], "rows_match_arrays"),
        (lambda x: x[:, :4], "sizes_as_recorded"),
        (np.float64, "sizes_as_recorded"),
    ],
)
def test_landmarks_of_another_size_fail_the_contract(places: Places, tmp_path: Path, change, rule: str):
    with_landmarks(tmp_path / "faces", change(places))
    assert [name for name, result in results_of(tmp_path).items() if result == "failed"] == [rule]


def test_landmarks_that_are_gone_are_a_data_error(places: Places, tmp_path: Path):
    (with_landmarks(tmp_path / "faces", places) / "landmarks.npy").unlink()
    with pytest.raises(DataError, match=r"landmarks\.npy"):
        results_of(tmp_path)
