"""Estimates with their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ntklens.errors import InputError


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval and the number of observations behind it.

    Example:
        >>> print(proportion(163, 200))
        81.5 % [75.5, 86.3]
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def row(self, prefix: str = "") -> dict[str, float]:
        """Columns for a record: the value under `prefix` (or "value"), and its bounds."""
        name = prefix or "value"
        stem = f"{prefix}_" if prefix else ""
        return {name: self.value, f"{stem}low": self.low, f"{stem}high": self.high}


def proportion(successes: int, n: int, confidence: float = 0.95) -> Estimate:
    """Share of successes with Wilson's score interval (Wilson 1927).

    Raises:
        InputError: counts or a confidence that do not fit.
    """
    _check_confidence(confidence)
    if not 0 <= successes <= n:
        raise InputError(f"between 0 and n successes were expected; {successes} of {n} came.")
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean(
    values: ArrayLike, confidence: float = 0.95, *, within: tuple[float, float] = (-math.inf, math.inf)
) -> Estimate:
    """Mean of independent observations with Student's interval; the whole line for fewer than two.

    Args:
        values: the observations.
        confidence: coverage of the interval.
        within: where the mean can lie, as (0, 1) for a share; the interval is cut to it.
    """
    _check_confidence(confidence)
    a = np.asarray(values, dtype=float)
    n = len(a)
    centre = float(a.mean()) if n else math.nan
    if n < 2:
        return Estimate(centre, *within, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(a.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, max(within[0], centre - half), min(within[1], centre + half), n)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of a - b for two 0/1 outcomes on the same n units, with Newcombe's score interval.

    Pairs make it narrower than two separate intervals: what both outcomes share cancels. Method 10 of Newcombe (1998),
    "Improved confidence intervals for the difference between binomial proportions based on paired data": Wilson's
    limits of each share, joined through the continuity-corrected correlation φ of the outcomes.

    Raises:
        InputError: outcomes that do not pair up.
    """
    first, second = (c.astype(bool) for c in _columns(a, b))
    n = len(first)
    if n == 0:
        return Estimate(math.nan, -1.0, 1.0, 0)
    p, q = proportion(int(first.sum()), n, confidence), proportion(int(second.sum()), n, confidence)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    association = float(both * neither - only_a * only_b)
    if association > 0:
        association = max(association - n / 2, 0.0)
    phi = 0.0 if product == 0 else association / math.sqrt(product)
    down, up = p.value - p.low, p.high - p.value
    down_q, up_q = q.value - q.low, q.high - q.value
    difference = p.value - q.value
    low = difference - math.sqrt(max(down**2 - 2 * phi * down * up_q + up_q**2, 0.0))
    high = difference + math.sqrt(max(up**2 - 2 * phi * up * down_q + down_q**2, 0.0))
    return Estimate(difference, low, high, n)


def rank_correlation(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Spearman's ρ with the interval of Bonett & Wright (2000) on Fisher's scale; NaN where one side is constant.

    Two orders that are the same, or opposite, count as half the smallest step from it: few units are no certainty.

    Raises:
        InputError: values that do not pair up.
    """
    _check_confidence(confidence)
    a, b = _columns(x, y)
    n = len(a)
    if n < 2 or not (np.ptp(a) > 0 and np.ptp(b) > 0):
        return Estimate(math.nan, -1.0, 1.0, n)
    rho = float(stats.spearmanr(a, b).statistic)
    if n < 5:
        return Estimate(rho, -1.0, 1.0, n)
    most = 1 - 6 / (n * (n**2 - 1))
    centre = math.atanh(min(max(rho, -most), most))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, min(rho, math.tanh(centre - half)), max(rho, math.tanh(centre + half)), n)


def bootstrap(
    statistic: Callable[..., float],
    *samples: ArrayLike,
    generator: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> Estimate:
    """Any statistic of n observations with its percentile interval (Efron & Tibshirani 1993, chapter 13).

    Args:
        statistic: the samples to one number.
        *samples: arrays with one row an observation; the same rows are drawn from each.
        generator: source of the draws.
        confidence: coverage of the interval.
        resamples: number of draws; the cost is as many calls of the statistic.

    Raises:
        InputError: samples of different lengths, or none.

    Example:
        >>> e = bootstrap(np.median, np.arange(101.0), generator=np.random.default_rng(0))
        >>> e.value, e.low < 50 < e.high
        (50.0, True)
    """
    _check_confidence(confidence)
    arrays: list[NDArray[Any]] = [np.asarray(s) for s in samples]
    lengths = sorted({len(a) for a in arrays})
    if len(lengths) != 1 or lengths[0] == 0:
        raise InputError(f"samples with the same rows, one or more, were expected; lengths {lengths} came.")
    n = lengths[0]
    draws = [statistic(*(a[rows] for a in arrays)) for rows in generator.integers(n, size=(resamples, n))]
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(float(statistic(*arrays)), float(low), float(high), n)


def _columns(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if first.ndim != 1 or first.shape != second.shape:
        raise InputError(f"two vectors, one pair a unit, were expected; shapes {first.shape} and {second.shape} came.")
    return first, second


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise InputError(f"a confidence between 0 and 1, such as 0.95, was expected; {confidence} came.")
