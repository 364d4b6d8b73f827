"""Which group an image is put into."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gwainet.evaluation.slices import SLICES, THIRDS, TONES, thirds, tones


def test_thirds_are_equally_many_and_in_order():
    values = np.random.default_rng(0).permutation(30).astype(float)
    groups = thirds(values)
    assert [sorted(values[groups == name]) for name in THIRDS] == [list(range(i, i + 10)) for i in (0, 10, 20)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_equal_values_share_a_third_and_larger_ones_are_never_below(values):
    array = np.array(values)
    place = np.array([THIRDS.index(group) for group in thirds(array)])
    order = np.argsort(array)
    assert (np.diff(place[order]) >= 0).all()
    for value in set(values):
        assert len(set(place[array == value])) == 1


@pytest.mark.parametrize(
    ("angle", "group"),
    [
        (-90, "dark"), (-30, "dark"), (-29.9, "brown"), (10, "brown"), (10.1, "tan"), (28, "tan"),
        (28.1, "intermediate"), (41, "intermediate"), (41.1, "light"), (55, "light"), (55.1, "very_light"),
        (90, "very_light"), (float("nan"), "undefined"),
    ],
)  # fmt: skip
def test_tones_are_the_usual_classes_of_the_individual_typology_angle(angle, group):
    assert tones(np.array([0.0, angle]))[1] == group


def test_groups_are_listed_in_the_order_of_tables():
    assert SLICES["skin_tone"].groups == ("very_light", "light", "intermediate", "tan", "brown", "dark", "undefined")
    assert list(TONES) == list(SLICES["skin_tone"].groups[-2::-1])
    for name in ("sharpness", "guide_sharpness", "pose_difference"):
        assert SLICES[name].groups == ("low", "middle", "high")
