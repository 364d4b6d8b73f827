"""How long a model takes; the answers themselves: tests/stages/test_benchmark.py."""

from gwainet.evaluation.measure import Clock


def test_the_clock_takes_the_median_batch_without_the_first_unless_it_is_alone():
    assert Clock([(8.0, 4)]).seconds_per_image() == 2.0
    assert Clock([(8.0, 4), (1.0, 4), (60.0, 4), (0.5, 2)]).seconds_per_image() == 0.25
