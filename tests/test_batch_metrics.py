"""Figures of batches are those of the pictures one by one, and so are scikit-image's."""

import itertools
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.utils._python_dispatch import TorchDispatchMode

from gwainet.batch_metrics import batch_metrics, reduced, similarity, squared_error
from gwainet.images import Uint8, downscale, upscale
from gwainet.metrics import METRICS, PSNR_CAP, all_metrics
from gwainet.people import draw_photo
from tests.test_metrics import picture

CPU = torch.device("cpu")
SIZES = [(24, 24), (168, 144), (48, 40), (24, 200), (48, 24), (56, 24), (200, 24)]  # the last two are tall for Pillow
KINDS = ("noise", "waves", "black and white", "flat", "nearly equal", "equal")


def batch(kind: str, count: int, size: tuple[int, int], seed: int = 0) -> tuple[Uint8, Uint8]:
    """Answers and truths, each pair another one."""
    random = np.random.default_rng(seed)
    shape = (count, *size, 3)
    truth = random.integers(0, 256, shape, dtype=np.uint8)
    if kind == "waves":
        sr, truth = (np.stack([picture(seed + first + n, *size) for n in range(count)]) for first in (0, 50))
        return sr, truth
    if kind == "black and white":
        return random.choice(np.array([0, 255], np.uint8), shape), random.choice(np.array([0, 255], np.uint8), shape)
    if kind == "flat":
        level = random.integers(0, 256, (2, count, 1, 1, 3)).astype(np.uint8)
        return level[0] + np.zeros(shape, np.uint8), level[1] + np.zeros(shape, np.uint8)
    if kind == "nearly equal":
        sr = truth.copy()
        for place in range(count):
            sr[place, 8 + place % 8, 8, place % 3] ^= 1
        return sr, truth
    return (truth.copy() if kind == "equal" else random.integers(0, 256, shape, dtype=np.uint8)), truth


def assert_one_by_one(found: Mapping[str, list[float]], sr: Uint8, gt: Uint8, lr: Uint8) -> None:
    assert tuple(found) == METRICS
    assert {len(values) for values in found.values()} == {len(sr)}
    for place in range(len(sr)):
        expected = all_metrics(sr[place], gt[place], lr[place])
        assert {metric: values[place] for metric, values in found.items()} == pytest.approx(expected, rel=0, abs=1e-9)
        # sums of whole numbers have no order
        assert found["psnr"][place] == expected["psnr"]
        assert found["lr_psnr"][place] == expected["lr_psnr"]


def compare(device: torch.device, kind: str, size: tuple[int, int], count: int) -> None:
    """Answers, and the truth itself as one, on a device and one by one."""
    sr, gt = batch(kind, count, size)
    lr = downscale(gt)
    found = batch_metrics({"model": sr, "truth": gt}, gt, lr, device)
    assert list(found) == ["model", "truth"]
    assert_one_by_one(found["model"], sr, gt, lr)
    assert_one_by_one(found["truth"], gt, gt, lr)


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_a_batch_are_those_of_its_pictures_one_by_one(kind: str, size: tuple[int, int], count: int):
    compare(CPU, kind, size, count)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_figures_on_cuda_are_those_of_the_pictures_one_by_one():
    for kind, size, count in itertools.product(KINDS, SIZES, [1, 2, 5]):
        compare(torch.device("cuda"), kind, size, count)
    compare(torch.device("cuda"), "noise", (168, 144), 60)  # in two parts


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(3, 12),
    width=st.integers(3, 12),
    count=st.integers(1, 4),
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 2**16),
)
def test_any_size_is_measured_as_one_by_one(height: int, width: int, count: int, kind: str, seed: int):
    sr, gt = batch(kind, count, (8 * height, 8 * width), seed)
    lr = downscale(gt)
    assert_one_by_one(batch_metrics({"model": sr}, gt, lr, CPU)["model"], sr, gt, lr)


@pytest.mark.parametrize("together", [1, 2, 3, 7])
def test_how_many_pictures_are_measured_together_changes_nothing(together: int):
    sr, gt = batch("waves", 7, (32, 40))
    lr = downscale(gt)
    whole = batch_metrics({"model": sr, "truth": gt}, gt, lr, CPU)
    found = batch_metrics({"model": sr, "truth": gt}, gt, lr, CPU, at_once=together * 32 * 40)
    for name, values in whole.items():
        for metric in METRICS:
            assert found[name][metric] == pytest.approx(values[metric], rel=0, abs=1e-9)
    assert len(set(whole["model"]["psnr"])) == 7  # so that pictures that change places would be seen


def test_a_picture_larger_than_the_limit_is_measured_alone():
    sr, gt = batch("noise", 2, (32, 40))
    lr = downscale(gt)
    assert_one_by_one(batch_metrics({"model": sr}, gt, lr, CPU, at_once=1)["model"], sr, gt, lr)


@pytest.mark.parametrize("size", SIZES)
def test_the_truth_as_the_answer_has_the_cap_and_similarity_one(size: tuple[int, int]):
    _, gt = batch("noise", 3, size)
    found = batch_metrics({"truth": gt}, gt, downscale(gt), CPU)["truth"]
    for metric in ("psnr", "psnr_y", "lr_psnr"):
        assert found[metric] == [PSNR_CAP] * 3
    assert found["ssim"] == pytest.approx([1.0] * 3, abs=1e-12)


def test_figures_of_drawn_faces_are_scikit_images():
    gt = np.stack([draw_photo(0, person, 0, 1)[25:193, 17:161] for person in range(3)])
    sr = np.stack([upscale(downscale(face)) for face in gt])
    a, b = (torch.from_numpy(pictures).to(torch.float64) for pictures in (sr, gt))
    errors, alike = squared_error(a, b).tolist(), similarity(a, b).tolist()
    for place in range(3):
        peer = peak_signal_noise_ratio(gt[place], sr[place], data_range=255)
        assert 10 * np.log10(255**2 / errors[place]) == pytest.approx(peer, abs=1e-9)
        peer = structural_similarity(
            sr[place], gt[place], channel_axis=-1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert alike[place] == pytest.approx(peer, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 14),
    width=st.integers(1, 14),
    kind=st.sampled_from(["noise", "black and white", "flat"]),
    seed=st.integers(0, 2**16),
)
def test_answers_are_reduced_as_pillow_does_bit_for_bit(height: int, width: int, kind: str, seed: int):
    pictures, _ = batch(kind, 3, (8 * height, 8 * width), seed)
    assert np.array_equal(reduced(torch.from_numpy(pictures)).numpy(), downscale(pictures))


class NothingIsReadBack(TorchDispatchMode):
    """Fails where the host asks for a number, which on a GPU would wait for all that is computed before."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        assert func is not torch.ops.aten.nonzero.default
        return func(*args, **(kwargs or {}))


def test_no_number_is_waited_for_before_all_figures_come_back():
    sr, gt = batch("waves", 5, (48, 40))
    lr = downscale(gt)
    with NothingIsReadBack():
        found = batch_metrics({"model": sr, "other": gt}, gt, lr, CPU, at_once=2 * 48 * 40)
        with pytest.raises(AssertionError):
            torch.ones(1).item()
    assert_one_by_one(found["model"], sr, gt, lr)


def test_pictures_that_do_not_fit_together_are_refused():
    sr, gt = batch("noise", 2, (32, 24))
    lr = downscale(gt)
    with pytest.raises(ValueError, match="of one size"):
        batch_metrics({"model": sr[:1]}, gt, lr, CPU)
    with pytest.raises(ValueError, match="uint8"):
        batch_metrics({"model": sr.astype(np.float64)}, gt, lr, CPU)
    with pytest.raises(ValueError, match="8 times smaller"):
        batch_metrics({"model": sr}, gt, lr[:, 1:], CPU)
    with pytest.raises(ValueError, match="8 times smaller"):
        batch_metrics({"model": sr[:, :28]}, gt[:, :28], lr[:, :3], CPU)
    with pytest.raises(ValueError, match="24 pixels a side, not 16 x 24"):
        batch_metrics({"model": sr[:, :16]}, gt[:, :16], lr[:, :2], CPU)
