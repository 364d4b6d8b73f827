import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gwainet.baselines import haar

SIDES = st.integers(1, 4)


def level(image: torch.Tensor) -> list[torch.Tensor]:
    """One level of Haar's transform, by its definition: low, then the differences across, down and both."""
    a, b, c, d = image[..., ::2, ::2], image[..., ::2, 1::2], image[..., 1::2, ::2], image[..., 1::2, 1::2]
    return [(a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2]


@given(SIDES, SIDES, st.integers(1, 3), st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_packet_and_its_inverse_undo_each_other(height, width, channels, seed):
    image = torch.randn(2, channels, 8 * height, 8 * width, generator=torch.Generator().manual_seed(seed)).double()
    bands = haar.packet(image)
    assert bands.shape == (2, 64, channels, height, width)
    torch.testing.assert_close(haar.inverse(bands), image)
    other = torch.randn(bands.shape, generator=torch.Generator().manual_seed(seed)).double()
    torch.testing.assert_close(haar.packet(haar.inverse(other)), other)


@given(SIDES, SIDES, st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_packet_is_haars_transform_three_times_over(height, width, seed):
    image = torch.randn(1, 3, 8 * height, 8 * width, generator=torch.Generator().manual_seed(seed)).double()
    bands = [image]
    for _ in range(3):
        bands = [part for band in bands for part in level(band)]
    torch.testing.assert_close(haar.packet(image), torch.stack(bands, dim=1))


def test_the_packet_keeps_the_energy():
    image = torch.randn(2, 3, 16, 24).double()
    assert haar.packet(image).square().sum().item() == pytest.approx(image.square().sum().item())


def test_the_first_band_is_eight_times_the_mean_and_a_flat_picture_has_no_other():
    image = torch.full((1, 3, 8, 16), 0.25)
    bands = haar.packet(image)
    torch.testing.assert_close(bands[:, 0], torch.full((1, 3, 1, 2), 2.0))
    assert bands[:, 1:].abs().max() == 0


def test_the_groups_are_of_all_bands():
    assert sum(haar.GROUPS) == haar.BANDS == haar.ENDS[-1]
