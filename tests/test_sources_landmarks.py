"""CelebA's list of landmarks: what is read of it, what is wrong with it, and where its places lie in a crop."""

from pathlib import Path

import numpy as np
import pytest

from gwainet.errors import SourceError
from gwainet.params import Crop, FetchFaces
from gwainet.sources import Listing, locate
from gwainet.sources.landmarks import COLUMNS, Landmarks, read_landmarks
from tests.photos import CROP, celeba_rows, write_celeba, write_folder, write_landmarks, write_zip

FILE = "list_landmarks_align_celeba.txt"
PATH = Path(FILE)
COUNT = "2\n" + " ".join(COLUMNS) + "\n"
ROWS = "000001.jpg  69  109 106 113 77 142  73 152 108   154\n000002.jpg 1 2 3 4 5 6 7 8 9 10.5\n"
PLACES = [
    [[69, 109], [106, 113], [77, 142], [73, 152], [108, 154]],
    [[1, 2], [3, 4], [5, 6], [7, 8], [9, 10.5]],
]
QUOTA_PAGE = b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head></html>"


def listing(root: Path, landmarks: str = FILE) -> Listing:
    return locate(FetchFaces(source="celeba", landmarks=landmarks), root).listing()


@pytest.mark.parametrize("text", [COUNT + ROWS, ROWS, f"image_id,{','.join(COLUMNS)}\r\n" + ROWS.replace(" ", ",")])
def test_places_are_read_with_count_and_names_without_them_and_of_a_csv_table(text: str) -> None:
    read = read_landmarks(PATH, text)
    assert read.rows == {"000001.jpg": 0, "000002.jpg": 1}
    assert read.places.dtype == np.float32
    assert read.places.tolist() == PLACES


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("2\nlefteye", "3\nlefteye"), "has 2 rows, and its first line says 3: .*get it again"),
        (("lefteye_x lefteye_y", "lefteye_y lefteye_x"), "line 2: expected the columns lefteye_x lefteye_y"),
        (("10.5", ""), "line 4: expected a photo's name and 10 places .*000002.jpg"),
        (("10.5", "10.5 11"), "line 4: expected"),
        (("10.5", "ten"), "line 4: expected"),
        (("10.5", "nan"), "line 4: expected"),
        (("10.5", "inf"), "line 4: expected"),
        (("000002.jpg", "000001.jpg"), "line 4: 000001.jpg has a row already"),
        (("000002.jpg", "000002"), "line 4: expected"),
        ((ROWS, ""), "has no rows"),
        ((COUNT, "9" * 5000 + "\n"), "line 1: expected the columns"),
    ],
)
def test_a_list_that_does_not_fit_is_explained(edit: tuple[str, str], said: str) -> None:
    text = COUNT + ROWS
    assert text.count(edit[0]) == 1
    with pytest.raises(SourceError, match=said):
        read_landmarks(PATH, text.replace(*edit))


def test_celeba_has_the_landmarks_of_each_photo_where_the_list_is_there_and_none_where_it_is_not(
    tmp_path: Path,
) -> None:
    rows = celeba_rows()
    write_celeba(tmp_path, rows)
    without = listing(tmp_path)
    assert without.landmarks is None
    places = write_landmarks(tmp_path, list(rows)[::-1])  # in whatever order
    with_landmarks = listing(tmp_path)
    assert with_landmarks == without  # in all else
    found = with_landmarks.landmarks
    assert found is not None
    assert {name: found.places[row].ravel().tolist() for name, row in found.rows.items()} == {
        f"img_align_celeba/{name}": of for name, of in places.items()
    }


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (("000002.png", "000019.png"), f"{FILE} has no row for 1 of .*000002.png"),
        (("000002.png", "\n000019.png  1 1 1 1 1 1 1 1 1 1\n000002.png"), "has no row for 1 of .*000019.png"),
    ],
)
def test_a_list_of_other_photos_is_refused(tmp_path: Path, edit: tuple[str, str], said: str) -> None:
    write_celeba(tmp_path, celeba_rows())
    write_landmarks(tmp_path, celeba_rows(), header="")
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace(*edit))
    with pytest.raises(SourceError, match=said):
        listing(tmp_path)


def test_a_page_that_came_in_place_of_the_list_is_explained(tmp_path: Path) -> None:
    write_celeba(tmp_path, celeba_rows())
    (tmp_path / FILE).write_bytes(QUOTA_PAGE)
    with pytest.raises(SourceError, match=rf"{FILE} is a web page.*quota.*wait a day"):
        listing(tmp_path)


def test_a_list_of_another_name_must_be_there(tmp_path: Path) -> None:
    write_celeba(tmp_path, celeba_rows())
    with pytest.raises(SourceError, match=r"places\.txt   \(fetch_faces\.landmarks\)"):
        listing(tmp_path, landmarks="places.txt")
    write_landmarks(tmp_path, celeba_rows())
    (tmp_path / FILE).rename(tmp_path / "places.txt")
    assert listing(tmp_path, landmarks="places.txt").landmarks is not None


def test_the_list_is_pinned_with_the_other_files_and_other_sources_have_none(tmp_path: Path) -> None:
    write_celeba(tmp_path, celeba_rows())
    files = locate(FetchFaces(source="celeba"), tmp_path)
    assert [entry["role"] for entry in files.describe()] == ["images", "identities", "partition"]
    write_landmarks(tmp_path, celeba_rows())
    files = locate(FetchFaces(source="celeba"), tmp_path)
    assert [entry["path"] for entry in files.describe()][3:] == [FILE]
    write_folder(tmp_path / "set", {"ann/1.png": b"", "ann/2.png": b""})
    assert locate(FetchFaces(source="folder", images="set"), tmp_path).listing().landmarks is None
    pairs = {"a.png": b"a", "b.png": b"b", "pairs.csv": b"target,guide\na.png,b.png\n"}
    write_zip(tmp_path / "pairs.zip", pairs)
    assert locate(FetchFaces(source="pairs", images="pairs.zip"), tmp_path).listing().landmarks is None


def test_places_in_the_crop_are_those_of_the_photo_less_its_corner_and_not_known_outside_it() -> None:
    box = Crop(**CROP)  # 32 x 24 from (8, 4): x of 4 to 27 and y of 8 to 39 are in it
    places = np.array([[4, 8], [27, 39], [3.9, 20], [27.1, 20], [10.5, 39.5]], np.float32)
    two = np.stack([places, places + 1])
    found = Landmarks(PATH, {"a": 1, "b": 0, "c": 0}, two).in_crops(["b", "a", "c"], box, {"c"})
    assert found.dtype == np.float32
    unknown = [np.nan, np.nan]
    np.testing.assert_array_equal(found[0], np.array([[0, 0], [23, 31], unknown, unknown, unknown]))
    # 1 to the right and down: the second leaves the crop, the third comes in
    np.testing.assert_allclose(found[1], np.array([[1, 1], unknown, [0.9, 13], unknown, unknown]), atol=1e-6)
    assert np.isnan(found[2]).all()  # turned by its EXIF tag: its places are of the photo as it was
    np.testing.assert_array_equal(two[0], places)  # what was read is left alone


def test_places_outside_the_photo_are_not_known_and_stop_nothing() -> None:
    read = read_landmarks(PATH, "000001.jpg 10 10 -1 10 10 -0.5 36 10 10 400\n")
    known = np.isfinite(read.in_crops(["000001.jpg"], Crop(top=0, left=0, height=48, width=40))[0]).all(axis=1)
    assert known.tolist() == [True, False, False, True, False]


def test_a_list_of_photos_that_lie_otherwise_is_refused_before_any_is_decoded() -> None:
    box = Crop(**CROP)  # x of 4 to 27 and y of 8 to 39 are in it
    inside, outside = f"1.jpg{' 10' * 10}\n", "".join(f"{n}.jpg{' 300' * 10}\n" for n in (2, 3))
    half = inside + outside.splitlines(keepends=True)[0]
    read_landmarks(PATH, half).check(box)
    said = rf"{FILE}: 33% of the landmarks lie in the crop of 32 x 24 pixels from \(8, 4\) on"
    with pytest.raises(SourceError, match=said):
        read_landmarks(PATH, inside + outside).check(box)
    # of the photos that are there alone
    read_landmarks(PATH, inside + outside).renamed({"1.jpg": "a/1.jpg"}).check(box)
