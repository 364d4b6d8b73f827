"""What measuring an answer costs: by scikit-image, one by one, and by both ways that the benchmark has.

On a CPU it measures one by one, in threads; on a GPU a batch at a time, in torch. The latter runs here on the CPU, too.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.timing import Value, Work
from gwainet.batch_metrics import batch_metrics, similarity, squared_error
from gwainet.images import Uint8, downscale, upscale
from gwainet.metrics import all_metrics, psnr, ssim
from gwainet.params import Benchmark, Device, Runtime
from gwainet.people.photo import draw_photo
from gwainet.psnr import decibels
from gwainet.tensors import on_device
from gwainet.training.device import choose_device
from gwainet.workers import cores

FACES = 48
BATCH = Benchmark().batch_size
CLOSE = 1e-6  # dB of PSNR, and SSIM


class Quality(NamedTuple):
    """PSNR in dB, and SSIM."""

    psnr: float
    ssim: float


Measure = Callable[[Uint8, Uint8, Uint8], Quality]  # of an answer, a truth and an input


def faces() -> tuple[Uint8, Uint8, Uint8]:
    """Drawn faces, what bicubic makes of them, and of what. Shapes: -> (n, 168, 144, 3), the same, (n, 21, 18, 3)."""
    truth = np.stack([draw_photo(0, person, 0, 1)[25:193, 17:161] for person in range(FACES)])
    low = downscale(truth)
    return truth, np.stack([upscale(face) for face in low]), low


def by_scikit_image(sr: Uint8, gt: Uint8, _low: Uint8) -> Quality:
    """With the conventions of docs/paper.md, M1 and M2."""
    alike = structural_similarity(
        sr,
        gt,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return Quality(float(peak_signal_noise_ratio(gt, sr, data_range=255)), float(alike))


def ours(sr: Uint8, gt: Uint8, _low: Uint8) -> Quality:
    """As the benchmark measures them on a CPU."""
    return Quality(psnr(sr, gt), ssim(sr, gt))


def all_of_ours(sr: Uint8, gt: Uint8, low: Uint8) -> Quality:
    """As the benchmark measures them on a CPU, together with its other metrics."""
    values = all_metrics(sr, gt, low)
    return Quality(values["psnr"], values["ssim"])


@torch.inference_mode()
def of_batch(sr: Uint8, gt: Uint8, _low: Uint8, device: torch.device) -> list[Quality]:
    """A batch at a time. Shapes: (B, H, W, 3), (B, H, W, 3) -> B figures."""
    a, b = (on_device(pictures, device).to(torch.float64) for pictures in (sr, gt))
    figures = torch.stack([squared_error(a, b), similarity(a, b)], dim=1).cpu()
    return [Quality(decibels(error), alike) for error, alike in figures.tolist()]


def all_of_batch(sr: Uint8, gt: Uint8, low: Uint8, device: torch.device) -> list[Quality]:
    """As the benchmark measures them on a GPU, together with its other metrics."""
    values = batch_metrics({"answer": sr}, gt, low, device)["answer"]
    return [Quality(*both) for both in zip(values["psnr"], values["ssim"], strict=True)]


def check(found: list[Quality], truth: Uint8, answers: Uint8, low: Uint8) -> None:
    """Hold figures against scikit-image's.

    Raises:
        RuntimeError: one is further away than `CLOSE`.
    """
    expected = [by_scikit_image(*pictures) for pictures in zip(answers, truth, low, strict=True)]
    apart = np.abs(np.array(found) - np.array(expected)).max(axis=0)
    if (apart > CLOSE).any():
        raise RuntimeError(f"PSNR differs by {apart[0]:.1e} dB from scikit-image's, SSIM by {apart[1]:.1e}")


def measuring(measure: Callable[[Uint8, Uint8, Uint8], list[Quality]]) -> Work:
    """Measure all faces: answers, truths and inputs -> figures."""
    truth, answers, low = faces()

    def work() -> Callable[[], Value]:
        found = measure(answers, truth, low)

        def compare() -> Value:
            check(found, truth, answers, low)
            return float(np.mean([quality.psnr for quality in found]))

        return compare

    return work


def one_by_one(measure: Measure, workers: int, _threads: int) -> Work:
    """With so many threads of Python."""

    def all_faces(answers: Uint8, truth: Uint8, low: Uint8) -> list[Quality]:
        if workers == 1:
            return list(map(measure, answers, truth, low))
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(measure, answers, truth, low))

    return measuring(all_faces)


def in_batches(
    measure: Callable[[Uint8, Uint8, Uint8, torch.device], list[Quality]], where: Device, threads: int
) -> Work:
    """Batches of the benchmark's default size, from pictures on the host to figures on the host."""
    device = choose_device(Runtime(device=where, threads=threads))  # with the allocator's settings, as a stage runs

    def all_faces(answers: Uint8, truth: Uint8, low: Uint8) -> list[Quality]:
        batches = [slice(start, start + BATCH) for start in range(0, len(truth), BATCH)]
        return [quality for of in batches for quality in measure(answers[of], truth[of], low[of], device)]

    return measuring(all_faces)


def devices() -> dict[str, Device]:
    """The CPU, and a GPU where there is one."""
    return {"CPU": "cpu", "GPU": "cuda"} if torch.cuda.is_available() else {"CPU": "cpu"}


def forms() -> dict[str, Callable[[int], Work]]:
    """scikit-image first; PSNR and SSIM by both ways, then with PSNR on Y and LR-PSNR."""
    made: dict[str, Callable[[int], Work]] = {
        "scikit-image, one by one": lambda threads: one_by_one(by_scikit_image, 1, threads),
        "ours, one by one": lambda threads: one_by_one(ours, 1, threads),
    }
    if cores() > 1:
        made[f"ours, {cores()} threads"] = lambda threads: one_by_one(ours, cores(), threads)
    for name, device in devices().items():
        made[f"ours in torch, batches of {BATCH}, {name}"] = partial(in_batches, of_batch, device)
    made["all four, one by one"] = lambda threads: one_by_one(all_of_ours, 1, threads)
    for name, device in devices().items():
        made[f"all four in torch, batches of {BATCH}, {name}"] = partial(in_batches, all_of_batch, device)
    return made
