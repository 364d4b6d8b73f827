"""Distances of sets of descriptors, against closed forms and sums written out."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from gwainet.evaluation import distances as module
from gwainet.evaluation.distances import distances, frechet_distance, kernel_distance


def gaussian_like(mean, covariance, count=60, seed=0):
    """Points whose sample mean and covariance (n - 1) are exactly these."""
    white = np.random.default_rng(seed).standard_normal((count, len(mean)))
    white -= white.mean(axis=0)
    white = white @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(white.T))).T)
    return white @ np.linalg.cholesky(np.asarray(covariance, float)).T + np.asarray(mean, float)


def test_frechet_of_one_dimension_is_the_difference_of_means_and_of_deviations():
    a, b = gaussian_like([1.0], [[4.0]]), gaussian_like([-2.0], [[25.0]], count=40, seed=1)
    assert frechet_distance(a, b) == pytest.approx(3.0**2 + (2.0 - 5.0) ** 2)


def test_frechet_of_axes_that_agree_adds_over_the_axes():
    a = gaussian_like([0, 1, 2], np.diag([1.0, 4.0, 9.0]))
    b = gaussian_like([1, 1, 0], np.diag([16.0, 4.0, 1.0]), seed=2)
    assert frechet_distance(a, b) == pytest.approx((1 + 0 + 4) + (9 + 0 + 4))


def test_frechet_is_the_formula_with_the_root_of_the_product():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((90, 6)) @ rng.standard_normal((6, 6)), rng.standard_normal((70, 6)) + 0.3
    c_a, c_b = np.cov(a.T), np.cov(b.T)
    shift = a.mean(axis=0) - b.mean(axis=0)
    expected = shift @ shift + np.trace(c_a + c_b - 2 * np.real(sqrtm(c_a @ c_b)))
    assert frechet_distance(a, b) == pytest.approx(expected)
    assert frechet_distance(b, a) == pytest.approx(expected)


def test_frechet_of_fewer_pictures_than_dimensions_is_a_number_and_0_of_the_same_set():
    rng = np.random.default_rng(4)
    a, b = rng.standard_normal((5, 128)), rng.standard_normal((4, 128))
    assert np.isfinite(frechet_distance(a, b))
    assert frechet_distance(a, b) > 1
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10)


def brute_force(a, b):
    def kernel(x, y):
        return (sum(u * v for u, v in zip(x, y, strict=True)) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    of_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    of_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return of_a + of_b - 2 * sum(kernel(x, y) for x in a for y in b) / (n * m)


@pytest.mark.parametrize("rows", [3, 2048])
def test_the_kernel_distance_is_the_sum_over_pairs_whatever_is_held_at_a_time(rows, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", rows)
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((8, 4)), rng.standard_normal((5, 4)) + 0.5
    assert kernel_distance(a, b) == pytest.approx(brute_force(a.tolist(), b.tolist()))
    assert kernel_distance(a, b) == pytest.approx(kernel_distance(b, a))


def test_the_kernel_distance_of_a_set_to_itself_is_at_most_0_and_known_of_two_points():
    a = np.random.default_rng(6).standard_normal((12, 3))
    assert kernel_distance(a, a) == pytest.approx(brute_force(a.tolist(), a.tolist()))
    assert kernel_distance(a, a) <= 0
    # x = 0 and x = 1: k(0, .) = 1, k(1, 1) = 8; within 1, between (1 + 1 + 1 + 8) / 4
    assert kernel_distance([[0.0], [1.0]], [[0.0], [1.0]]) == pytest.approx(1 + 1 - 2 * 11 / 4)


def test_the_kernel_distance_is_unbiased():
    """Over many draws of one distribution its mean is 0, within four standard errors."""
    rng = np.random.default_rng(7)
    found = [kernel_distance(rng.standard_normal((6, 3)), rng.standard_normal((7, 3))) for _ in range(3000)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))


def test_both_grow_as_two_sets_move_apart():
    a = np.random.default_rng(8).standard_normal((50, 5))
    found = [distances(a, a + shift) for shift in (0.0, 0.5, 1.0)]
    assert found[0].frechet < found[1].frechet < found[2].frechet
    assert found[0].kernel < found[1].kernel < found[2].kernel
    assert found[2].frechet == pytest.approx(5.0)  # a shift alone


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((4, 3)), "2 descriptors a set or more, not 1 and 4"),
        (np.zeros((3, 3)), np.zeros((4, 2)), "of one length"),
        (np.zeros(3), np.zeros(3), "of one length"),
        (np.full((3, 2), np.nan), np.zeros((3, 2)), "not finite"),
    ],
)
def test_what_is_no_set_of_descriptors_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        distances(a, b)
