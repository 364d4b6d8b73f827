"""Near-duplicates: what is one photo is found, what is another is not, and no pair is missed for the sake of speed."""

from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gwainet import duplicates
from gwainet.images import Uint8
from gwainet.people import draw_photo


def face(person: int, photo: int = 0) -> Uint8:
    """The profile demo's crop, 168 x 144."""
    return draw_photo(0, person, photo, 1)[25:193, 17:161]


@pytest.fixture(scope="module")
def crops() -> Uint8:
    """Three photos each of four people."""
    return np.stack([face(person, photo) for person in range(4) for photo in range(3)])


def saved_again(picture: Uint8) -> Uint8:
    """The same photo in other light, scaled down and up, a pixel aside."""
    image = Image.fromarray(np.roll(picture, (1, -1), axis=(0, 1))).resize((100, 117), Image.Resampling.BICUBIC)
    again = np.asarray(image.resize(picture.shape[1::-1], Image.Resampling.BICUBIC), np.float64)
    return np.clip(0.8 * again + 30, 0, 255).astype(np.uint8)


def with_hats(picture: Uint8) -> Uint8:
    """Another background: above the face and beside it."""
    other = picture.copy()
    height, width = picture.shape[:2]
    other[: height // 6], other[:, : width // 8], other[:, -(width // 8) :] = 250, 5, 90
    return other


def correlation(first: Uint8, second: Uint8) -> float:
    faces = duplicates.small_faces(np.stack([first, second]))
    return float(duplicates.correlations(faces, np.array([0]), np.array([1]))[0])


def test_a_photo_correlates_perfectly_with_itself_and_opposite_with_its_negative():
    picture = face(0)
    assert correlation(picture, picture) == pytest.approx(1, abs=1e-5)
    assert correlation(picture, 255 - picture) == pytest.approx(-1, abs=0.01)


@pytest.mark.parametrize("change", [saved_again, with_hats])
def test_other_light_another_size_and_background_leave_a_photo_a_near_duplicate(change):
    picture = face(0)
    assert correlation(picture, change(picture)) > 0.95
    bits = duplicates.perceptual_hash(picture) ^ duplicates.perceptual_hash(change(picture))
    assert np.bitwise_count(bits).sum() <= 64


def test_a_picture_without_detail_is_like_nothing_not_even_itself():
    flat = np.full((168, 144, 3), 120, np.uint8)
    assert correlation(flat, flat) == 0
    assert correlation(flat, face(0)) == 0


def test_the_correlation_is_pearsons_of_the_detail():
    first, second = face(0), face(1)
    faces = duplicates.small_faces(np.stack([first, second]))
    from scipy.ndimage import gaussian_filter

    a, b = (f.astype(np.float64) - gaussian_filter(f.astype(np.float64), 7.0, mode="reflect") for f in faces)
    assert correlation(first, second) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-4)


def test_the_hash_is_imagehashs_own():
    import imagehash

    grey = Image.fromarray(face(0)).convert("L").crop((22, 34, 122, 168))
    expected = imagehash.phash(grey.resize((64, 64), Image.Resampling.BOX), 16).hash
    assert np.array_equal(np.unpackbits(duplicates.perceptual_hash(face(0)).view(np.uint8)), expected.ravel())


@pytest.mark.parametrize("block", [1, 3, 5, 4096])
def test_within_people_every_pair_is_compared_whatever_the_blocks(crops: Uint8, block: int, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    faces, people = duplicates.small_faces(crops), np.repeat(np.arange(4), 3)
    found = duplicates.alike_within(faces, people, -1.0)
    assert list(zip(found.first, found.second, strict=True)) == [
        (a, b) for a, b in combinations(range(12), 2) if people[a] == people[b]
    ]
    assert found.correlation == pytest.approx(duplicates.correlations(faces, found.first, found.second), abs=1e-5)
    least = float(np.median(found.correlation))
    some = duplicates.alike_within(faces, people, least)
    assert len(some.first) == (found.correlation >= least).sum()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 256), st.integers(0, 9), st.integers(1, 7))
def test_no_pair_of_near_hashes_is_missed_or_invented(few: int, many: int, distance: int, seed: int, block: int):
    random = np.random.default_rng(seed)
    base = random.integers(0, 2, (1, 256), dtype=np.uint8)
    bits = base ^ (random.random((few + many, 256)) < random.random((few + many, 1)))
    hashes = np.packbits(bits, axis=1).view(np.uint64)
    first, second = np.arange(few), np.arange(few, few + many)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_ROWS", block)
        patch.setattr(duplicates, "_COLUMNS", block + 1)
        found = {
            (int(a), int(b))
            for rows, others in duplicates.near_hashes(hashes, first, second, distance)
            for a, b in zip(rows, others, strict=True)
        }
    near = ((int(a), int(b)) for a in first for b in second if (bits[a] != bits[b]).sum() <= distance)
    assert found == set(near)


def test_between_splits_a_copy_is_found_and_nothing_else(crops: Uint8):
    crops = np.concatenate([crops, saved_again(crops[4])[None], crops[7][None]])
    faces = duplicates.small_faces(crops)
    hashes = np.stack([duplicates.perceptual_hash(crop) for crop in crops])
    found = duplicates.alike_between(faces, hashes, np.arange(12), np.array([12, 13]), 64, 0.95)
    assert sorted(zip(found.first, found.second, strict=True)) == [(4, 12), (7, 13)]
    none = duplicates.alike_between(faces, hashes, np.arange(3), np.array([12, 13]), 0, 0.99)
    assert len(none.first) == 0


def manifest(guides: list[int], people: npt.NDArray[np.int64]) -> pd.DataFrame:
    return pd.DataFrame({"guide_row": guides, "identity_index": people, "file": [f"{i}" for i in range(len(guides))]})


@pytest.mark.parametrize("block", [1, 4, 4096])
def test_a_guide_that_is_a_near_duplicate_becomes_the_persons_next_photo(crops: Uint8, block: int, monkeypatch):
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    crops = crops.copy()
    crops[1] = saved_again(crops[0])
    people = np.repeat(np.arange(4), 3)
    before = manifest([1, 0, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9], people)
    after = duplicates.guides_apart(before, duplicates.small_faces(crops), 0.99 * correlation(crops[0], crops[1]))
    assert after["guide_row"].tolist() == [2, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9]
    assert after["guide_row"].dtype == before["guide_row"].dtype
    assert after.drop(columns="guide_row").equals(before.drop(columns="guide_row"))


def test_without_another_photo_the_guide_stays(crops: Uint8):
    crops = crops[:2].copy()
    crops[1] = crops[0]
    before = manifest([1, 0], np.array([0, 0]))
    assert duplicates.guides_apart(before, duplicates.small_faces(crops), 0.99)["guide_row"].tolist() == [1, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5),
    st.sampled_from([1, 3, 4096]),
    st.sampled_from([1, 2, 64]),
    st.data(),
)
def test_the_new_guide_is_the_first_from_the_old_one_on_and_round_that_is_no_near_duplicate(
    shown: list[list[int]], block: int, compared: int, data: st.DataObject
):
    pictures = np.random.default_rng(0).integers(0, 256, (3, duplicates.SIDE, duplicates.SIDE), np.uint8)
    faces = pictures[np.concatenate(shown)]  # photos of one number are copies of each other
    guides: list[int] = []
    expected: list[int] = []
    for photos in shown:
        start, count = len(guides), len(photos)
        for target in range(count):
            guide = data.draw(st.integers(0, count - 1)) if count > 1 else None
            if guide is None or guide == target:
                guides.append(-1)
                expected.append(-1)
                continue
            later = [(guide + step) % count for step in range(count)]
            apart = [place for place in later if photos[place] != photos[target]]
            guides.append(start + guide)
            expected.append(start + next(iter(apart), guide))
    before = manifest(guides, np.repeat(np.arange(len(shown)), [len(photos) for photos in shown]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", block)
        patch.setattr(duplicates, "_COMPARED", compared)
        assert duplicates.guides_apart(before, faces, 0.9)["guide_row"].tolist() == expected


def test_guides_that_are_apart_are_left_alone(crops: Uint8):
    before = manifest([1, 2, 0, -1, 5, 3, 7, 8, 6, 10, 11, 9], np.repeat(np.arange(4), 3))
    assert duplicates.guides_apart(before, duplicates.small_faces(crops), 0.999) is before


def test_a_target_that_is_its_own_guide_is_not_hidden(crops: Uint8):
    before = manifest([0, 0, 0], np.zeros(3, np.int64))
    assert duplicates.guides_apart(before, duplicates.small_faces(crops[:3]), 0.999) is before


def test_exact_copies_correlate_by_exactly_1_however_float32_rounds():
    faces = np.stack([duplicates.small_face(face(number)) for number in range(40)])
    both = np.concatenate([faces, faces])
    first = np.arange(40)
    assert (duplicates.correlations(both, first, first + 40) == 1).all()
    copies = duplicates.alike_within(np.repeat(faces, 2, axis=0), np.repeat(first, 2), 1.0)
    assert len(copies.first) == 40
