import math

import numpy as np
import pytest

from ntklens.statistics import mean, paired_difference, proportion, rank_correlation


def test_wilson_interval_of_a_textbook_example():
    """Newcombe 1998, Table I: 81 of 263 gives [.2553, .3662]."""
    estimate = proportion(81, 263)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.2553, 0.3662)


def test_proportion_at_the_edges():
    assert proportion(0, 10).low == 0
    assert proportion(10, 10).high == 1
    assert math.isnan(proportion(0, 0).value)


def test_paired_difference_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(1500):
        u = rng.random(200)
        estimate = paired_difference(u < 0.85, u + 0.1 * rng.normal(size=200) < 0.6)
        hits.append(estimate.low <= 0.85 - 0.6 <= estimate.high)
    assert abs(np.mean(hits) - 0.95) < 0.03


def test_paired_difference_is_narrower_than_two_intervals_and_antisymmetric():
    a = np.repeat([1, 1, 0, 0], [36, 12, 2, 0])
    b = np.repeat([1, 0, 1, 0], [36, 12, 2, 0])
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.value == pytest.approx(0.2)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    strong = paired_difference([1] * 40 + [0] * 10, [1] * 39 + [0] * 11)
    apart = proportion(40, 50).high - proportion(40, 50).low
    assert strong.high - strong.low < apart


def test_paired_difference_of_equal_outcomes_is_zero():
    a = np.array([1, 0, 1, 1])
    estimate = paired_difference(a, a)
    assert estimate.value == 0
    assert estimate.low <= 0 <= estimate.high


def test_mean_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [abs(e.value) < e.high - e.value for e in (mean(rng.normal(size=10)) for _ in range(2000))]
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 2000)


def test_rank_correlation_of_orders():
    assert rank_correlation(range(10), range(0, -10, -1)).value == pytest.approx(-1)
    independent = rank_correlation(*np.random.default_rng(1).normal(size=(2, 400)))
    assert independent.low < 0 < independent.high
