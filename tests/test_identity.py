"""The face similarity by dlib. Pictures are of drawn people."""

import sys
from functools import cache
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

from gwainet.errors import ExtraError
from gwainet.files import file_digest
from gwainet.identity import _models, _weights, described_as, face_network, similarities
from gwainet.images import Uint8, downscale, upscale
from gwainet.people import draw_photo
from gwainet.workers import processes

needs_dlib = pytest.mark.skipif(util.find_spec("dlib") is None, reason="the extra `identity` is not installed")


@cache
def face(person: int, photo: int = 0) -> Uint8:
    """The profile demo's crop, 168 x 144."""
    return draw_photo(0, person, photo, 1)[25:193, 17:161]


@needs_dlib
def test_a_picture_is_perfectly_similar_to_itself_and_less_so_to_anything_else():
    gt = face(0)
    answers = {"itself": gt, "copy": gt.copy(), "bicubic": upscale(downscale(gt)), "other": face(1), "grey": gt // 2}
    values, found = similarities(gt, answers)
    assert found
    assert list(values) == list(answers)
    assert values["itself"] == values["copy"] == pytest.approx(1.0, abs=1e-12)
    for name in ("bicubic", "other", "grey"):
        assert -1 < values[name] < 0.999, name


@needs_dlib
def test_the_cosine_is_dlibs_own_of_chips_cut_by_the_truths_landmarks():
    import dlib

    gt, sr = face(0), np.roll(upscale(downscale(face(0))), (6, 4), axis=(0, 1))
    (box,) = dlib.get_frontal_face_detector()(np.ascontiguousarray(gt))
    landmarks = dlib.shape_predictor(str(_weights("shape_predictor_5_face_landmarks.dat")))(
        np.ascontiguousarray(gt), box
    )
    network = dlib.face_recognition_model_v1(str(_weights("dlib_face_recognition_resnet_model_v1.dat")))
    a, b = (np.array(network.compute_face_descriptor(np.ascontiguousarray(p), landmarks)) for p in (gt, sr))
    expected = a @ b / np.sqrt((a @ a) * (b @ b))
    assert similarities(gt, {"sr": sr}).cosines["sr"] == pytest.approx(expected, abs=1e-6)


@needs_dlib
def test_an_answer_counts_alone_whatever_stands_beside_it():
    gt, sr = face(0), upscale(downscale(face(0)))
    alone = similarities(gt, {"sr": sr}).cosines["sr"]
    beside = similarities(gt, {"other": face(1), "sr": sr, "same": sr.copy()}).cosines
    assert beside["sr"] == beside["same"] == pytest.approx(alone, abs=1e-12)


@needs_dlib
def test_the_place_of_the_face_comes_from_the_truth_and_never_from_the_answer():
    gt = face(0)
    black = np.zeros_like(gt)
    values, found = similarities(gt, {"black": black})
    assert found  # although there is no face in the answer
    assert values["black"] < 0.999
    assert not similarities(black, {"gt": gt}).found


@needs_dlib
@pytest.mark.parametrize("shape", [(24, 24, 3), (256, 256, 3)])
def test_where_no_face_is_found_the_usual_place_is_compared(shape):
    a, b = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    values, found = similarities(a, {"itself": a, "other": b})
    assert not found
    assert values["itself"] == pytest.approx(1.0, abs=1e-12)
    assert -1 <= values["other"] < 1


@needs_dlib
def test_a_face_that_was_found_before_gives_the_same_descriptors():
    gt, answers = face(0), {"sr": upscale(downscale(face(0))), "itself": face(0)}
    found, described = described_as(gt, answers)
    again, known = described_as(gt, answers, found)
    assert again is found
    assert described.keys() == known.keys() == answers.keys()
    for name in answers:
        assert np.abs(described[name] - known[name]).max() < 1e-6
    assert np.array_equal(known["itself"], found.descriptor)
    moved = found._replace(points=found.points + 30)
    assert np.abs(described_as(gt, answers, moved)[1]["sr"] - described["sr"]).max() > 0.01


@needs_dlib
def test_processes_give_the_same_values():
    gt, answers = face(0), {"sr": upscale(downscale(face(0)))}
    with processes(1) as pool:
        assert pool.submit(similarities, gt, answers).result() == similarities(gt, answers)


@needs_dlib
def test_pictures_of_another_size_or_type_are_refused_by_name():
    gt = face(0)
    with pytest.raises(ValueError, match="small: a uint8 picture"):
        similarities(gt, {"small": gt[:-8]})
    with pytest.raises(ValueError, match="floats: a uint8 picture"):
        similarities(gt, {"floats": gt / 255})  # type: ignore[dict-item]


@needs_dlib
def test_the_network_is_named_by_its_weights_and_the_non_commercial_predictor_is_not_used():
    network = face_network()
    assert network.dlib == metadata.version("dlib-bin").split(".post")[0]
    files = [file for file in metadata.files("face_recognition_models") or [] if file.suffix == ".dat"]
    used = {file.name for file in files if file_digest(Path(str(file.locate()))) in network}
    assert used == {"dlib_face_recognition_resnet_model_v1.dat", "shape_predictor_5_face_landmarks.dat"}


def test_without_the_extra_a_message_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)  # what an import of a missing package finds
    _models.cache_clear()
    with pytest.raises(ExtraError, match=r"pip install 'gwainet\[identity\]'.*benchmark.identity to `off`"):
        face_network()


def test_weights_that_are_not_there_are_missing_as_the_extra_is():
    with pytest.raises(ExtraError, match="gwainet"):
        _weights("no_such_model.dat")
