import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import chisquare

from gwainet.dataset import Batch, Faces, Split, open_checked
from gwainet.errors import ContractError, DataError
from gwainet.files import write_json
from tests.faces import drawn_guides, write_faces

CPU = torch.device("cpu")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("sampled") / "faces", identities=8, images=4)


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Path:
    return write_faces(tmp_path_factory.mktemp("fixed") / "faces", identities=8, images=4, guides="fixed")


@pytest.fixture
def copy(sampled, tmp_path) -> Path:
    """Prepared faces that a test may damage."""
    return Path(shutil.copytree(sampled, tmp_path / "faces"))


# ---------------------------------------------------------------- guides


def test_the_targets_of_a_split_are_all_its_rows_that_are_targets(sampled, fixed):
    for directory in (sampled, fixed):
        faces = Faces(directory)
        manifest = pd.read_parquet(directory / "manifest.parquet")
        for split in SPLITS:
            rows = faces.targets(split)
            assert rows.tolist() == manifest.query("split == @split and is_target")["row"].tolist()
            assert rows.dtype == np.int64
        together = np.concatenate([faces.targets(split) for split in SPLITS])
        assert len(together) == len(set(together.tolist())) == manifest["is_target"].sum()


def test_a_drawn_guide_is_never_the_target_and_always_of_its_identity_and_split(tmp_path):
    write_faces(tmp_path, {"train": 7, "validation": 2, "test": 3}, images=2, height=16, width=16)
    few, many = Faces(tmp_path), Faces(write_faces(tmp_path / "many", 8, images=7, height=16, width=16))
    for faces in (few, many):
        rows = np.tile(np.arange(len(faces.manifest)), 200)
        guides = drawn_guides(faces, rows, 0)
        assert (guides != rows).all()
        for column in ("identity", "split"):
            values = faces.manifest[column].to_numpy()
            assert (values[guides] == values[rows]).all()


def test_identities_of_different_sizes_keep_their_guides_apart(copy):
    manifest = pd.read_parquet(copy / "manifest.parquet")
    kept = manifest.drop(index=[1, 2, 5]).reset_index(drop=True)  # sizes 2, 3, 4, 4, ...
    kept["row"] = np.arange(len(kept))
    kept.to_parquet(copy / "manifest.parquet")
    for name in ("hr.npy", "lr.npy"):
        np.save(copy / name, np.delete(np.load(copy / name), [1, 2, 5], axis=0))
    faces = Faces(copy)
    identity = kept["identity"].to_numpy()
    for row in range(len(kept)):
        guides = drawn_guides(faces, np.full(400, row), row)
        assert set(guides.tolist()) == set(np.flatnonzero(identity == identity[row]).tolist()) - {row}


def test_offsets_bound_each_persons_run_of_rows(sampled):
    faces = Faces(sampled)
    runs = faces.manifest.groupby(["split", "identity"], sort=False)["row"]
    assert faces.offsets.tolist() == [*runs.min().tolist(), len(faces.manifest)]
    assert np.array_equal(np.diff(faces.offsets), runs.size())


def test_pairs_are_copies_of_the_arrays_rows(sampled):
    faces, rows = Faces(sampled), np.array([5, 0, 5, 3])
    targets, guides = faces.pairs(rows, rows[::-1].copy())
    assert np.array_equal(targets, faces.hr[rows])
    assert np.array_equal(guides, faces.hr[rows[::-1]])
    targets[:] = 0
    assert faces.hr[5].any()


def test_guides_are_uniform_over_the_other_images(tmp_path):
    faces = Faces(write_faces(tmp_path, {"train": 2, "validation": 2, "test": 2}, images=6, height=16, width=16))
    for row in (0, 3, 5, 8, 30):
        guides = drawn_guides(faces, np.full(60_000, row), 7 + row)
        first = row - row % 6
        counts = np.bincount(guides - first, minlength=6)
        assert counts[row - first] == 0
        assert chisquare(np.delete(counts, row - first)).pvalue > 0.01 / 5  # five of them


def test_guides_of_one_batch_are_drawn_independently(sampled):
    faces = Faces(sampled)
    guides = drawn_guides(faces, np.array([0, 1] * 3000), 3).reshape(-1, 2)
    table = pd.crosstab(guides[:, 0], guides[:, 1]).to_numpy()
    assert table.shape == (3, 3)
    assert chisquare(table.ravel()).pvalue > 0.01


def test_the_same_random_state_draws_the_same_guides_and_another_draws_others(sampled):
    faces = Faces(sampled)
    rows = np.tile(faces.targets("train"), 20)
    one, two, three = (drawn_guides(faces, rows, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)


def test_fixed_guides_are_the_manifests(fixed):
    faces = Faces(fixed)
    rows = faces.targets("train")
    manifest = pd.read_parquet(fixed / "manifest.parquet")
    for seed in range(3):
        drawn = drawn_guides(faces, rows, seed)
        assert drawn.tolist() == manifest["guide_row"].to_numpy()[rows].tolist()
    assert (manifest["identity"].to_numpy()[drawn] == manifest["identity"].to_numpy()[rows]).all()
    assert not np.isin(drawn, rows).any()


def test_an_identity_that_is_in_two_splits_is_not_one_run_of_guides(copy):
    manifest = pd.read_parquet(copy / "manifest.parquet")
    edge = int((manifest["split"] == "train").sum())  # the last of train and the first of validation are one person
    for column in ("identity", "identity_index"):
        values = manifest[column].tolist()
        values[edge : edge + 4] = [values[edge - 1]] * 4
        manifest[column] = values
    manifest.to_parquet(copy / "manifest.parquet")
    faces = Faces(copy)
    rows = np.tile(np.arange(edge - 4, edge + 4), 100)
    assert ((drawn_guides(faces, rows, 0) < edge) == (rows < edge)).all()


# ---------------------------------------------------------------- batches


flags = torch.from_numpy


def reference(directory: Path, row: int, guide: int, flip: bool = False, flip_guide: bool = False):
    """One image's part of a batch, image by image with Pillow and float64."""
    info = json.loads((directory / "faces.json").read_text())
    hr, low = np.load(directory / "hr.npy")[row], np.load(directory / "lr.npy")[row]
    gi = np.load(directory / "hr.npy")[guide]
    lru = np.asarray(Image.fromarray(low).resize((low.shape[1] * 8, low.shape[0] * 8), Image.Resampling.BICUBIC))
    if flip:
        hr, low, lru = hr[:, ::-1], low[:, ::-1], lru[:, ::-1]
    if flip_guide:
        gi = gi[:, ::-1]
    mean_lr, mean_hr = np.array(info["means"]["lr"]), np.array(info["means"]["hr"])
    parts = {
        "i_lr": low / 255.0 - mean_lr,
        "i_lru": lru / 255.0 - mean_lr,
        "i_gi": gi / 255.0 - mean_hr,
        "i_gt": hr / 127.5 - 1.0,
    }
    return {name: part.transpose(2, 0, 1) for name, part in parts.items()}


def assert_batch(batch: Batch, directory: Path, rows, guides, flips=None, guide_flips=None) -> None:
    for index, (row, guide) in enumerate(zip(rows, guides, strict=True)):
        flip = bool(flips is not None and flips[index])
        flip_guide = bool(guide_flips is not None and guide_flips[index])
        for name, expected in reference(directory, row, guide, flip, flip_guide).items():
            np.testing.assert_allclose(getattr(batch, name)[index], expected, atol=1e-6, err_msg=f"{name} {index}")


def test_a_batch_equals_the_plain_per_image_reference(sampled):
    rows, guides = np.array([9, 0, 5, 31]), np.array([8, 3, 4, 30])
    batch = Faces(sampled).batch(rows, guides, CPU)
    assert batch.i_lr.shape == (4, 3, 6, 5)
    for name in ("i_lru", "i_gi", "i_gt"):
        assert getattr(batch, name).shape == (4, 3, 48, 40)
    for name in ("i_lr", "i_lru", "i_gi", "i_gt"):
        assert getattr(batch, name).dtype == torch.float32
    assert batch.i_gt.min() >= -1
    assert batch.i_gt.max() <= 1
    assert_batch(batch, sampled, rows, guides)


def test_flips_mirror_target_and_low_resolution_together_and_the_guide_on_its_own(sampled):
    rows, guides = np.array([0, 5, 9, 14]), np.array([1, 6, 8, 13])
    flips, guide_flips = np.array([True, True, False, False]), np.array([True, False, True, False])
    faces = Faces(sampled)
    assert_batch(
        faces.batch(rows, guides, CPU, flags(flips), flags(guide_flips)),
        sampled,
        rows,
        guides,
        flips,
        guide_flips,
    )
    assert_batch(faces.batch(rows, guides, CPU, flip=flags(flips)), sampled, rows, guides, flips)
    assert_batch(
        faces.batch(rows, guides, CPU, flip_guide=flags(guide_flips)),
        sampled,
        rows,
        guides,
        None,
        guide_flips,
    )


def test_one_row_may_stand_several_times_in_a_batch_flipped_or_not(sampled):
    rows, guides, flips = np.array([3, 3, 3]), np.array([3, 2, 3]), np.array([False, True, False])
    assert_batch(
        Faces(sampled).batch(rows, guides, CPU, flags(flips), flags(flips)), sampled, rows, guides, flips, flips
    )


def test_the_training_splits_batches_are_centred(sampled):
    faces = Faces(sampled)
    rows = faces.targets("train")
    batch = faces.batch(rows, rows, CPU)
    for name in ("i_lr", "i_gi"):
        assert torch.allclose(getattr(batch, name).mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5)


def test_batches_change_nothing_on_the_disk_and_nothing_in_later_batches(sampled):
    before = {path.name: path.read_bytes() for path in sampled.iterdir()}
    faces = Faces(sampled)
    rows, every = np.arange(8), np.ones(8, bool)
    first = faces.batch(rows, rows[::-1].copy(), CPU)
    faces.batch(rows, rows, CPU, flags(every), flags(every)).i_gt.zero_()
    again = faces.batch(rows, rows[::-1].copy(), CPU)
    for name in ("i_lr", "i_lru", "i_gi", "i_gt"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert {path.name: path.read_bytes() for path in sampled.iterdir()} == before


def test_the_arrays_stay_on_the_disk(sampled):
    faces = Faces(sampled)
    assert isinstance(faces.hr, np.memmap)
    assert isinstance(faces.lr, np.memmap)


def test_what_faces_json_says_is_there(sampled):
    faces, info = Faces(sampled), json.loads((sampled / "faces.json").read_text())
    assert (faces.height, faces.width, faces.digest) == (48, 40, info["digest"])
    assert (list(faces.means.lr), list(faces.means.hr)) == (info["means"]["lr"], info["means"]["hr"])


# ---------------------------------------------------------------- what is missing, damaged or does not fit

FILES = ("faces.json", "manifest.parquet", "hr.npy", "lr.npy")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "zip", "cut", "directory"])
def test_a_missing_or_damaged_file_is_a_data_error_that_says_what_to_do(copy, name, damage):
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage == "directory":
        (copy / name).mkdir()
    elif damage != "missing":
        new = {
            "empty": b"",
            "garbage": b"\xff\xfe" * 50,
            "zip": b"PK\x03\x04" * 50,
            "cut": content[: len(content) // 2],
        }
        (copy / name).write_bytes(new[damage])
    with pytest.raises(DataError, match="run prepare_faces again") as caught:
        Faces(copy)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("name", ["hr.npy", "lr.npy"])
def test_an_array_whose_header_is_damaged_is_a_data_error_with_its_name(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes().replace(b")", b"(", 1))
    with pytest.raises(DataError, match=rf"{name} is no whole array.*run prepare_faces again"):
        Faces(copy)


def test_a_directory_that_is_not_there_is_a_data_error(tmp_path):
    with pytest.raises(DataError, match="run prepare_faces again"):
        Faces(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["height", "width", "means", "digest", "guides"])
def test_faces_json_without_a_name_is_a_data_error_with_the_name(copy, name):
    info = json.loads((copy / "faces.json").read_text())
    del info[name]
    write_json(copy / "faces.json", info)
    with pytest.raises(DataError, match=name):
        Faces(copy)


@pytest.mark.parametrize("value", [[], None, {"means": 3}, {"means": {"lr": [1, 2], "hr": [1, 2, 3]}}, {"height": "x"}])
def test_faces_json_of_the_wrong_shape_is_a_data_error(copy, value):
    info = json.loads((copy / "faces.json").read_text())
    write_json(copy / "faces.json", {**info, **value} if isinstance(value, dict) else value)
    with pytest.raises(DataError, match="run prepare_faces again"):
        Faces(copy)


@pytest.mark.parametrize("name", ["identity_index", "split", "is_target", "guide_row", "other_guide_row"])
def test_a_manifest_without_a_column_is_a_data_error_with_its_name(copy, name):
    pd.read_parquet(copy / "manifest.parquet").drop(columns=name).to_parquet(copy / "manifest.parquet")
    with pytest.raises(DataError, match=name):
        Faces(copy)


@pytest.mark.parametrize("name", ["manifest.parquet", "hr.npy", "lr.npy"])
def test_files_of_different_length_are_a_data_error(copy, name):
    if name == "manifest.parquet":
        pd.read_parquet(copy / name).iloc[:-1].to_parquet(copy / name)
    else:
        np.save(copy / name, np.load(copy / name)[:-1])
    with pytest.raises(DataError, match="run prepare_faces again"):
        Faces(copy)


@pytest.mark.parametrize("name", ["hr.npy", "lr.npy"])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.int8),
        lambda x: x[:, :-1],
        lambda x: x[:, :, :-1],
        lambda x: x[..., :1],
        lambda x: x[..., 0],
        lambda x: x.transpose(0, 3, 1, 2),
    ],
    ids=["float", "signed", "lower", "narrower", "grey", "flat", "channels first"],
)
def test_an_array_of_another_shape_or_type_is_a_data_error_with_its_name(copy, name, change):
    np.save(copy / name, change(np.load(copy / name)))
    with pytest.raises(DataError, match=name):
        Faces(copy)


def test_landmarks_are_opened_where_faces_json_tells_of_them_and_must_fit(tmp_path):
    assert Faces(write_faces(tmp_path / "plain", identities=8, images=4)).landmarks is None
    path = write_faces(tmp_path / "faces", identities=8, images=4, landmarks=True)
    faces = Faces(path)
    assert isinstance(faces.landmarks, np.memmap)
    assert faces.landmarks.shape == (len(faces.manifest), 5, 2)
    whole = np.load(path / "landmarks.npy")
    for wrong in (whole[:-1], whole[:, :4], whole.astype(np.float64)):
        np.save(path / "landmarks.npy", wrong)
        with pytest.raises(DataError, match=r"landmarks\.npy holds .* float32: run prepare_faces again"):
            Faces(path)
    (path / "landmarks.npy").unlink()
    with pytest.raises(DataError, match="run prepare_faces again"):
        Faces(path)


def test_sizes_that_are_not_those_of_faces_json_are_a_data_error(copy):
    info = json.loads((copy / "faces.json").read_text())
    write_json(copy / "faces.json", {**info, "height": 40, "width": 48})
    with pytest.raises(DataError, match=r"hr\.npy"):
        Faces(copy)


def test_a_person_with_one_image_is_a_data_error_where_guides_are_drawn(copy):
    manifest = pd.read_parquet(copy / "manifest.parquet")
    manifest.loc[0, "identity_index"] = 99
    manifest.to_parquet(copy / "manifest.parquet")
    with pytest.raises(DataError, match=r"row 0 .* no other image"):
        Faces(copy)
    info = json.loads((copy / "faces.json").read_text())
    write_json(copy / "faces.json", {**info, "guides": "fixed"})
    assert len(Faces(copy).manifest) == len(manifest)


# ---------------------------------------------------------------- open_checked


def test_checked_faces_open(sampled, tmp_path):
    write_json(tmp_path / "passed.json", {"format": 1, "digest": Faces(sampled).digest, "expectations": 3})
    assert len(open_checked(sampled, tmp_path / "passed.json").manifest) == 32


def test_faces_that_changed_after_the_check_are_refused(sampled, tmp_path):
    write_json(tmp_path / "passed.json", {"format": 1, "digest": "0" * 64, "expectations": 3})
    with pytest.raises(ContractError, match="run check_faces again"):
        open_checked(sampled, tmp_path / "passed.json")


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b"{}", b"3", b"\xff\xfe", "directory"])
def test_faces_without_a_readable_check_are_refused(sampled, tmp_path, content):
    passed = tmp_path / "passed.json"
    if content == "directory":
        passed.mkdir()
    elif isinstance(content, bytes):
        passed.write_bytes(content)
    with pytest.raises(ContractError, match="run check_faces first") as caught:
        open_checked(sampled, passed)
    assert str(passed) in str(caught.value)


def test_incomplete_faces_are_a_data_error_though_they_were_checked(copy, tmp_path):
    write_json(tmp_path / "passed.json", {"digest": Faces(copy).digest})
    (copy / "lr.npy").unlink()
    with pytest.raises(DataError, match="run prepare_faces again"):
        open_checked(copy, tmp_path / "passed.json")
