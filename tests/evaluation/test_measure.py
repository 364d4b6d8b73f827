"""How long a model takes, and both ways to measure answers; the answers themselves: tests/stages/test_benchmark.py."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from gwainet.evaluation.measure import Clock, batch_at_once, one_by_one
from gwainet.images import downscale
from gwainet.progress import progress


def test_the_clock_takes_the_median_batch_without_the_first_unless_it_is_alone():
    assert Clock([(8.0, 4)]).seconds_per_image() == 2.0
    assert Clock([(8.0, 4), (1.0, 4), (60.0, 4), (0.5, 2)]).seconds_per_image() == 0.25


def test_a_batch_at_once_has_the_systems_metrics_figures_and_progress_of_answers_one_by_one():
    random = np.random.default_rng(0)
    truth, good, bad = random.integers(0, 256, (3, 4, 32, 24, 3), dtype=np.uint8)
    answers, low = {"good": truth // 2 + good // 2, "bad": bad, "truth": truth}, downscale(truth)
    with progress("a", 12, "images") as ticker, ThreadPoolExecutor(2) as pool:
        expected = one_by_one(pool, answers, low, truth, ticker)
        assert ticker._done == 12
    with progress("b", 12, "images") as ticker:
        found = batch_at_once(torch.device("cpu"), answers, low, truth, ticker)
        assert ticker._done == 12
    assert list(found) == list(expected)
    for key, values in expected.items():
        assert found[key] == pytest.approx(values, rel=0, abs=1e-9)
