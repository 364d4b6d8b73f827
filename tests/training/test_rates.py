"""Learning rates: closed forms."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gwainet.params import TrainPsnr
from gwainet.training.rates import factor, set_rates


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_in_paper_mode_the_rate_is_steady(step, steps):
    assert factor(TrainPsnr(), step, steps) == 1.0


@given(st.integers(1, 1000))
def test_a_warm_up_rises_in_equal_parts_to_the_whole_rate(warm_up):
    settings = TrainPsnr(warm_up_steps=warm_up)
    made = [factor(settings, step, 10_000) for step in range(warm_up + 2)]
    rises = {round(b - a, 12) for a, b in itertools.pairwise(made[: warm_up + 1])}
    assert rises == {round(1 / (warm_up + 1), 12)}
    assert made[0] > 0
    assert made[warm_up:] == [1.0, 1.0]


def test_a_cosine_starts_at_1_has_half_in_the_middle_and_ends_at_0():
    settings = TrainPsnr(decay="cosine")
    assert factor(settings, 0, 100) == 1.0
    assert factor(settings, 50, 100) == pytest.approx(0.5)
    assert factor(settings, 25, 100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert factor(settings, 100, 100) == factor(settings, 200, 100) == 0.0


def test_a_group_with_a_factor_of_its_own_keeps_it():
    optimiser = torch.optim.Adam([torch.zeros(1)])
    optimiser.add_param_group({"params": [torch.zeros(1)], "rate_factor": 0.1})
    set_rates([optimiser], 2.0)
    assert [group["lr"] for group in optimiser.param_groups] == [2.0, pytest.approx(0.2)]
