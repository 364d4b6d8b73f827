import math
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2ycbcr
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional import image as torchmetrics

from gwainet.images import Uint8, downscale, upscale
from gwainet.metrics import (
    CONVENTIONS,
    METRICS,
    PSNR_CAP,
    SMALLEST_SIDE,
    all_metrics,
    bootstrap_interval,
    lr_psnr,
    luma,
    paired_difference,
    psnr,
    psnr_y,
    ssim,
)
from gwainet.people import draw_photo

LUMA_GAIN = 219 / 255  # black to white is 16 to 235


def picture(seed: int, height: int = 48, width: int = 40) -> Uint8:
    """A smooth picture with noise: SSIM neither 0 nor 1 between two of them."""
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    waves = 128 + 60 * np.sin(rows / 7 + seed)[..., None] * np.cos(columns / 5)[..., None]
    noisy: Uint8 = np.clip(waves + random.normal(0, 12, (height, width, 3)), 0, 255).astype(np.uint8)
    return noisy


@cache
def pair(kind: str, seed: int) -> tuple[Uint8, Uint8]:
    """An answer and its truth: without structure, with some, or a face and its bicubic."""
    random = np.random.default_rng(seed)
    if kind == "noise":
        a, b = random.integers(0, 256, (2, 32, 40, 3), dtype=np.uint8)
        return a, b
    if kind == "waves":
        return picture(seed), picture(seed + 10)
    gt = draw_photo(0, seed, 0, 1)[25:193, 17:161]  # the profile demo's crop
    return upscale(downscale(gt)), gt


each_pair = pytest.mark.parametrize(
    ("kind", "seed"), [(k, s) for k in ("noise", "waves", "drawn face") for s in (0, 1)]
)


@pytest.fixture
def double() -> Iterator[None]:
    """torchmetrics takes its constants (255, 10) in torch's default type: in float32 they cost 1e-6 dB."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def tensor(picture: np.ndarray) -> torch.Tensor:
    """As torchmetrics takes pictures. Shapes: (H, W, 3) or (H, W) -> (1, C, H, W)."""
    channels = picture if picture.ndim == 3 else picture[..., None]
    return torch.from_numpy(channels.astype(np.float64)).permute(2, 0, 1)[None]


@given(base=st.integers(0, 200), offset=st.integers(1, 55))
@settings(max_examples=30, deadline=None)
def test_a_constant_offset_has_the_closed_form_psnr(base, offset):
    gt = np.full((32, 24, 3), base, np.uint8)
    sr = gt + np.uint8(offset)
    assert psnr(sr, gt) == pytest.approx(20 * math.log10(255 / offset), abs=1e-12)
    assert psnr_y(sr, gt) == pytest.approx(20 * math.log10(255 / (LUMA_GAIN * offset)), abs=1e-9)
    assert psnr_y(sr, gt) - psnr(sr, gt) == pytest.approx(-20 * math.log10(LUMA_GAIN), abs=1e-9)  # 1.32 dB


def test_the_largest_difference_is_zero_decibels():
    black, white = np.zeros((32, 32, 3), np.uint8), np.full((32, 32, 3), 255, np.uint8)
    assert psnr(black, white) == 0.0
    assert psnr(white, black) == 0.0
    assert psnr_y(white, black) == pytest.approx(-20 * math.log10(LUMA_GAIN), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, psnr_y, ssim])
def test_metrics_are_symmetric_and_invariant_to_mirroring_and_to_a_common_shift_of_the_picture(metric):
    a, b = picture(1), picture(2)
    assert metric(a, b) == pytest.approx(metric(b, a), abs=1e-10)
    assert metric(a[:, ::-1], b[:, ::-1]) == pytest.approx(metric(a, b), abs=1e-10)
    assert metric(a[::-1], b[::-1]) == pytest.approx(metric(a, b), abs=1e-10)
    rolled = [np.roll(p, (5, 3), axis=(0, 1)) for p in (a, b)]
    if metric is psnr:  # the others do not see the border
        assert psnr(*rolled) == pytest.approx(psnr(a, b), abs=1e-10)


def test_psnr_is_invariant_to_a_common_shift_of_brightness():
    a, b = picture(3) // 2, picture(4) // 2
    assert psnr(a + np.uint8(90), b + np.uint8(90)) == pytest.approx(psnr(a, b), abs=1e-12)
    assert psnr_y(a + np.uint8(90), b + np.uint8(90)) == pytest.approx(psnr_y(a, b), abs=1e-9)


def test_one_wrong_level_in_one_channel_is_seen_by_psnr_and_the_cap_keeps_the_order():
    gt = picture(5)
    sr = gt.copy()
    sr[20, 20, 1] ^= 1
    assert psnr(sr, gt) == pytest.approx(10 * math.log10(255**2 * gt.size), abs=1e-9)
    assert psnr(sr, gt) < psnr(gt, gt) == PSNR_CAP
    assert psnr_y(gt, gt) == PSNR_CAP
    large = np.zeros((512, 512, 3), np.uint8)
    nearly = large.copy()
    nearly[0, 0, 0] = 1  # 107 dB uncapped
    assert psnr(nearly, large) == PSNR_CAP


@each_pair
def test_psnr_equals_scikit_images_and_torchmetrics(kind, seed, double):
    sr, gt = pair(kind, seed)
    assert psnr(sr, gt) == pytest.approx(peak_signal_noise_ratio(gt, sr, data_range=255), abs=1e-9)
    peer = torchmetrics.peak_signal_noise_ratio(tensor(sr), tensor(gt), data_range=255.0)
    assert psnr(sr, gt) == pytest.approx(peer.item(), abs=1e-9)


@each_pair
def test_psnr_y_equals_scikit_images_and_torchmetrics_on_scikit_images_luma(kind, seed, double):
    sr, gt = pair(kind, seed)
    # converted first, cropped afterwards: the same numbers, since a pixel's luma is its own
    y_sr, y_gt = (rgb2ycbcr(picture)[8:-8, 8:-8, 0] for picture in (sr, gt))
    assert psnr_y(sr, gt) == pytest.approx(peak_signal_noise_ratio(y_gt, y_sr, data_range=255), abs=1e-9)
    peer = torchmetrics.peak_signal_noise_ratio(tensor(y_sr), tensor(y_gt), data_range=255.0)
    assert psnr_y(sr, gt) == pytest.approx(peer.item(), abs=1e-9)


def test_a_mean_of_decibels_is_torchmetrics_psnr_image_by_image_and_not_of_the_batch(double):
    pairs = [pair("waves", 0), pair("drawn face", 0)]
    sr, gt = (torch.cat([tensor(both[side][:40, :40]) for both in pairs]) for side in (0, 1))
    mean = np.mean([psnr(a[:40, :40], b[:40, :40]) for a, b in pairs])
    peer = torchmetrics.peak_signal_noise_ratio(sr, gt, data_range=255.0, dim=(1, 2, 3))
    assert mean == pytest.approx(peer.item(), abs=1e-9)
    of_batch = torchmetrics.peak_signal_noise_ratio(sr, gt, data_range=255.0).item()
    assert of_batch < mean - 0.5  # PSNR of the mean error (docs/paper.md, M1)


def test_luma_runs_from_16_to_235_and_equals_scikit_images():
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert luma(corners)[0] == pytest.approx([16, 235, 81.481, 144.553, 40.966], abs=1e-9)
    assert np.abs(luma(picture(6)) - rgb2ycbcr(picture(6))[..., 0]).max() < 1e-9


def test_psnr_y_ignores_exactly_the_cropped_border():
    gt = picture(7)
    sr = gt.copy()
    sr[:8], sr[-8:], sr[:, :8], sr[:, -8:] = 0, 0, 0, 0
    assert psnr_y(sr, gt) == PSNR_CAP
    assert psnr_y(sr, gt, crop=7) < 40
    assert psnr_y(sr, gt, crop=0) < psnr_y(sr, gt, crop=7)


def test_ssim_of_itself_is_one_and_of_a_negative_is_low():
    gt = picture(8)
    assert ssim(gt, gt) == pytest.approx(1.0, abs=1e-12)
    assert ssim(255 - gt, gt) < 0


def test_ssim_of_two_flat_pictures_has_the_closed_form():
    a, b = np.full((24, 24, 3), 100, np.uint8), np.full((24, 24, 3), 150, np.uint8)
    c1 = (0.01 * 255) ** 2
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-9)


def test_ssim_equals_its_definition_computed_window_by_window():
    a, b = picture(9, 24, 24).astype(float), picture(19, 24, 24).astype(float)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weight = np.outer(taps, taps) / taps.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    values = []
    for channel in range(3):
        for top in range(24 - 10):
            for left in range(24 - 10):
                x, y = (p[top : top + 11, left : left + 11, channel] for p in (a, b))
                mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
                var_x, var_y = (weight * (x - mean_x) ** 2).sum(), (weight * (y - mean_y) ** 2).sum()
                covariance = (weight * (x - mean_x) * (y - mean_y)).sum()
                values.append(
                    (2 * mean_x * mean_y + c1)
                    * (2 * covariance + c2)
                    / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
                )
    assert ssim(a.astype(np.uint8), b.astype(np.uint8)) == pytest.approx(np.mean(values), abs=1e-9)


@each_pair
def test_ssim_equals_the_mean_of_scikit_images_channels_and_interior_map(kind, seed):
    sr, gt = pair(kind, seed)
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    channels = [structural_similarity(sr[..., c], gt[..., c], **settings) for c in range(3)]
    assert ssim(sr, gt) == pytest.approx(np.mean(channels), abs=1e-9)
    _, full = structural_similarity(sr, gt, channel_axis=-1, full=True, **settings)
    assert ssim(sr, gt) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-9)


@each_pair
def test_scikit_images_sample_covariance_is_the_same_ssim_with_a_smaller_k2(kind, seed):
    sr, gt = pair(kind, seed)
    inflated = 121 / 120  # scikit-image's default multiplies variances by n / (n - 1), n = 11 * 11
    peer = structural_similarity(
        sr, gt, channel_axis=-1, gaussian_weights=True, sigma=1.5, data_range=255, K2=0.03 * math.sqrt(inflated)
    )
    assert ssim(sr, gt) == pytest.approx(peer, abs=1e-9)


@each_pair
def test_ssim_equals_torchmetrics_map_inside_the_border_and_its_mean_of_mirrored_pictures(kind, seed):
    sr, gt = pair(kind, seed)
    mean, full = torchmetrics.structural_similarity_index_measure(
        tensor(sr), tensor(gt), data_range=255.0, return_full_image=True
    )
    assert ssim(sr, gt) == pytest.approx(full[..., 5:-5, 5:-5].mean().item(), abs=1e-9)
    # torchmetrics also counts the windows that reach over the border, into the mirrored picture
    mirrored = [np.pad(picture, ((5, 5), (5, 5), (0, 0)), mode="reflect") for picture in (sr, gt)]
    assert ssim(*mirrored) == pytest.approx(mean.item(), abs=1e-9)
    assert mean.item() != pytest.approx(ssim(sr, gt), abs=1e-5)


def test_lr_psnr_is_the_cap_for_the_truth_and_falls_by_a_shift_of_colour_as_psnr_does():
    gt = picture(11) // 2 + np.uint8(40)
    low = downscale(gt)
    assert lr_psnr(gt, low) == PSNR_CAP
    flat = np.full((32, 32, 3), 90, np.uint8)
    assert lr_psnr(flat + np.uint8(7), downscale(flat)) == pytest.approx(20 * math.log10(255 / 7), abs=1e-9)
    shifted = gt.copy()
    shifted[..., 0] += 10
    assert lr_psnr(shifted, low) < lr_psnr(upscale(low), low)


def test_all_metrics_gives_each_described_metric():
    sr, gt = picture(12), picture(22)
    values = all_metrics(sr, gt, downscale(gt))
    assert tuple(values) == METRICS == tuple(CONVENTIONS)
    assert values == {
        "psnr": psnr(sr, gt),
        "psnr_y": psnr_y(sr, gt),
        "ssim": ssim(sr, gt),
        "lr_psnr": lr_psnr(sr, downscale(gt)),
    }


def test_the_smallest_side_is_the_least_multiple_of_8_that_every_metric_takes():
    flat = np.zeros((SMALLEST_SIDE, SMALLEST_SIDE, 3), np.uint8)
    assert all_metrics(flat, flat, downscale(flat))["psnr"] == PSNR_CAP
    small = np.zeros((SMALLEST_SIDE - 8, SMALLEST_SIDE - 8, 3), np.uint8)
    with pytest.raises(ValueError, match="leaves nothing of 16 x 16"):
        all_metrics(small, small, downscale(small))


@pytest.mark.parametrize("metric", [psnr, psnr_y, ssim])
def test_pictures_of_different_sizes_or_types_are_refused(metric):
    with pytest.raises(ValueError, match="one size"):
        metric(picture(0), picture(0)[1:])
    with pytest.raises(ValueError, match="uint8"):
        metric(picture(0).astype(np.float64), picture(0))


def test_the_interval_of_equal_values_is_a_point():
    identities = np.repeat(np.arange(7), 3)
    interval = bootstrap_interval(np.full(21, 24.7), identities, 500, 0)
    assert tuple(interval) == pytest.approx((24.7, 24.7, 24.7), abs=1e-12)


def test_the_interval_of_one_person_is_a_point_at_the_mean():
    assert tuple(bootstrap_interval([1.0, 2.0, 6.0], ["a", "a", "a"], 100, 0)) == pytest.approx((3, 3, 3), abs=1e-12)


def test_an_interval_holds_its_mean_is_seeded_and_ignores_the_order_of_images():
    random = np.random.default_rng(0)
    values, identities = random.normal(25, 2, 60), np.repeat(np.arange(20), 3)
    interval = bootstrap_interval(values, identities, 1000, 3)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(values.mean())
    assert interval == bootstrap_interval(values, identities, 1000, 3)
    assert interval != bootstrap_interval(values, identities, 1000, 4)
    order = random.permutation(60)
    assert tuple(bootstrap_interval(values[order], identities[order], 1000, 3)) == pytest.approx(tuple(interval))
    names = np.array([f"n{i:03d}" for i in identities])
    assert bootstrap_interval(values, names, 1000, 3) == interval


def test_the_interval_equals_a_plain_loop_over_resamples():
    random = np.random.default_rng(1)
    sizes = random.integers(1, 5, 12)
    identities = np.repeat(np.arange(12), sizes)
    values = random.normal(0, 1, len(identities)) + identities
    loop = np.random.default_rng(5)
    means = []
    for drawn in loop.integers(0, 12, (400, 12)):
        means.append(np.concatenate([values[identities == person] for person in drawn]).mean())
    low, high = np.percentile(means, [2.5, 97.5])
    assert tuple(bootstrap_interval(values, identities, 400, 5)) == pytest.approx((values.mean(), low, high), abs=1e-9)


@pytest.mark.parametrize("photos", [(4, 4, 4, 4), (1, 2, 3, 10)], ids=["as many photos each", "unequal"])
def test_intervals_of_a_known_mean_hold_it_about_95_times_in_100_over_people_and_not_over_images(photos):
    random = np.random.default_rng(0)
    trials, people, truth = 400, 60, 25.0
    identities = np.repeat(np.arange(people), photos * (people // 4))
    held = {"people": 0, "images": 0}
    for _ in range(trials):
        person = random.normal(0, 2.0, people)[identities]
        values = truth + person + random.normal(0, 1.0, len(identities))
        for drawn, units in (("people", identities), ("images", np.arange(len(identities)))):
            interval = bootstrap_interval(values, units, 500, 0)
            held[drawn] += interval.low <= truth <= interval.high
    assert 0.91 <= held["people"] / trials <= 0.98
    assert held["images"] / trials < 0.8  # what an interval over images would claim to be 95 %


def test_intervals_over_people_are_wider_than_over_images_when_people_differ():
    random = np.random.default_rng(2)
    identities = np.repeat(np.arange(30), 6)
    values = random.normal(0, 2, 30)[identities] + random.normal(0, 0.5, 180)
    over_people = bootstrap_interval(values, identities, 1000, 0)
    over_images = bootstrap_interval(values, np.arange(180), 1000, 0)
    assert over_people.high - over_people.low > 2 * (over_images.high - over_images.low)


def test_a_paired_difference_takes_out_what_both_systems_share():
    random = np.random.default_rng(3)
    identities = np.repeat(np.arange(25), 4)
    hardness = random.normal(0, 3, 25)[identities]
    a, b = hardness + 0.3 + random.normal(0, 0.1, 100), hardness + random.normal(0, 0.1, 100)
    paired = paired_difference(a, b, identities, 1000, 0)
    alone = bootstrap_interval(a, identities, 1000, 0)
    assert paired.low > 0.2
    assert paired.high < 0.4
    assert paired.high - paired.low < (alone.high - alone.low) / 10
    swapped = paired_difference(b, a, identities, 1000, 0)
    assert tuple(swapped) == pytest.approx((-paired.mean, -paired.high, -paired.low))


def test_a_constant_gain_over_a_system_is_a_point():
    values = np.random.default_rng(4).normal(25, 3, 40)
    paired = paired_difference(values + 0.5, values, np.repeat(np.arange(10), 4), 300, 0)
    assert tuple(paired) == pytest.approx((0.5, 0.5, 0.5), abs=1e-9)


def test_values_that_cannot_be_averaged_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        bootstrap_interval([], [], 10, 0)
    with pytest.raises(ValueError, match="as many values as identities"):
        bootstrap_interval([1.0, 2.0], [1], 10, 0)
    with pytest.raises(ValueError, match="not finite"):
        bootstrap_interval([1.0, math.inf], [1, 2], 10, 0)
    with pytest.raises(ValueError, match="both sides"):
        paired_difference([1.0], [1.0, 2.0], [1], 10, 0)
