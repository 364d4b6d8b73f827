"""Photos of drawn people: functions of their seed, aligned, and recognisable as the same person."""

import numpy as np
import numpy.typing as npt
import pytest

from gwainet.images import downscale, upscale
from gwainet.people import draw_photo
from gwainet.people.features import landmarks
from gwainet.people.head import Expression, Head, Pose
from gwainet.people.person import draw_person
from gwainet.people.photo import draw_photo_and_landmarks

PEOPLE, PHOTOS = 8, 3
REST = Expression(0.0, 0.0, 0.0, 1.0, (0.0, 0.0))
Floats = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def photos() -> npt.NDArray[np.uint8]:
    """Shape: (PEOPLE, PHOTOS, 218, 178, 3)."""
    return np.stack([[draw_photo(1, person, photo, 2) for photo in range(PHOTOS)] for person in range(PEOPLE)])


def test_a_photo_is_a_function_of_seed_identity_and_number() -> None:
    first = draw_photo(3, 1, 1, 1)
    assert first.shape == (218, 178, 3)
    assert first.dtype == np.uint8
    draw_photo(3, 0, 0, 1)
    np.testing.assert_array_equal(draw_photo(3, 1, 1, 1), first)


@pytest.mark.parametrize("other", [(4, 1, 1), (3, 2, 1), (3, 1, 2)])
def test_another_seed_identity_or_number_is_another_photo(other: tuple[int, int, int]) -> None:
    difference = draw_photo(3, 1, 1, 1).astype(float) - draw_photo(*other, 1)
    assert np.abs(difference).mean() > 3


@pytest.mark.parametrize("supersampling", [1, 3])
def test_supersampling_changes_the_finish_and_not_the_scene(supersampling: int) -> None:
    drawn, fine = (draw_photo(3, 1, 1, scale).astype(float) for scale in (supersampling, 2))
    other = draw_photo(3, 1, 2, 2).astype(float)
    assert 0 < np.abs(drawn - fine).mean() < 0.4 * np.abs(other - fine).mean()


def test_the_eyes_of_every_photo_lie_where_celeba_aligns_them() -> None:
    random = np.random.default_rng(0)
    for identity in range(5):
        traits = draw_person(0, identity).traits
        yaw, pitch = random.uniform(-0.25, 0.25, 2)
        pose = Pose(yaw, pitch, 0.0, (0.0, 0.0), 1.0)
        head = Head(traits, pose, Expression(0.5, 2.0, 0.0, 1.0, (0.0, 0.0)))
        eyes = head.on_face(np.array([[-traits.eye_spacing, 0], [traits.eye_spacing, 0]], np.float32))
        np.testing.assert_allclose(eyes.mean(0), (89, 111), atol=0.01)
        np.testing.assert_allclose(eyes[:, 0], (69, 109), atol=2.5)


def test_turning_the_head_moves_the_nose_more_than_the_cheeks() -> None:
    traits = draw_person(0, 0).traits
    rest = Expression(0.0, 0.0, 0.0, 1.0, (0.0, 0.0))
    straight, turned = (Head(traits, Pose(yaw, 0.0, 0.0, (0.0, 0.0), 1.0), rest) for yaw in (0.0, 0.2))
    points = np.array([[0, traits.nose_length - 3], [34, 20], [-34, 20]], np.float32)
    nose, right, left = (turned.on_face(points) - straight.on_face(points))[:, 0]
    assert nose > 3
    assert nose > max(right, left) + 2


def test_the_map_of_the_face_inverts_the_projection() -> None:
    traits = draw_person(0, 2).traits
    head = Head(traits, Pose(0.15, -0.05, 0.02, (1.0, -1.0), 1.01), Expression(0.8, 3.0, 1.0, 1.0, (0.0, 0.0)))
    x, y, _ = head.seen()
    back = head.on_face(np.stack([x, y], -1))
    v, u = np.mgrid[85:170, 65:115]
    error = np.hypot(back[85:170, 65:115, 0] - u, back[85:170, 65:115, 1] - v)
    assert np.quantile(error, 0.95) < 0.5


def test_the_pupils_are_dark_where_the_landmarks_say_and_the_eyes_beside_them_are_not() -> None:
    """Brightness of 3 x 3 pixels over that of the same 6 pixels to the left and to the right."""

    def ratio(grey: Floats, x: float, y: float) -> float:
        def at(shift: int) -> float:
            row, column = round(y), round(x) + shift
            return float(grey[row - 1 : row + 2, column - 1 : column + 2].mean())

        return at(0) / (0.5 * (at(-6) + at(6)))

    here, beside = [], []
    for identity in range(8):
        for number in range(2):
            photo, places = draw_photo_and_landmarks(1, identity, number, 1)
            grey = photo.astype(np.float32).mean(-1)
            for x, y in places[:2].tolist():
                here.append(ratio(grey, x, y))
                beside += [ratio(grey, x + shift, y) for shift in (-5, 5)]
    assert np.mean(np.array(here) < 0.75) > 0.85
    assert np.mean(np.array(beside) < 0.75) < 0.3


def test_the_landmark_of_the_nose_is_where_the_head_comes_nearest_to_the_camera() -> None:
    for identity in range(5):
        head = Head(draw_person(0, identity).traits, Pose(0.0, 0.0, 0.0, (0.0, 0.0), 1.0), REST)
        _, _, near = head.seen()
        row, column = np.unravel_index(near.argmax(), near.shape)
        x, y = landmarks(head)[2]
        assert abs(x - column) <= 1
        assert abs(y - row) <= 2.5


def test_landmarks_of_a_face_seen_from_the_front_are_symmetric_and_turn_with_the_head() -> None:
    traits = draw_person(0, 0).traits
    straight = landmarks(Head(traits, Pose(0.0, 0.0, 0.0, (0.0, 0.0), 1.0), REST))
    mirrored = straight[[1, 0, 2, 4, 3]] * (-1, 1) + (2 * 89, 0)
    np.testing.assert_allclose(straight, mirrored, atol=0.02)
    left_eye, right_eye, nose, left_mouth, right_mouth = straight
    assert left_eye[0] < left_mouth[0] < nose[0] < right_mouth[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    # the drawing's own geometry: corners at the mouth's width and height, the pupils where the eyes are
    head = Head(traits, Pose(0.1, 0.02, 0.01, (1.0, -0.5), 1.01), REST)
    corners = np.array([[side * traits.mouth_width, traits.mouth_y] for side in (-1, 1)], np.float32)
    np.testing.assert_allclose(landmarks(head)[3:], head.on_face(corners), atol=0.1)
    assert (landmarks(head)[2] - straight[2])[0] > (landmarks(head)[3:] - straight[3:]).mean(0)[0]
    # who smiles draws the corners apart and up; who looks aside moves both pupils
    smiling = landmarks(Head(traits, head.pose, Expression(1.0, 0.0, 0.0, 1.0, (1.5, 0.0)))) - landmarks(head)
    assert smiling[3, 0] < -2
    assert smiling[4, 0] > 2
    assert (smiling[:2, 0] > 1).all()
    np.testing.assert_allclose(smiling[2], 0, atol=0.3)


def lost_detail(photo: npt.NDArray[np.uint8]) -> Floats:
    """What 8x downscaling takes away from the middle of the face, blind to light: grey, with deviation 1."""
    crop = photo[25:193, 17:161]
    detail = crop.astype(np.float32).mean(-1) - upscale(downscale(crop)).astype(np.float32).mean(-1)
    face = detail[54:140, 26:118]
    result: Floats = (face - face.mean()) / face.std()
    return result


def best_match(target: Floats, guide: Floats, reach: int = 3) -> float:
    """Highest correlation over small shifts: poses differ."""
    inner = target[reach:-reach, reach:-reach]
    height, width = inner.shape
    return max(
        float((inner * guide[dy : dy + height, dx : dx + width]).mean())
        for dy in range(2 * reach + 1)
        for dx in range(2 * reach + 1)
    )


def test_another_photo_of_the_person_shows_detail_that_downscaling_destroys(photos: npt.NDArray[np.uint8]) -> None:
    detail = [[lost_detail(photo) for photo in person] for person in photos]
    same = [best_match(detail[i][a], detail[i][b]) for i in range(PEOPLE) for a, b in ((0, 1), (0, 2), (1, 2))]
    other = [best_match(detail[i][0], detail[j][1]) for i in range(PEOPLE) for j in range(PEOPLE) if i != j]
    assert np.mean(same) > np.mean(other) + 0.08
    assert np.median(same) > np.quantile(other, 0.75)


def test_there_is_detail_to_restore(photos: npt.NDArray[np.uint8]) -> None:
    crops = photos[:, :, 25:193, 17:161].reshape(-1, 168, 144, 3)
    errors = [np.mean((crop.astype(float) - upscale(downscale(crop))) ** 2) for crop in crops]
    psnr = 10 * np.log10(255**2 / np.mean(errors))
    assert 18 < psnr < 30  # CelebA's bicubic PSNR is about 24 dB
