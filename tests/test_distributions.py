"""What photos are like: closed forms of each statistic, and distances between data sets."""

import json

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from gwainet.distributions import STATISTICS, measure, record, shifts
from gwainet.images import Uint8


def of(picture: Uint8) -> dict[str, float]:
    return dict(zip(STATISTICS, measure(picture), strict=True))


def noise(seed: int = 0, height: int = 40, width: int = 30) -> Uint8:
    return np.random.default_rng(seed).integers(60, 200, (height, width, 3), dtype=np.uint8)


def test_a_flat_picture_has_one_brightness_and_no_sharpness():
    values = of(np.full((40, 30, 3), 100, np.uint8))
    assert values == {"sharpness": 0, "brightness": 100, "dark": 100, "bright": 100, "border": 0, "outline": 0}


def test_blur_lowers_sharpness():
    picture = noise()
    blurred = gaussian_filter(picture.astype(float), (1.5, 1.5, 0)).astype(np.uint8)
    assert of(blurred)["sharpness"] < 0.1 * of(picture)["sharpness"]


def test_a_step_has_its_own_dark_and_bright_end():
    picture = np.full((40, 30, 3), 200, np.uint8)
    picture[:4] = 30  # a tenth
    values = of(picture)
    assert (values["dark"], values["bright"]) == (30, 200)
    assert values["brightness"] == pytest.approx(183)


@pytest.mark.parametrize("turns", range(4))
def test_black_rows_or_columns_at_any_edge_are_border(turns: int):
    picture = noise(height=30)
    picture[:5] = 3  # JPEG leaves no clean 0
    picture[20] = 0  # a line inside is none
    assert of(np.ascontiguousarray(np.rot90(picture, turns)))["border"] == 5


def test_black_corners_are_no_border_but_in_the_outline():
    picture = noise()
    for i in range(10):
        picture[i, : 10 - i] = 0
    values = of(picture)
    assert values["border"] == 0
    assert values["outline"] == pytest.approx(19 / 136)


def test_an_all_black_picture_is_all_border():
    assert of(np.zeros((40, 30, 3), np.uint8))["border"] == 40


def test_a_record_survives_json_and_is_at_no_distance_from_itself():
    random = np.random.default_rng(0)
    made = record({name: random.normal(0, 1, 999) for name in STATISTICS}, "d" * 64)
    again = json.loads(json.dumps(made, allow_nan=False))
    assert again == made
    assert (made["digest"], made["images"]) == ("d" * 64, 999)
    assert all(shift.distance == shift.moved == 0 for shift in shifts(again, made))
    assert [shift.statistic for shift in shifts(again, made)] == list(STATISTICS)


def test_distances_are_those_of_known_distributions():
    random = np.random.default_rng(0)
    before = record({"sharpness": random.normal(0, 1, 100_000)}, "a")
    now = record({"sharpness": random.normal(0.5, 1, 100_000), "border": np.zeros(3)}, "b")
    [shift] = shifts(before, now)
    assert shift.median_before == pytest.approx(0, abs=0.02)
    assert shift.median_now == pytest.approx(0.5, abs=0.02)
    assert shift.distance == pytest.approx(0.1974, abs=0.01)  # 2 Phi(0.25) - 1
    assert shift.moved == pytest.approx(0.5, abs=0.02)
