import numpy as np
import pytest
from PIL import Image

from gwainet.images import ERROR_SCALE, Uint8, downscale, error_picture, grid, upscale

PAPER_SIZES = [(168, 144), (256, 256), (48, 40), (8, 8)]


def picture(height: int, width: int, seed: int = 0) -> Uint8:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def pillow(image: Uint8, height: int, width: int) -> Uint8:
    return np.asarray(Image.fromarray(image, "RGB").resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize(("height", "width"), PAPER_SIZES)
def test_downscaling_and_upscaling_are_pillows_bicubic_by_eight_bit_for_bit(height, width):
    image = picture(height, width)
    low = downscale(image)
    assert low.dtype == np.uint8
    assert low.shape == (height // 8, width // 8, 3)
    assert np.array_equal(low, pillow(image, height // 8, width // 8))
    high = upscale(low)
    assert high.dtype == np.uint8
    assert high.shape == image.shape
    assert np.array_equal(high, pillow(low, height, width))


def test_the_bicubic_filter_is_widened_when_it_scales_down():
    # an edge every 4 pixels is above what 1/8 of the size can show: without the wider filter it would alias
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.ptp(downscale(stripes)[2:-2, 2:-2].astype(int)) <= 2


def test_a_flat_picture_stays_flat_and_channels_stay_apart():
    flat = np.broadcast_to(np.array([10, 128, 250], np.uint8), (64, 48, 3)).copy()
    assert np.array_equal(downscale(flat), flat[::8, ::8])
    assert np.array_equal(upscale(downscale(flat)), flat)


def test_scaling_commutes_with_mirroring_so_that_flipped_pairs_stay_pairs():
    image = picture(64, 48, 1)
    assert np.array_equal(downscale(image[:, ::-1]), downscale(image)[:, ::-1])
    low = downscale(image)
    assert np.array_equal(upscale(low[:, ::-1]), upscale(low)[:, ::-1])


def test_a_view_scales_like_its_copy_and_the_argument_is_not_changed():
    whole = picture(128, 128, 2)
    view = whole[5:69, 3:67]
    before = whole.copy()
    assert np.array_equal(downscale(view), downscale(view.copy()))
    assert np.array_equal(whole, before)


# ---------------------------------------------------------------- grids


def test_a_grid_puts_every_picture_at_its_place_with_white_gaps_around_it():
    gap, height, width = 3, 16, 24
    rows = [[picture(height, width, 3 * line + column) for column in range(3)] for line in range(2)]
    sheet = np.asarray(grid(rows, gap=gap))
    assert sheet.shape == (2 * (height + gap) + gap, 3 * (width + gap) + gap, 3)
    covered = np.zeros(sheet.shape[:2], bool)
    for line in range(2):
        for column in range(3):
            top, left = gap + line * (height + gap), gap + column * (width + gap)
            assert np.array_equal(sheet[top : top + height, left : left + width], rows[line][column])
            covered[top : top + height, left : left + width] = True
    assert (sheet[~covered] == 255).all()


def test_titles_take_a_band_above_and_stand_over_their_columns():
    black = np.zeros((32, 60, 3), np.uint8)
    plain, titled = np.asarray(grid([[black, black]])), np.asarray(grid([[black, black]], ["one", "two"]))
    band = titled.shape[0] - plain.shape[0]
    assert band > 0
    assert np.array_equal(titled[band:], plain)
    ink = np.flatnonzero((titled[:band] < 255).any(axis=(0, 2)))
    first, second = ink[ink < titled.shape[1] // 2], ink[ink >= titled.shape[1] // 2]
    assert abs(first.mean() - (4 + 30)) < 6
    assert abs(second.mean() - (4 + 64 + 30)) < 6


def test_a_small_picture_is_enlarged_to_the_firsts_size_in_hard_blocks():
    large, small = picture(32, 24), picture(4, 3, 1)
    sheet = np.asarray(grid([[large, small]], gap=2))
    assert np.array_equal(sheet[2:34, 2 + 24 + 2 : 2 + 24 + 2 + 24], small.repeat(8, 0).repeat(8, 1))


def test_a_short_row_leaves_white():
    tile = np.zeros((8, 8, 3), np.uint8)
    sheet = np.asarray(grid([[tile, tile], [tile]], gap=1))
    assert sheet.shape == (19, 19, 3)
    assert (sheet[10:18, 1:9] == 0).all()
    assert (sheet[10:18, 10:18] == 255).all()


def test_an_error_of_one_level_is_seen_and_large_ones_are_white():
    truth = np.full((2, 3, 3), 100, np.uint8)
    answer = truth.copy()
    answer[0, 1] = (103, 97, 100)  # 3, 3 and 0 off: 2 in the mean
    answer[1, 2] = 255
    wanted = np.zeros((2, 3), np.uint8)
    wanted[0, 1], wanted[1, 2] = 2 * ERROR_SCALE, 255
    assert (error_picture(answer, truth) == wanted[..., None]).all()
