"""Sources: what users bring is found, read and joined, or named with what is wrong."""

import io
import multiprocessing
import os
import re
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gwainet.errors import DataError, SourceError
from gwainet.params import Crop, FetchFaces
from gwainet.sources import Files, Listing, Photo, Rejection, licence, locate, open_store, reopen
from gwainet.sources.checksum import pixel_digest
from gwainet.sources.crop import Cropped, Face, crop_photo, write_faces
from gwainet.sources.packed import FaceArrays
from gwainet.sources.store import MOST_BYTES
from tests.photos import (
    CROP,
    Made,
    begin_arrays,
    celeba_rows,
    celeba_tables,
    encoded,
    made_faces,
    people,
    photo,
    pixels,
    write_celeba,
    write_folder,
    write_zip,
)

BOX = Crop(**CROP)


def listing(root: Path, source: str, images: str = "img_align_celeba.zip") -> Listing:
    return locate(FetchFaces.model_validate({"source": source, "images": images}), root).listing()


# --- missing and damaged files ---------------------------------------------------------------------------------------


def test_missing_files_are_all_named_with_place_origin_and_licence(tmp_path: Path) -> None:
    (tmp_path / "identity_CelebA.txt").write_text("000001.jpg 1\n")
    with pytest.raises(SourceError) as caught:
        locate(FetchFaces(source="celeba"), tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "img_align_celeba.zip") in message
    assert str(tmp_path / "list_eval_partition.txt") in message
    assert str(tmp_path / "identity_CelebA.txt") not in message
    assert "mmlab.ie.cuhk.edu.hk/projects/CelebA.html" in message
    assert "non-commercial research" in message


@pytest.mark.parametrize(
    ("source", "images", "said"),
    [("folder", "lfw.zip", "vis-www.cs.umass.edu/lfw"), ("folder", "mine", "README.md"), ("pairs", "p", "pairs.csv")],
)
def test_a_missing_source_says_where_to_get_it(tmp_path: Path, source: str, images: str, said: str) -> None:
    with pytest.raises(SourceError, match=re.escape(said)):
        locate(FetchFaces.model_validate({"source": source, "images": images}), tmp_path / "absent")


@pytest.mark.parametrize("images", ["/etc", "../elsewhere.zip", ""])
def test_images_outside_the_source_are_refused_since_dvc_would_not_see_them_change(tmp_path: Path, images: str) -> None:
    with pytest.raises(SourceError, match=r"fetch_faces\.images"):
        locate(FetchFaces(source="folder", images=images), tmp_path)


def test_every_licence_is_named() -> None:
    assert "research" in licence("celeba", "x.zip")
    assert "research" in licence("folder", "lfw.zip")
    assert "own" in licence("folder", "mine")
    assert "no real person" in licence("drawn", "")


def half_a_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(10):
            archive.writestr(f"{number}.png", photo(number))
    return file.getvalue()[: len(file.getvalue()) // 2]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (half_a_zip(), "cut short"),
        (b"\n<!DOCTYPE html><html><title>Google Drive - Quota exceeded</title></html>", "web page.*quota.*wait a day"),
        (b"", "is empty"),
        (b"\x1f\x8b\x08" + bytes(99), "another kind of archive.*unpack it"),
        (b"just some words", "is not a zip"),
    ],
)
def test_a_file_that_is_no_whole_zip_is_explained(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "faces.zip").write_bytes(content)
    with pytest.raises(SourceError, match=said) as caught:
        listing(tmp_path, "folder", "faces.zip")
    assert str(tmp_path / "faces.zip") in str(caught.value)


@pytest.mark.parametrize(("offset", "value", "said"), [(8, 1, "encrypted"), (10, 9, "method that Python cannot read")])
def test_a_zip_that_cannot_be_unpacked_is_explained(tmp_path: Path, offset: int, value: int, said: str) -> None:
    path = write_zip(tmp_path / "faces.zip", {"a/1.png": photo(1)})
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + offset] = value  # a field of the table at the zip's end
    path.write_bytes(content)
    with pytest.raises(SourceError, match=said):
        listing(tmp_path, "folder", "faces.zip")


# --- celeba ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["", "image_id,identity_id\n", "18\nimage_id identity_id\n"])
def test_celeba_reads_identities_and_splits_with_or_without_a_header(tmp_path: Path, header: str) -> None:
    rows = celeba_rows()
    write_celeba(tmp_path, rows)
    for name in ("identity_CelebA.txt", "list_eval_partition.txt"):
        (tmp_path / name).write_text(header + (tmp_path / name).read_text())
    found = listing(tmp_path, "celeba")
    splits = {"0": "train", "1": "validation", "2": "test"}
    assert found.photos == tuple(
        Photo(identity, f"img_align_celeba/{name}", splits[part]) for name, (identity, part) in rows.items()
    )
    assert (found.found, found.identities, found.rejected) == (18, 6, ())


def test_celeba_reads_an_unpacked_folder_as_it_reads_the_zip(tmp_path: Path) -> None:
    write_celeba(tmp_path, celeba_rows())
    with zipfile.ZipFile(tmp_path / "img_align_celeba.zip") as archive:
        archive.extractall(tmp_path)
    unpacked = listing(tmp_path, "celeba", "img_align_celeba")
    zipped = listing(tmp_path, "celeba")
    assert [(p.identity, p.split) for p in unpacked.photos] == [(p.identity, p.split) for p in zipped.photos]


def test_celeba_reads_csv_tables(tmp_path: Path) -> None:
    write_celeba(tmp_path, celeba_rows())
    expected = listing(tmp_path, "celeba")
    for name in ("identity_CelebA.txt", "list_eval_partition.txt"):
        (tmp_path / name).write_text("image_id,value\r\n" + (tmp_path / name).read_text().replace(" ", ","))
    assert listing(tmp_path, "celeba") == expected


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        ("identity_CelebA.txt", ("000002.png 0\n", ""), "identity_CelebA.txt has no row for 1 of .*000002.png"),
        ("identity_CelebA.txt", ("000002.png 0", "000002.png"), "identity_CelebA.txt, line 2: .*'000002.png'"),
        ("identity_CelebA.txt", ("000002.png 0", "000002.png 0 7"), "line 2"),
        ("identity_CelebA.txt", ("000002.png 0", "000001.png 0"), "line 2: 000001.png has a row already"),
        ("identity_CelebA.txt", ("000018.png 21", "000018.png 21\n000019.png 21"), "lacks 1 of .*000019.png"),
        ("list_eval_partition.txt", ("000002.png 0\n", ""), "list_eval_partition.txt has no row for 1 of .*000002.png"),
        ("list_eval_partition.txt", ("000002.png 0", "000002.png 3"), "list_eval_partition.txt, line 2: .*partition"),
        ("list_eval_partition.txt", ("000002.png 0", "000002.png 2"), "identity 0: 2 in train .*, 1 in test"),
    ],
)
def test_celeba_tables_that_do_not_fit_are_explained(
    tmp_path: Path, file: str, edit: tuple[str, str], said: str
) -> None:
    write_celeba(tmp_path, celeba_rows())
    text = (tmp_path / file).read_text()
    assert text.count(edit[0]) == 1
    (tmp_path / file).write_text(text.replace(*edit))
    with pytest.raises(SourceError, match=said):
        listing(tmp_path, "celeba")


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"<html>Sign in</html>", "web page"), (b"\xff\xfe0\x00", "UTF-8"), (b"image_id id\n", "no rows")],
)
def test_a_celeba_table_that_is_no_table_is_explained(tmp_path: Path, content: bytes, said: str) -> None:
    write_celeba(tmp_path, celeba_rows())
    (tmp_path / "identity_CelebA.txt").write_bytes(content)
    with pytest.raises(SourceError, match=said):
        listing(tmp_path, "celeba")


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    rows = celeba_rows()
    identities, partition = celeba_tables(rows)
    write_zip(tmp_path / "img_align_celeba.zip", {f"{d}/{name}": photo(1) for name in rows for d in "ab"})
    (tmp_path / "identity_CelebA.txt").write_text(identities)
    (tmp_path / "list_eval_partition.txt").write_text(partition)
    with pytest.raises(SourceError, match=r"holds 000001\.png twice"):
        listing(tmp_path, "celeba")


# --- folder ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [write_zip, write_folder])
def test_the_folder_of_a_photo_is_its_person_at_any_depth(tmp_path: Path, write) -> None:
    members = {
        "lfw/Ada/1.jpg": b"",
        "Bea/2.JPEG": b"",
        "deep/er/Ada/3.webp": b"",
        "loose.png": b"",
        "Bea/notes.txt": b"",
        "Bea/.hidden.png": b"",
        ".cache/Cid/4.png": b"",
        "__MACOSX/Bea/2.JPEG": b"",
    }
    write(tmp_path / "set", members)
    found = listing(tmp_path, "folder", "set")
    assert {(p.identity, p.file, p.split) for p in found.photos} == {
        ("Ada", "lfw/Ada/1.jpg", None),
        ("Bea", "Bea/2.JPEG", None),
        ("Ada", "deep/er/Ada/3.webp", None),
    }
    assert [line.file for line in found.rejected] == ["loose.png"]
    assert found.found == 4


def test_an_empty_folder_says_what_it_should_hold(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with pytest.raises(SourceError, match="no photos: expected one folder a person"):
        listing(tmp_path, "folder", "set")


def test_linked_folders_are_read_once_even_in_a_circle(tmp_path: Path) -> None:
    write_folder(tmp_path / "elsewhere", {"Ada/1.png": b""})
    write_folder(tmp_path / "set", {"Bea/1.png": b""})
    (tmp_path / "set/linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/Bea/around").symlink_to(tmp_path / "set")
    assert [p.file for p in listing(tmp_path, "folder", "set").photos] == ["Bea/1.png", "linked/Ada/1.png"]


def test_a_name_that_no_manifest_can_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "set" / "Ada"
    folder.mkdir(parents=True)
    try:
        Path(os.fsdecode(os.fsencode(folder) + b"/\xff.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    with pytest.raises(SourceError, match="not valid UTF-8: rename"):
        listing(tmp_path, "folder", "set")


# --- pairs -----------------------------------------------------------------------------------------------------------


def pairs(root: Path, text: str, files: str = "abcdefgh") -> Listing:
    write_folder(root / "photos", {f"{name}.png": name.encode() for name in files})
    (root / "pairs.csv").write_text(text)
    return listing(root, "pairs", "photos")


def test_pairs_are_read_with_identity_and_split(tmp_path: Path) -> None:
    found = pairs(tmp_path, "identity,target,guide,split\nAda,a.png,b.png,train\nBea,c.png,./d.png,test\n")
    assert found.photos == (Photo("Ada", "a.png", "train", "b.png"), Photo("Bea", "c.png", "test", "d.png"))
    assert found.found == 4


def test_a_pair_without_identity_is_a_person_unless_it_shares_a_photo(tmp_path: Path) -> None:
    found = pairs(tmp_path, "target,guide\na.png,b.png\nc.png,d.png\ne.png,b.png\n")
    assert [p.identity for p in found.photos] == ["pair-000001", "pair-000002", "pair-000001"]


def test_a_guide_that_is_the_target_and_a_second_row_of_a_target_are_rejected_with_their_line(tmp_path: Path) -> None:
    found = pairs(tmp_path, "target,guide\na.png,a.png\nc.png,d.png\nc.png,e.png\n")
    assert [p.file for p in found.photos] == ["c.png"]
    assert [(r.file, r.reason, r.detail) for r in found.rejected] == [
        ("a.png", "guide is the target", "pairs.csv, line 2"),
        ("c.png", "target listed twice", "pairs.csv, line 4"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target,guide\na.png,b.png\nx.png,y.png\n", r"lacks 2 photos .*x\.png \(line 3\)"),
        ("target,guide,spilt\na.png,b.png,test\n", "line 1: expected the columns.*spilt"),
        ("target;guide\na.png;b.png\n", "line 1"),
        ("target,guide\na.png\n", "line 2: expected 2 fields"),
        ("target,guide\na.png,b.png,train\n", "line 2: expected 2 fields"),
        ("target,guide\na.png,\n", "line 2: target and guide must name"),
        ("target,guide,split\na.png,b.png,val\n", "line 2: split is 'val'"),
        ("target,guide,split\na.png,b.png,train\nc.png,d.png,\n", "line 3: no split, while other rows have one"),
        ("identity,target,guide\nAda,a.png,b.png\nBea,c.png,b.png\n", r"line 3: b\.png belongs to Bea here and to Ada"),
        ("target,guide\na.png,a.png\n", "no usable pair"),
        ('target,guide\n"a.png,b.png\n', "line 2"),
        ("target,guide\n", "no rows"),
        ("", "line 1"),
    ],
)
def test_a_list_of_pairs_that_is_wrong_is_explained(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        pairs(tmp_path, text)


@pytest.mark.parametrize("folder", ["", "set/"])
def test_pairs_and_their_list_may_lie_in_one_zip(tmp_path: Path, folder: str) -> None:
    table = b"target,guide\nx/a.png,x/b.png\n"
    write_zip(tmp_path / "set.zip", {f"{folder}x/a.png": b"a", f"{folder}x/b.png": b"b", f"{folder}pairs.csv": table})
    files = locate(FetchFaces(source="pairs", images="set.zip"), tmp_path)
    assert files.listing().photos == (Photo("pair-000001", f"{folder}x/a.png", None, f"{folder}x/b.png"),)
    entries = files.describe()
    assert [entry["path"] for entry in entries] == ["set.zip", f"set.zip/{folder}pairs.csv"]
    assert reopen({"source": "pairs", "files": entries}, tmp_path).listing() == files.listing()


# --- photos that are none, whatever their pixels ---------------------------------------------------------------------


def linked(root: Path, name: str) -> None:
    """A zip's member that is a symbolic link."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(root / "img_align_celeba.zip", "a") as archive:
        archive.writestr(info, b"/etc/hostname")


def test_celebas_photos_that_are_links_are_listed_and_left_out_though_the_lists_name_them(tmp_path: Path) -> None:
    rows = celeba_rows()
    write_celeba(tmp_path, rows)
    write_zip(tmp_path / "img_align_celeba.zip", {f"img/{name}": photo(1) for name in list(rows)[1:]})
    linked(tmp_path, f"img/{next(iter(rows))}")
    linked(tmp_path, f"../{list(rows)[1]}")  # beside the one of that name in the folder, which is used
    found = listing(tmp_path, "celeba")
    assert len(found.photos) == len(rows) - 1
    assert [(line.file, line.reason) for line in found.rejected] == [
        (f"img/{next(iter(rows))}", "link"),
        (f"../{list(rows)[1]}", "unsafe name"),
    ]
    assert found.found == len(rows) + 1


def test_pairs_with_a_photo_that_is_no_file_are_left_out_and_listed(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {f"{name}.png": name.encode() for name in "abcdef"})
    for name in "bg":
        (tmp_path / "photos" / f"{name}.png").unlink(missing_ok=True)
        (tmp_path / "photos" / f"{name}.png").symlink_to("gone.png")
    (tmp_path / "pairs.csv").write_text(
        "target,guide\na.png,b.png\ng.png,d.png\nc.png,d.png\ne.png,f.png\ng.png,b.png\n"
    )
    found = listing(tmp_path, "pairs", "photos")
    assert [(p.file, p.guide) for p in found.photos] == [("c.png", "d.png"), ("e.png", "f.png")]
    assert {line.file: line.reason for line in found.rejected} == {"b.png": "not a file", "g.png": "not a file"}
    assert {line.file: line.reason for line in found.dropped} == {"a.png": "no usable guide"}
    assert found.found == len(found.rejected) + len(found.dropped) + 4


def test_a_listed_photo_that_is_absent_is_told_even_beside_one_that_is_no_file(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {f"{name}.png": name.encode() for name in "cd"})
    (tmp_path / "photos" / "b.png").symlink_to("gone.png")
    (tmp_path / "pairs.csv").write_text("target,guide\na.png,b.png\nc.png,d.png\n")
    with pytest.raises(SourceError, match=r"lacks 1 photos that .*: a\.png \(line 2\)"):
        listing(tmp_path, "pairs", "photos")


def test_a_folder_that_cannot_be_listed_is_an_error_not_fewer_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "set", people(2, folder=""))
    scandir = os.scandir

    def refuse(path):  # as the system does where a folder's rights are taken away, which root would not feel
        if str(path).endswith("person01"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match="person01 cannot be read"):
        listing(tmp_path, "folder", "set")


@pytest.mark.parametrize("inside", [False, True])
def test_a_list_of_absurd_size_is_refused_unread(tmp_path: Path, inside: bool) -> None:
    write_zip(tmp_path / "set.zip", {"a.png": b"a", "b.png": b"b"})
    if inside:
        with (
            zipfile.ZipFile(tmp_path / "set.zip", "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("pairs.csv", "w") as member,
        ):
            for _ in range(MOST_BYTES // 2**20 + 1):
                member.write(bytes(2**20))
    else:
        with (tmp_path / "pairs.csv").open("wb") as file:
            file.truncate(2**40)
    tracemalloc.start()
    with pytest.raises(SourceError, match=r"pairs\.csv has .* are the most that are read"):
        listing(tmp_path, "pairs", "set.zip")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_a_damaged_list_inside_a_zip_is_explained(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"a.png": b"a", "b.png": b"b", "pairs.csv": b"target,guide\na.png,b.png\n"})
    path.write_bytes(path.read_bytes().replace(b"target,guide\n", b"target,guidf\n"))
    with pytest.raises(SourceError, match=r"set\.zip: pairs\.csv cannot be read \(Bad CRC"):
        listing(tmp_path, "pairs", "set.zip")


# --- what source.json pins -------------------------------------------------------------------------------------------


def pinned(root: Path, images: str = "img_align_celeba.zip") -> tuple[Files, dict[str, object]]:
    write_celeba(root, celeba_rows())
    files = locate(FetchFaces(source="celeba", images=images), root)
    return files, {"source": "celeba", "files": files.describe()}


def test_files_that_did_not_change_open_again(tmp_path: Path) -> None:
    files, info = pinned(tmp_path)
    assert reopen(info, tmp_path).listing() == files.listing()


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "identity_CelebA.txt"])
def test_a_file_that_changed_or_went_is_refused(tmp_path: Path, name: str) -> None:
    _, info = pinned(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SourceError, match=rf"{name} has changed since fetch_faces"):
        reopen(info, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SourceError, match=rf"{name} is gone"):
        reopen(info, tmp_path)


def test_a_folder_is_pinned_by_names_and_sizes(tmp_path: Path) -> None:
    write_folder(tmp_path / "set", people(2))
    files = locate(FetchFaces(source="folder", images="set"), tmp_path)
    info = {"source": "folder", "files": files.describe()}
    (tmp_path / "set" / "notes.txt").write_text("not a photo")
    reopen(info, tmp_path)
    (tmp_path / "set" / "set/person00/0.png").unlink()
    with pytest.raises(SourceError, match="has changed"):
        reopen(info, tmp_path)


# --- one photo -------------------------------------------------------------------------------------------------------


def cropped(content: bytes) -> tuple[Cropped | Rejection, npt.NDArray[np.uint8]]:
    hr = np.zeros((BOX.height, BOX.width, 3), np.uint8)
    return crop_photo("p", content, BOX, hr), hr


def face(content: bytes) -> tuple[Cropped, npt.NDArray[np.uint8]]:
    result, hr = cropped(content)
    assert isinstance(result, Cropped), result
    return result, hr


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_crop_is_the_box_of_the_photo_and_its_lr_is_pillows_bicubic(tmp_path: Path, kind: str) -> None:
    name = f"p.{kind.lower()}"
    write_folder(tmp_path / "photos", {name: photo(1, kind)})
    ((result, hr, lr),) = made_faces(tmp_path / "photos", [name], 1, tmp_path)
    expected = np.asarray(Image.open(io.BytesIO(photo(1, kind))))[8:40, 4:28]
    low = np.asarray(Image.fromarray(expected).resize((3, 4), Image.Resampling.BICUBIC))
    assert isinstance(result, Face)
    assert np.array_equal(hr, expected)
    assert np.array_equal(lr, low)
    assert (result.photo.height, result.photo.width, result.photo.converted_from) == (44, 36, None)
    assert result.sums == (low.sum((0, 1)).tolist(), expected.sum((0, 1)).tolist())


def test_a_photo_turned_by_exif_is_cropped_as_it_is_looked_at() -> None:
    turned = Image.fromarray(pixels(1)).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # look at it turned by 90 degrees clockwise
    result, hr = face(encoded(turned, exif=exif))
    assert np.array_equal(hr, pixels(1)[8:40, 4:28])
    assert (result.height, result.width, result.converted_from) == (44, 36, "turned")


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("RGBA", "PNG"), ("P", "PNG")])
def test_photos_of_other_colour_modes_are_converted_and_say_so(mode: str, kind: str) -> None:
    result, hr = face(encoded(Image.fromarray(pixels(1)).convert(mode), kind))
    assert result.converted_from == mode
    assert np.abs(hr.astype(int) - pixels(1)[8:40, 4:28]).mean() < 30


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_photo_of_one_flat_colour_is_left_to_check_faces(kind: str) -> None:
    assert not face(encoded(np.zeros((44, 36, 3), np.uint8), kind))[1].any()


GREY = pixels(1)[..., :1].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("content", "reason", "said"),
    [
        (b"words, not pixels", "not an image", "17 bytes"),
        (b"", "not an image", "0 bytes"),
        (photo(1, "GIF"), "not an image", "no JPEG"),
        (photo(1, "JPEG")[:-300], "unreadable", "truncated"),
        (encoded(pixels(1, 1, 1)), "too small", "1 x 1 pixels .* needs 40 x 28"),
        (encoded(pixels(1, 39, 28)), "too small", "39 x 28"),
        (encoded(GREY), "grey", "channels are equal"),
        (encoded(GREY, "JPEG"), "grey", "channels are equal"),
        (encoded(Image.fromarray(GREY[..., 0])), "grey", "mode L"),
        (encoded(Image.fromarray(GREY[..., 0]).convert("LA")), "grey", "mode LA"),
    ],
)
def test_an_unusable_photo_is_rejected_with_its_reason(content: bytes, reason: str, said: str) -> None:
    result, _ = cropped(content)
    assert isinstance(result, Rejection)
    assert (result.file, result.reason) == ("p", reason)
    assert re.search(said, result.detail)


def test_bytes_that_would_be_scans_of_a_jpeg_are_pixels_in_a_bitmap() -> None:
    picture = np.full((218, 178, 3), (180, 218, 255), np.uint8)  # FF DA wherever two of its pixels meet
    content = encoded(picture, "BMP")
    assert content.count(b"\xff\xda") > 500
    made, hr = cropped(content)
    assert isinstance(made, Cropped)
    assert (hr == (180, 218, 255)).all()


def test_a_photo_of_absurd_size_is_rejected_before_it_fills_the_memory() -> None:
    huge = bytearray(encoded(Image.new("RGB", (50, 50)), "BMP"))
    huge[18:26] = (30_000).to_bytes(4, "little") * 2  # width and height in the header
    result, _ = cropped(bytes(huge))
    assert isinstance(result, Rejection)
    assert result.reason == "too large"


def test_a_zip_damaged_in_its_middle_loses_that_photo_alone(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"a/1.png": photo(1), "a/2.png": photo(2)})
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    first, second = made_faces(path, ["a/1.png", "a/2.png"], 1, tmp_path)
    assert first.result == Rejection("a/1.png", "unreadable", "Bad CRC-32 for file 'a/1.png'")
    assert isinstance(second.result, Face)


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]),
    cut=st.floats(0, 1),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(1, 255)), max_size=8),
)
def test_no_damage_to_a_photo_ends_the_stage(kind: str, cut: float, flips) -> None:
    content = bytearray(photo(3, kind))
    for place, bits in flips:
        content[int(place * (len(content) - 1))] ^= bits
    result, _ = cropped(bytes(content[: int(len(content) * max(cut, 0.3))]))
    if isinstance(result, Rejection):
        assert result.reason in {"unreadable", "not an image", "animated", "too small", "too large", "grey"}


# --- many photos -----------------------------------------------------------------------------------------------------


def test_processes_give_the_same_faces_in_the_same_order(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {**people(9, 4), "set/person00/1.png": b"damaged"})
    files = list(open_store(path).files())
    results: list[list[Made]] = []
    for workers in (1, 2):
        (tmp_path / str(workers)).mkdir()
        results.append(made_faces(path, files, workers, tmp_path / str(workers)))
    alone, together = results
    assert len(alone) == len(together) == 36
    for one, other in zip(alone, together, strict=True):
        assert one.result == other.result
        if isinstance(one.result, Face):
            assert np.array_equal(one.hr, other.hr)
            assert np.array_equal(one.lr, other.lr)
            assert one.result.pixels == pixel_digest(one.hr, one.lr)


def test_memory_does_not_grow_with_the_number_of_photos(tmp_path: Path) -> None:
    box = Crop()
    path = write_zip(tmp_path / "set.zip", {"a/1.jpg": encoded(pixels(1, 218, 178), "JPEG")})
    peaks = []
    for count in (80, 800):
        FaceArrays(tmp_path, box, create=True).close()
        files = ["a/1.jpg"] * count
        tracemalloc.start()
        assert sum(isinstance(face, Face) for face in write_faces(open_store(path), files, box, 1, tmp_path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "hr.npy").stat().st_size > 800 * 168 * 144 * 3
    assert peaks[1] - peaks[0] < 720 * 400  # bytes: where in the zip a photo lies; a crop has 72,576


def test_a_process_that_dies_ends_the_stage_with_advice(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"a/1.png": photo(1)})
    begin_arrays(tmp_path)
    faces = write_faces(open_store(path), ["a/1.png"] * 20_000, BOX, 2, tmp_path)
    next(faces)
    victim = multiprocessing.active_children()[0]
    victim.kill()
    with pytest.raises(DataError, match=r"runtime\.workers"):
        list(faces)
