"""Pictures of a validation: closed forms of the flow's colours, the error, the histogram."""

import colorsys

import numpy as np
import pytest
import torch

from gwainet.dataset import Faces
from gwainet.images import error_picture
from gwainet.nets.model import build_generator
from gwainet.params import Networks
from gwainet.training import pictures
from gwainet.training.validation import gains_over_bicubic, sample_sheet
from tests.faces import write_faces

SMALL = Networks(width=4, blocks_per_group=1, warp_blocks=1)


@pytest.fixture(scope="module")
def faces(tmp_path_factory) -> Faces:
    folder = tmp_path_factory.mktemp("faces")
    return Faces(write_faces(folder, identities={"train": 2, "validation": 4, "test": 2}, images=3))


def colour(x: float, y: float, reach: float = 1.0) -> tuple[int, ...]:
    return tuple(pictures.flow_colours(np.array([x, y]), reach).tolist())


def hue(x: float, y: float) -> float:
    """Degrees."""
    red, green, blue = colour(x, y)
    return colorsys.rgb_to_hsv(red, green, blue)[0] * 360


def test_no_flow_is_white():
    assert colour(0, 0) == (255, 255, 255)
    assert colour(0, 0, reach=7) == (255, 255, 255)


@pytest.mark.parametrize(
    ("turn", "expected"),
    [  # of the 55 steps of the wheel of Baker et al., clockwise from the right
        (0, (255, 0, 0)),
        (15, (255, 255, 0)),
        (21, (0, 255, 0)),
        (25, (0, 255, 255)),
        (36, (0, 0, 255)),
        (49, (255, 0, 255)),
        (55, (255, 0, 0)),
    ],
)
def test_a_direction_is_its_hue_of_the_wheel_of_baker_and_others(turn, expected):
    angle = 2 * np.pi * turn / 55
    assert colour(np.cos(angle) * 0.999999, np.sin(angle) * 0.999999) == pytest.approx(expected, abs=1)


def test_every_direction_lies_between_its_neighbours_on_the_wheel():
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    hues = [hue(np.cos(angle), np.sin(angle)) for angle in angles]
    assert np.all(np.diff(hues) > -0.5)
    assert np.ptp(hues) > 355


def test_the_length_is_the_saturation_and_leaves_the_hue():
    for share in (0.25, 0.5, 0.75, 1.0):
        red, green, blue = colour(0, 5 * share, reach=5)
        _, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        assert saturation == pytest.approx(share, abs=0.004)
        assert value == 1.0
        assert hue(0, share) == pytest.approx(hue(0, 1), abs=1)


def test_a_flow_longer_than_the_reach_is_a_darker_full_colour():
    assert colour(1, 0) == (255, 0, 0)
    assert colour(3, 0) == colour(9, 0) == (191, 0, 0)


def test_the_key_is_white_in_the_middle_and_outside_and_red_at_the_right():
    disc = pictures.wheel(57)
    assert disc[28, 28].tolist() == disc[0, 0].tolist() == disc[56, 56].tolist() == [255, 255, 255]
    assert disc[28, 56].tolist() == [255, 0, 0]
    assert disc[28, 42].tolist() == pytest.approx([255, 128, 128], abs=1)


def test_the_whole_side_is_two_grid_units():
    omega = torch.zeros(1, 2, 5, 9)
    omega[0, 0], omega[0, 1] = 2, -1
    flow = pictures.flow_in_pixels(omega)
    assert flow.shape == (1, 5, 9, 2)
    assert (flow == [8, -2]).all()


@pytest.mark.parametrize("guided", [True, False])
def test_a_sheet_shows_the_same_faces_in_the_same_places_whatever_the_weights(faces, guided):
    rows = faces.targets("validation")
    assert len(rows) > pictures.SAMPLE_FACES
    sheets = [np.asarray(sample_sheet(build_generator(SMALL, faces.means, guided, s), faces, rows)) for s in (0, 1)]
    height, width, gap, top = faces.height, faces.width, 4, 18

    def tile(sheet, line, column):
        y, x = top + gap + line * (height + gap), gap + column * (width + gap)
        return sheet[y : y + height, x : x + width]

    chosen = pictures.sample_rows(rows)
    names = ["LR", "guide", "flow", "warped", "SR", "GT", "error"] if guided else ["LR", "SR", "GT", "error"]
    for line, row in enumerate(chosen):
        for sheet in sheets:
            assert (tile(sheet, line, 0)[::8, ::8] == faces.lr[row]).all()
            assert (tile(sheet, line, names.index("GT")) == faces.hr[row]).all()
            made = tile(sheet, line, names.index("SR"))
            assert (tile(sheet, line, names.index("error")) == error_picture(made, faces.hr[row])).all()
            if guided:
                assert (tile(sheet, line, names.index("guide")) == faces.hr[faces.guide_row[row]]).all()
    column = names.index("SR")
    assert (tile(sheets[0], 0, column) != tile(sheets[1], 0, column)).any()


def test_a_flow_of_zeros_is_a_white_tile_and_the_guide_stays_as_it_is(faces):
    generator = build_generator(SMALL.model_copy(update={"zero_flow": True}), faces.means, True, 0)
    sheet = np.asarray(sample_sheet(generator, faces, faces.targets("validation")))
    height, width = faces.height, faces.width
    tiles = [sheet[22 : 22 + height, 4 + n * (width + 4) : 4 + n * (width + 4) + width] for n in range(7)]
    assert (tiles[2] == 255).all()
    assert np.abs(tiles[3].astype(int) - tiles[1]).max() <= 1


def test_gains_are_those_of_each_face_over_bicubic(faces):
    rows = faces.targets("validation")
    gains = gains_over_bicubic(build_generator(SMALL, faces.means, False, 0), faces, rows)
    assert gains["row"].tolist() == rows.tolist()
    assert gains["gain"].tolist() == pytest.approx((gains["psnr"] - gains["bicubic"]).tolist())
    assert gains["identity"].tolist() == faces.manifest["identity"].iloc[rows].tolist()


@pytest.mark.parametrize("values", [[0.0], [1.5, 1.5], [-1.0, -2.0], list(np.linspace(-1, 4, 60))])
def test_a_histogram_has_its_losses_in_red_and_its_gains_in_blue(values):
    drawn = np.asarray(pictures.histogram(values, "gains", "dB")).reshape(-1, 3)
    red, blue = (178, 34, 34), (70, 130, 180)
    edges = np.histogram(values, bins="auto")[1]
    middles = (edges[:-1] + edges[1:]) / 2
    assert (drawn == red).all(1).any() == (middles < 0).any()
    assert (drawn == blue).all(1).any() == (middles >= 0).any()
