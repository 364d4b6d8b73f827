"""Seconds an image of several models, measured in turn, so that what else the machine does meets them alike."""

import time
from collections.abc import Mapping
from statistics import median

import numpy as np

from gwainet.nets.model import Generator
from gwainet.params import SCALE

WARM_UP = 3  # images a model, which also set up kernels and memory


def seconds_per_image(generators: Mapping[str, Generator], height: int, width: int, rounds: int) -> dict[str, float]:
    """Median time from pictures to pictures, one image at a time, in one run.

    The networks' time does not depend on what a picture shows: noise does, so that no faces need be at hand.

    Args:
        generators: those that are compared.
        height: of the answer, pixels.
        width: of the answer, pixels.
        rounds: images a model that count.
    """
    random = np.random.default_rng(0)
    low = random.integers(0, 256, (1, height // SCALE, width // SCALE, 3), np.uint8)
    guide = random.integers(0, 256, (1, height, width, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in generators}
    names = list(generators)
    for turn in range(WARM_UP + rounds):
        for name in names if turn % 2 else names[::-1]:  # neither is always the first
            generator = generators[name]
            started = time.perf_counter()
            generator.super_resolve(low, guide if generator.guided else None)
            seconds[name].append(time.perf_counter() - started)
    return {name: median(values[WARM_UP:]) for name, values in seconds.items()}
