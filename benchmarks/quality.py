"""What measuring an answer costs: PSNR and SSIM by scikit-image, one by one, and as the benchmark does it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from benchmarks.timing import Value, Work
from gwainet.images import Uint8, downscale, upscale
from gwainet.metrics import psnr, ssim
from gwainet.people.photo import draw_photo
from gwainet.workers import cores

FACES = 48
CLOSE = 1e-6  # dB of PSNR, and SSIM


class Quality(NamedTuple):
    """PSNR in dB, and SSIM."""

    psnr: float
    ssim: float


Measure = Callable[[Uint8, Uint8], Quality]


def faces() -> tuple[Uint8, Uint8]:
    """Drawn faces, and what bicubic makes of them. Shapes: -> (n, 168, 144, 3), the same."""
    truth = np.stack([draw_photo(0, person, 0, 1)[25:193, 17:161] for person in range(FACES)])
    return truth, np.stack([upscale(downscale(face)) for face in truth])


def by_scikit_image(sr: Uint8, gt: Uint8) -> Quality:
    """With the conventions of docs/paper.md, M1 and M2."""
    similarity = structural_similarity(
        sr,
        gt,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return Quality(float(peak_signal_noise_ratio(gt, sr, data_range=255)), float(similarity))


def ours(sr: Uint8, gt: Uint8) -> Quality:
    """As the benchmark measures them."""
    return Quality(psnr(sr, gt), ssim(sr, gt))


def check(found: list[Quality], truth: Uint8, answers: Uint8) -> None:
    """Hold figures against scikit-image's.

    Raises:
        RuntimeError: one is further away than `CLOSE`.
    """
    expected = [by_scikit_image(sr, gt) for sr, gt in zip(answers, truth, strict=True)]
    apart = np.abs(np.array(found) - np.array(expected)).max(axis=0)
    if (apart > CLOSE).any():
        raise RuntimeError(f"PSNR differs by {apart[0]:.1e} dB from scikit-image's, SSIM by {apart[1]:.1e}")


def measuring(measure: Measure, workers: int, _threads: int) -> Work:
    """Measure all faces, with so many threads of Python."""
    truth, answers = faces()

    def work() -> Callable[[], Value]:
        if workers == 1:
            found = [measure(sr, gt) for sr, gt in zip(answers, truth, strict=True)]
        else:
            with ThreadPoolExecutor(workers) as pool:
                found = list(pool.map(measure, answers, truth))

        def compare() -> Value:
            check(found, truth, answers)
            return float(np.mean([quality.psnr for quality in found]))

        return compare

    return work


def forms() -> dict[str, Callable[[int], Work]]:
    """scikit-image first; ours in one thread and in as many as there are cores."""
    return {
        "scikit-image, one by one": lambda threads: measuring(by_scikit_image, 1, threads),
        "ours, one by one": lambda threads: measuring(ours, 1, threads),
        f"ours, {cores()} threads": lambda threads: measuring(ours, cores(), threads),
    }
