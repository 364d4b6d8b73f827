"""Doubtful labels by dlib's descriptors. Pictures are of drawn people."""

from importlib import util

import numpy as np
import pandas as pd
import pytest

from gwainet import labels
from gwainet.errors import ExtraError
from gwainet.identity import descriptor, similarities
from gwainet.images import Uint8
from gwainet.params import CheckFaces
from gwainet.people import draw_photo

needs_dlib = pytest.mark.skipif(util.find_spec("dlib") is None, reason="the extra `identity` is not installed")


def face(person: int, photo: int = 0) -> Uint8:
    """The profile demo's crop, 168 x 144."""
    return draw_photo(0, person, photo, 1)[25:193, 17:161]


def test_a_wrong_photo_is_doubted_and_the_right_ones_are_not():
    descriptors = np.zeros((5, 128))
    descriptors[1, 0], descriptors[2, 1], descriptors[3, 2], descriptors[4, 3] = 0.1, 0.1, 0.1, 2.0
    distance, typical = labels.distances(descriptors)
    assert distance[4] == pytest.approx(np.sqrt(2**2 + 0.1**2))
    assert (distance[:4] < 0.15).all()
    assert typical.tolist()[1:] == [0] * 4
    assert typical[0] in (1, 2, 3)


def test_of_two_photos_both_are_doubted():
    distance, typical = labels.distances(np.array([[0.0, 0.0], [3.0, 4.0]]))
    assert distance.tolist() == [5.0, 5.0]
    assert typical.tolist() == [1, 0]


def test_whole_people_are_chosen_up_to_the_limit_and_nobody_with_one_photo():
    images = pd.DataFrame({"identity": list("aaabbccccd")})
    everyone = labels.chosen_people(images, None)
    assert sorted(tuple(rows) for rows in everyone) == [(0, 1, 2), (3, 4), (5, 6, 7, 8)]
    some = labels.chosen_people(images, 6)
    assert sum(len(rows) for rows in some) <= 6
    assert {tuple(rows) for rows in some} <= {tuple(rows) for rows in everyone}
    assert [rows.tolist() for rows in labels.chosen_people(images, 6)] == [rows.tolist() for rows in some]


def test_off_looks_at_nothing_and_says_so():
    assert not labels.wanted(CheckFaces())
    assert labels.what_was_done(CheckFaces(), None) == {"identity": "off", "measured": False}


def test_on_without_dlib_is_an_error_and_auto_goes_on(monkeypatch: pytest.MonkeyPatch, capsys):
    def absent() -> None:
        raise ExtraError("not installed")

    monkeypatch.setattr(labels, "face_network", absent)
    with pytest.raises(ExtraError):
        labels.wanted(CheckFaces(identity="on"))
    assert not labels.wanted(CheckFaces(identity="auto"))
    assert "labels are not looked at" in " ".join(capsys.readouterr().err.split())


@needs_dlib
def test_the_descriptor_is_the_one_that_similarity_is_measured_by():
    numbers, found = descriptor(face(0))
    assert numbers.shape == (128,)
    assert found
    other, _ = descriptor(face(0) // 2 + 20)  # other light moves no landmark much
    expected = similarities(face(0), {"other": face(0) // 2 + 20}).cosines["other"]
    assert numbers @ other / np.linalg.norm(numbers) / np.linalg.norm(other) == pytest.approx(expected, abs=0.02)


@needs_dlib
@pytest.mark.parametrize("workers", [1, 2])
def test_another_person_under_a_name_is_the_furthest(workers: int):
    crops = np.stack([face(0, 0), face(0, 1), face(0, 2), face(5, 0), face(3, 0), face(3, 1), face(7, 0)] * 3)
    images = pd.DataFrame({"identity": list("aaaabbc") * 3, "split": "train"}).iloc[:7]
    done = labels.described(images, crops[:7], CheckFaces(), workers)
    assert done["label_distance"].iloc[:4].idxmax() == 3
    assert done["label_twin"].iloc[0] in (0, 1, 2)
    assert done["label_distance"].isna().tolist() == [False] * 6 + [True]  # c has one photo
    assert done["face_found"].iloc[6] is None
    told = labels.what_was_done(CheckFaces(identity="on", identity_distance=0.01), done)
    assert (told["images"], told["identities"], told["doubtful"]) == (6, 2, 6)
