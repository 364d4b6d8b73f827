"""Numbers of pictures whose answer is known."""

import math

import cv2
import numpy as np
import pytest
from PIL import Image, ImageFilter

from gwainet.evaluation.appearance import appearance, pose_difference, sharpness, skin_tone
from gwainet.evaluation.slices import SLICES
from gwainet.images import Uint8


def blurred(picture: Uint8, radius: float) -> Uint8:
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def pattern(height: int = 168, width: int = 144, *, seed: int = 0) -> Uint8:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return blurred(noise, 3)


def plain(red: int, green: int, blue: int) -> Uint8:
    return np.full((168, 144, 3), (red, green, blue), np.uint8)


def test_every_slice_has_its_number_and_every_number_its_slice():
    assert list(appearance(pattern(), pattern(seed=1))) == list(SLICES)


def test_sharpness_falls_with_blur_and_is_0_of_a_flat_picture():
    picture = np.random.default_rng(0).integers(0, 256, (48, 40, 3), np.uint8)
    values = [sharpness(blurred(picture, radius)) for radius in (0, 0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(plain(200, 160, 120)) == pytest.approx(0, abs=1e-9)


def test_sharpness_is_the_variance_of_the_laplacian_of_luma():
    """One white pixel on black, 219 brighter in luma: -4 times that there, once that at each of its 4 neighbours."""
    picture = np.zeros((50, 40, 3), np.uint8)
    picture[20, 20] = 255
    step, pixels = 219.0, 50 * 40
    assert sharpness(picture) == pytest.approx((16 + 4) * step**2 / pixels, rel=1e-9)  # the mean is 0


def test_guide_sharpness_is_the_guides():
    sharp, soft = pattern(), blurred(pattern(seed=1), 4)
    values = appearance(sharp, soft)
    assert values["guide_sharpness"] == sharpness(soft) < values["sharpness"] == sharpness(sharp)


@pytest.mark.parametrize("shift", [0, 1, 2, 4])
def test_pose_difference_is_the_way_that_pixels_move_sideways(shift):
    picture = pattern()
    moved = np.roll(picture, shift, axis=1)
    assert pose_difference(picture, moved) == pytest.approx(shift, abs=0.1)
    assert pose_difference(picture, np.roll(picture, shift, axis=0)) < 0.1


def test_pose_difference_looks_at_the_face_alone():
    picture = pattern()
    elsewhere = picture.copy()
    elsewhere[:24] = pattern(seed=1)[:24]  # hair and background above the face
    assert pose_difference(picture, elsewhere) < 0.2


def test_pose_difference_does_not_depend_on_opencvs_threads():
    first, second = pattern(), pattern(seed=1)
    values = set()
    for threads in (1, 2, 4):
        cv2.setNumThreads(threads)
        values.add(pose_difference(first, second))
    assert len(values) == 1


@pytest.mark.parametrize("size", [(24, 24), (24, 160), (256, 256)])
def test_any_size_that_the_benchmark_takes_has_its_numbers(size):
    values = appearance(pattern(*size), pattern(*size, seed=1))
    assert all(np.isfinite(value) for name, value in values.items() if name != "skin_tone")


def typology_angle(colour: tuple[int, int, int]) -> float:
    """By the formulas of sRGB and CIELAB (D65), of L* and b* alone."""
    linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    y = float(np.dot((0.2126729, 0.7151522, 0.0721750), linear))
    z = float(np.dot((0.0193339, 0.1191920, 0.9503041), linear)) / 1.08883
    lightness, yellow = 116 * y ** (1 / 3) - 16, 200 * (y ** (1 / 3) - z ** (1 / 3))
    return math.degrees(math.atan((lightness - 50) / yellow))


@pytest.mark.parametrize("colour", [(240, 208, 190), (204, 156, 122), (148, 102, 74), (84, 56, 43)])
def test_skin_tone_of_a_plain_colour_is_its_individual_typology_angle(colour):
    assert skin_tone(plain(*colour)) == pytest.approx(typology_angle(colour), abs=0.05)


def test_skin_tone_is_that_of_the_cheeks_and_a_few_pixels_do_not_move_it():
    face = plain(20, 20, 60)  # a blue background, dark hair
    face[70:140, 36:108] = (204, 156, 122)
    face[105:110, 60:84] = (90, 20, 30)  # a nostril, a mole
    assert skin_tone(face) == pytest.approx(skin_tone(plain(204, 156, 122)))


@pytest.mark.parametrize("colour", [(128, 128, 128), (90, 110, 160), (0, 0, 0)])
def test_what_is_not_yellower_than_grey_has_no_skin_tone(colour):
    assert np.isnan(skin_tone(plain(*colour)))
