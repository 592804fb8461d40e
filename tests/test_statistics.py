import math

import numpy as np
import pytest

from ntklens.errors import InputError
from ntklens.statistics import bootstrap, crossed_mean, mean, paired_difference, proportion, rank_correlation


def test_wilson_interval_of_a_textbook_example():
    """Newcombe 1998, Table I: 81 of 263 gives [.2553, .3662]."""
    estimate = proportion(81, 263)
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (0.2553, 0.3662)


def test_proportion_at_the_edges():
    assert proportion(0, 10).low == 0
    assert proportion(10, 10).high == 1
    assert math.isnan(proportion(0, 0).value)


def pairs(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_paired_difference_of_a_textbook_example():
    """Fagerland, Lydersen & Laake 2017, chapter 8: complete response before and after therapy (Cavo et al. 2012)."""
    estimate = paired_difference(*pairs(59, 6, 16, 80))
    assert (round(estimate.low, 4), round(estimate.high, 4)) == (-0.1186, -0.0046)


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


@pytest.mark.parametrize(
    ("values", "bounds"), [([0.0, 0.0, 0.1], (0, 0.1768)), ([1.0, 1.0, 0.9], (0.8232, 1)), ([0.5], (0, 1))]
)
def test_the_mean_of_shares_is_a_share(values, bounds):
    estimate = mean(values, within=(0, 1))
    assert (estimate.low, estimate.high) == pytest.approx(bounds, abs=1e-4)


def test_rank_correlation_of_orders():
    assert rank_correlation(range(10), range(0, -10, -1)).value == pytest.approx(-1)
    independent = rank_correlation(*np.random.default_rng(1).normal(size=(2, 400)))
    assert independent.low < 0 < independent.high


@pytest.mark.parametrize(("n", "low"), [(5, 0.1), (50, 0.99)])
def test_few_units_in_one_order_are_no_certainty(n, low):
    estimate = rank_correlation(range(n), range(n))
    assert estimate.value == estimate.high == pytest.approx(1)
    assert low < estimate.low < (0.5 if n == 5 else 1)
    assert rank_correlation(range(n), range(n, 0, -1)).high == pytest.approx(-estimate.low)


def test_rank_correlation_covers_the_truth_as_often_as_it_says():
    """For a normal pair of correlation r, Spearman's ρ is 6/π arcsin(r/2)."""
    rng = np.random.default_rng(0)
    truth, r, runs = 6 / math.pi * math.asin(0.3), 0.6, 1000
    hits = []
    for _ in range(runs):
        x, e = rng.normal(size=(2, 60))
        estimate = rank_correlation(x, r * x + math.sqrt(1 - r * r) * e)
        hits.append(estimate.low <= truth <= estimate.high)
    assert abs(np.mean(hits) - 0.95) < 4 * math.sqrt(0.95 * 0.05 / runs)


def test_bootstrap_of_the_mean_is_students_interval():
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    ours, student = bootstrap(np.mean, values, generator=np.random.default_rng(1)), mean(values)
    assert ours.value == student.value
    assert ours.n == 400
    assert (ours.low, ours.high) == pytest.approx((student.low, student.high), abs=0.03)


def test_bootstrap_draws_the_same_rows_of_every_sample():
    x = np.random.default_rng(0).normal(size=(50, 3))
    estimate = bootstrap(lambda a, b: float(np.abs(2 * a - b).max()), x, 2 * x, generator=np.random.default_rng(0))
    assert (estimate.value, estimate.low, estimate.high) == (0, 0, 0)


def test_bootstrap_follows_its_generator():
    values = np.arange(20.0)
    one, same, other = (bootstrap(np.mean, values, generator=np.random.default_rng(s), resamples=50) for s in (0, 0, 1))
    assert one == same != other


def test_estimates_without_observations_say_nothing():
    assert math.isnan(mean([]).value)
    assert math.isnan(paired_difference([], []).value)
    assert math.isnan(rank_correlation([1, 1, 1, 1, 1, 1], range(6)).value)
    assert (rank_correlation([1, 2, 3], [3, 1, 2]).low, mean([4.0]).high) == (-1, math.inf)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: proportion(3, 2), "between 0 and n successes"),
        (lambda: proportion(1, 2, 95), "confidence between 0 and 1"),
        (lambda: mean([1.0, 2.0], 0.0), "confidence between 0 and 1"),
        (lambda: paired_difference([1, 0], [1]), "two vectors"),
        (lambda: rank_correlation([1, 2], [[1, 2]]), "two vectors"),
        (lambda: bootstrap(np.mean, [], generator=np.random.default_rng(0)), "one or more"),
        (lambda: bootstrap(np.mean, [1], [1, 2], generator=np.random.default_rng(0)), r"lengths \[1, 2\]"),
    ],
)
def test_values_that_do_not_fit(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_mean_over_seeds_that_are_alike_has_the_interval_over_images():
    values = np.random.default_rng(0).normal(size=50)
    estimate, seed_share = crossed_mean(np.stack([values] * 3))
    assert seed_share == 0
    assert (estimate.low, estimate.high) == pytest.approx((mean(values).low, mean(values).high))
    assert crossed_mean(values[None])[0] == mean(values)


def test_seeds_that_differ_make_the_interval_of_their_means():
    """Where images do not matter, the interval is Student's over the seeds."""
    by_seed = np.array([0.1, 0.4, 0.2])
    estimate, seed_share = crossed_mean(np.repeat(by_seed[:, None], 40, 1))
    assert seed_share == pytest.approx(1)
    assert (estimate.low, estimate.high) == pytest.approx((mean(by_seed).low, mean(by_seed).high))


@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.0, 1.0), (0.3, 1.0), (0.3, 0.0)])
def test_the_crossed_interval_covers_the_mean(of_seeds, of_images):
    """600 draws: at least 92.2 % hold the mean, three standard deviations below 95 %. More than 95 % is no fault here."""
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(600):
        values = of_seeds * rng.normal(size=(3, 1)) + of_images * rng.normal(size=(1, 30)) + rng.normal(size=(3, 30))
        estimate = crossed_mean(values)[0]
        held += estimate.low <= 0 <= estimate.high
    assert held >= 0.922 * 600


def test_values_that_are_no_table_of_seeds_and_images_are_refused():
    with pytest.raises(InputError, match=r"expected values \(seeds, images\)"):
        crossed_mean([1.0, 2.0])
