import math
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from gwainet.images import upscale
from gwainet.tensors import Means, column, guide_input, network_inputs, to_tensor, to_uint8

CPU = torch.device("cpu")
MEANS = Means(lr=(0.1, 0.2, 0.3), hr=(0.4, 0.5, 0.6))
LEVELS = np.arange(256, dtype=np.uint8)


def pictures(count: int, height: int, width: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def as_pixels(values: list[float], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Each value as a picture's pixel. Shapes: n -> (1, 3, 1, n)."""
    return torch.tensor(values, dtype=dtype).view(1, 1, 1, -1).repeat(1, 3, 1, 1)


def test_every_grey_level_survives_the_way_to_a_tensor_and_back():
    image = np.repeat(LEVELS.reshape(1, 16, 16, 1), 3, axis=3)
    tensor = to_tensor(image, CPU)
    assert tensor.dtype == torch.float32
    assert tensor.min() == 0
    assert tensor.max() == 1
    assert torch.equal(tensor[0, 0].flatten(), torch.arange(256).float() / 255)
    assert np.array_equal(to_uint8(tensor * 2 - 1), image)


def test_pictures_come_back_with_rows_columns_and_channels_in_place():
    images = pictures(3, 16, 24)
    tensor = to_tensor(images, CPU)
    assert tensor.shape == (3, 3, 16, 24)
    assert tensor.is_contiguous()
    assert tensor[2, 1, 5, 7] == np.float32(images[2, 5, 7, 1]) / np.float32(255)
    back = to_uint8(tensor * 2 - 1)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    assert np.array_equal(back, images)


def test_to_uint8_rounds_to_the_nearest_level():
    levels = [0, 1, 100, 254]
    for part, expected in ((-0.49, 0), (0.49, 0), (0.51, 1)):
        values = [(level + part) / 127.5 - 1 for level in levels]
        assert to_uint8(as_pixels(values))[0, 0, :, 0].tolist() == [max(0, level + expected) for level in levels]


def test_to_uint8_has_the_closed_form_round_of_255_x():
    values = np.linspace(-1.2, 1.2, 4001)
    expected = [min(255, max(0, math.floor(255 * (v + 1) / 2 + 0.5))) for v in values]
    halves = [abs((255 * (v + 1) / 2) % 1 - 0.5) < 1e-3 for v in values]
    for dtype in (torch.float32, torch.float64):
        found = to_uint8(as_pixels(values.tolist(), dtype))[0, 0, :, 1]
        wrong = [v for v, a, b, half in zip(values, found, expected, halves, strict=True) if a != b and not half]
        assert wrong == []


def test_to_uint8_clamps_what_lies_outside():
    assert to_uint8(as_pixels([-1.0, -1.1, -50.0, -math.inf]))[0, 0, :, 2].tolist() == [0, 0, 0, 0]
    assert to_uint8(as_pixels([1.0, 1.1, 50.0, math.inf]))[0, 0, :, 2].tolist() == [255, 255, 255, 255]


def test_to_uint8_keeps_the_networks_output_and_needs_no_gradient_switched_off():
    output = as_pixels([-2.0, 0.3, 2.0]).requires_grad_()
    before = output.detach().clone()
    to_uint8(output)
    assert torch.equal(output.detach(), before)


def test_to_uint8_takes_half_precision():
    assert to_uint8(as_pixels([-1.0, 0.0, 1.0], torch.bfloat16))[0, 0, :, 0].tolist() == [0, 128, 255]


def test_a_column_adds_a_value_to_each_channel():
    zeros = torch.zeros(2, 3, 4, 5)
    shifted = zeros + column((0.1, 0.2, 0.3), CPU)
    assert shifted.dtype == torch.float32
    for channel, value in enumerate((0.1, 0.2, 0.3)):
        assert torch.equal(shifted[:, channel], torch.full((2, 4, 5), value))


def test_network_inputs_are_in_0_1_minus_the_low_resolution_mean_and_upscaled_before():
    low = pictures(2, 6, 5)
    inputs = network_inputs(low, MEANS, CPU)
    assert set(inputs) == {"i_lr", "i_lru"}
    assert inputs["i_lr"].shape == (2, 3, 6, 5)
    assert inputs["i_lru"].shape == (2, 3, 48, 40)
    for index in range(2):
        for channel in range(3):
            plain = low[index, ..., channel] / 255 - MEANS.lr[channel]
            large = upscale(low[index])[..., channel] / 255 - MEANS.lr[channel]
            np.testing.assert_allclose(inputs["i_lr"][index, channel], plain, atol=1e-6)
            np.testing.assert_allclose(inputs["i_lru"][index, channel], large, atol=1e-6)


def test_the_guide_loses_the_high_resolution_mean():
    guide = pictures(2, 48, 40, 1)
    found = guide_input(guide, MEANS, CPU)
    np.testing.assert_allclose(found, guide.transpose(0, 3, 1, 2) / 255 - np.reshape(MEANS.hr, (3, 1, 1)), atol=1e-6)


@pytest.mark.parametrize("change", [lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: x[::2, 1:, 1:]])
def test_views_and_read_only_arrays_become_tensors_without_a_warning_and_without_being_changed(change):
    images = pictures(4, 16, 16)
    view = change(images)
    before = images.copy()
    assert np.array_equal(to_uint8(to_tensor(view, CPU) * 2 - 1), view)
    read_only = np.asarray(Image.fromarray(np.ascontiguousarray(view[0])))
    assert not read_only.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tensor = to_tensor(read_only[None], CPU)
    tensor.zero_()
    assert np.array_equal(read_only, view[0])
    assert np.array_equal(images, before)
