"""Estimates with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


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
    """Share of successes with Wilson's score interval (Wilson 1927)."""
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Estimate(successes / n, float(interval.low), float(interval.high), n)


def mean(values: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of independent observations with Student's interval."""
    a = np.asarray(values, dtype=float)
    n, centre = len(a), float(a.mean())
    if n < 2:
        return Estimate(centre, -math.inf, math.inf, n)
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * float(a.std(ddof=1)) / math.sqrt(n)
    return Estimate(centre, centre - half, centre + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Mean of a - b for two 0/1 outcomes on the same n units, with Newcombe's score interval (1998, method 10).

    Pairs make it narrower than two separate intervals: what both outcomes share cancels.
    """
    first, second = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    n = len(first)
    p, q = proportion(int(first.sum()), n, confidence), proportion(int(second.sum()), n, confidence)
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    only_a, only_b = int((first & ~second).sum()), int((~first & second).sum())
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    phi = 0.0 if product == 0 else (both * neither - only_a * only_b) / math.sqrt(product)
    down, up = p.value - p.low, p.high - p.value
    down_q, up_q = q.value - q.low, q.high - q.value
    difference = p.value - q.value
    low = difference - math.sqrt(max(down**2 - 2 * phi * down * up_q + up_q**2, 0.0))
    high = difference + math.sqrt(max(up**2 - 2 * phi * up * down_q + down_q**2, 0.0))
    return Estimate(difference, low, high, n)


def rank_correlation(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Estimate:
    """Spearman's ρ with the interval of Bonett & Wright (2000) on Fisher's scale."""
    a, b = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    n = len(a)
    rho = float(stats.spearmanr(a, b).statistic)
    if n < 5 or not math.isfinite(rho):
        return Estimate(rho, -1.0, 1.0, n)
    centre = math.atanh(min(max(rho, -1 + 1e-12), 1 - 1e-12))
    half = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return Estimate(rho, math.tanh(centre - half), math.tanh(centre + half), n)
