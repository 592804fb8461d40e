"""Estimates with confidence intervals: shares, means, paired differences, rank correlations, and the bootstrap.

`scipy.stats` takes longer to import than the rest of the package, so each function imports it when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ntklens.errors import InputError


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval and the number of observations behind it.

    Attributes:
        value: the estimate itself.
        low: lower end of the interval.
        high: upper end of the interval.
        n: number of observations.

    Raises:
        InputError: no numbers, or ends of the interval that are exchanged.

    Example:
        >>> print(proportion(163, 200))
        81.5 % [75.5, 86.3]
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        for name, number in (("value", self.value), ("low", self.low), ("high", self.high), ("n", self.n)):
            if isinstance(number, bool) or not isinstance(number, (int, float, np.number)):
                raise InputError(f"expected {name} as a number; got {number!r}.")
        if self.low > self.high:
            raise InputError(f"expected low up to high; got {self.low} and {self.high}.")
        if self.n != int(self.n) or self.n < 0:
            raise InputError(f"expected n as a whole number of observations; got {self.n}.")

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def row(self, prefix: str = "") -> dict[str, float]:
        """Return the columns of a record's table: the value under `prefix` (or "value"), and the ends of its interval."""
        name = prefix or "value"
        stem = f"{prefix}_" if prefix else ""
        return {name: self.value, f"{stem}low": self.low, f"{stem}high": self.high}


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Return the share of successes with Wilson's score interval (Wilson 1927).

    Args:
        successes: number of successes, from 0 to n.
        n: number of independent trials; without any, the share is NaN and the interval [0, 1].
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        InputError: more successes than trials, a negative count, or a confidence outside (0, 1).
    """
    from scipy import stats

    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise InputError(f"expected between 0 and n successes; got {successes} of {n}.")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean(
    values: ArrayLike, confidence: float = 0.95, *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Return the mean of independent observations with Student's interval.

    Args:
        values: the observations; fewer than two leave the interval at `within`.
        confidence: coverage of the interval, between 0 and 1.
        within: range in which the mean can lie, such as (0, 1) for a share; the interval is clipped to it.

    Raises:
        InputError: a confidence outside (0, 1).
    """
    from scipy import stats

    _check_confidence(confidence)
    observations = np.asarray(values, dtype=float)
    n = len(observations)
    centre = float(observations.mean()) if n else math.nan
    if n < 2:
        return Estimate(centre, *within, n)
    half_width = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(observations.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, max(within[0], centre - half_width), min(within[1], centre + half_width), n)


def crossed_mean(values: ArrayLike, confidence: float = 0.95) -> tuple[Estimate, float]:
    """Return the mean over seeds and images that are crossed, with an interval over both.

    Both are random: the interval says what other seeds and other images would give. With mean squares M_S of the rows, M_I
    of the columns and M_E of what neither explains, the variance of the mean is (M_S + M_I - M_E) / (S n), and its degrees
    of freedom are those of Satterthwaite (1946). Where M_S or M_I is below M_E, as chance makes it, M_E stands for it, so
    that no source of variance is taken for negative.

    Args:
        values: (S, n), one row per seed and one column per image.
        confidence: coverage of the interval, between 0 and 1.

    Returns:
        The mean with its interval and n, and the share of its variance that more seeds with as many images would lower.
        With one seed the interval covers images alone, and that share is 0.

    Raises:
        InputError: values that are not a matrix, or a confidence outside (0, 1).
    """
    from scipy import stats

    _check_confidence(confidence)
    table = np.asarray(values, dtype=float)
    if table.ndim != 2 or not len(table):
        raise InputError(f"expected values (seeds, images) with at least one row; got an array of {table.shape}.")
    seeds, n = table.shape
    if seeds == 1 or n < 2:
        return mean(table.mean(0), confidence), 0.0
    centre = float(table.mean())
    by_seed, by_image = table.mean(1), table.mean(0)
    rest = table - by_seed[:, None] - by_image + centre
    m_rest = float((rest**2).sum()) / ((seeds - 1) * (n - 1))
    m_seed = max(n * float(by_seed.var(ddof=1)), m_rest)
    m_image = max(seeds * float(by_image.var(ddof=1)), m_rest)
    total = m_seed + m_image - m_rest
    if total == 0:
        return Estimate(centre, centre, centre, n), 0.0
    freedom = total**2 / (m_seed**2 / (seeds - 1) + m_image**2 / (n - 1) + m_rest**2 / ((seeds - 1) * (n - 1)))
    half_width = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(total / (seeds * n))
    return Estimate(centre, centre - half_width, centre + half_width, n), (m_seed - m_rest) / total


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return the mean of a - b for two 0/1 outcomes of the same n units, with Newcombe's score interval.

    The interval is narrower than that of two independent samples, because what both outcomes share cancels. Method 10 of
    Newcombe (1998), "Improved confidence intervals for the difference between binomial proportions based on paired data":
    Wilson's limits of each share, joined through the continuity-corrected correlation φ of the outcomes.

    Args:
        a: first outcome of each unit, 0 or 1.
        b: second outcome of each unit, in the same order.
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        InputError: outcomes of different lengths, or not vectors.
    """
    first, second = (outcomes.astype(bool) for outcomes in _paired_vectors(a, b))
    n = len(first)
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    p = proportion(int(first.sum()), n, confidence)
    q = proportion(int(second.sum()), n, confidence)
    phi = _corrected_phi(first, second)
    # Wilson's half-widths below and above each share. The difference is smallest where p is low and q is high, so its lower
    # limit joins p's lower half-width with q's upper one, and its upper limit the other two:
    #   low  = p - q - √(δ² - 2 φ δ ε' + ε'²),  δ = p - low(p),  ε' = high(q) - q
    #   high = p - q + √(ε² - 2 φ ε δ' + δ'²),  ε = high(p) - p,  δ' = q - low(q)
    below_p, above_p = p.value - p.low, p.high - p.value
    below_q, above_q = q.value - q.low, q.high - q.value
    difference = p.value - q.value
    low = difference - math.sqrt(max(below_p**2 - 2 * phi * below_p * above_q + above_q**2, 0.0))
    high = difference + math.sqrt(max(above_p**2 - 2 * phi * above_p * below_q + below_q**2, 0.0))
    return Estimate(difference, low, high, n)


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Return a - b of two independent estimates, with an interval joined from theirs.

    The half-widths on the sides that make the difference smallest, and largest, are added in quadrature (Newcombe 1998,
    method 10 for independent proportions; Zou & Donner 2008 for any estimates with intervals).

    Args:
        a: an estimate.
        b: another one, of the same confidence.

    Returns:
        The difference; its `n` is the smaller of the two.

    Example:
        >>> difference(proportion(56, 70), proportion(48, 80))
        Estimate(value=0.2, low=0.0524, high=0.3339, n=70)
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    return Estimate(value, low, value + math.hypot(a.high - a.value, b.value - b.low), min(a.n, b.n))


def _corrected_phi(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> float:
    """Return the correlation φ of two 0/1 outcomes, its numerator reduced by n / 2 where it is positive (Newcombe 1998)."""
    # Cells of the 2 × 2 table of outcomes.
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    margins = (both + only_first) * (only_second + neither) * (both + only_second) * (only_first + neither)
    association = float(both * neither - only_first * only_second)
    if association > 0:
        association = max(association - len(first) / 2, 0.0)
    return 0.0 if margins == 0 else association / math.sqrt(margins)


def rank_correlation(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Return Spearman's ρ with the interval of Bonett & Wright (2000) on Fisher's scale.

    The correlation is NaN where x or y is constant. The interval is [-1, 1] for fewer than five units. Where ρ = ±1, it is
    centred half the smallest possible step of ρ inside ±1, so that a few units in the same order do not count as certainty.

    Args:
        x: one number per unit.
        y: one number per unit, in the same order.
        confidence: coverage of the interval, between 0 and 1.

    Raises:
        InputError: vectors of different lengths, not vectors, or a confidence outside (0, 1).
    """
    from scipy import stats

    _check_confidence(confidence)
    a, b = _paired_vectors(x, y)
    n = len(a)
    if n < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return Estimate(math.nan, -1.0, 1.0, n)
    rho = float(stats.spearmanr(a, b).statistic)
    if n < 5:
        return Estimate(rho, -1.0, 1.0, n)
    # ρ = 1 - 6 Σ d² / (n (n² - 1)), and the smallest Σ d² other than 0 is 2 (two neighbours exchanged): a step of
    # 12 / (n (n² - 1)), of which half is taken here. Fisher's scale atanh(ρ) is infinite at ±1.
    largest = 1 - 6 / (n * (n**2 - 1))
    centre = math.atanh(min(max(rho, -largest), largest))
    half_width = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    low, high = math.tanh(centre - half_width), math.tanh(centre + half_width)
    return Estimate(rho, min(rho, low), max(rho, high), n)


def bootstrap(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """Return a statistic of n observations with its percentile interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        statistic: function of the samples that returns one number.
        *samples: arrays with one row per observation; each resample draws the same rows from all of them.
        generator: source of the draws.
        confidence: coverage of the interval, between 0 and 1.
        resamples: number of draws; the statistic is evaluated once per draw.

    Raises:
        InputError: no samples, samples of different lengths, or a confidence outside (0, 1).

    Example:
        >>> e = bootstrap(np.median, np.arange(101.0), generator=np.random.default_rng(0))
        >>> e.value, e.low < 50 < e.high
        (50.0, True)
    """
    _check_confidence(confidence)
    arrays: list[NDArray[Any]] = [np.asarray(sample) for sample in samples]
    lengths = sorted({len(array) for array in arrays})
    if len(lengths) != 1 or lengths[0] == 0:
        raise InputError(f"expected samples with equally many rows, one or more; got lengths {lengths}.")
    n = lengths[0]
    replicates = [statistic(*(array[rows] for array in arrays)) for rows in generator.integers(n, size=(resamples, n))]
    low, high = np.quantile(replicates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(statistic(*arrays)), float(low), float(high), n)


def _paired_vectors(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as float vectors; raise InputError unless they have one entry per unit each."""
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(
            f"expected two vectors of equal length, one pair per unit; got shapes {first.shape} and {second.shape}."
        )
    return first, second


def _check_confidence(confidence: float) -> None:
    """Raise InputError unless the confidence lies strictly between 0 and 1."""
    if not 0 < confidence < 1:
        raise InputError(f"expected a confidence between 0 and 1, such as 0.95; got {confidence}.")
