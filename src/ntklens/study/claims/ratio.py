"""A ratio over paired seeds, judged on the scale of its logarithm with a margin on each side of 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ntklens.statistics import Estimate, mean
from ntklens.study.claims.base import Measure, decide
from ntklens.study.claims.more import SEEDS, more
from ntklens.vocabulary import CANNOT_TELL, CONTRADICTED, NUMBER

MARGIN = 1.1
"""Ratio from which on a difference counts: a tenth, in either direction."""


@dataclass(frozen=True)
class Ratio(Measure):
    """A ratio that is seen above its margin, and contradicted only below one over it.

    Between the two, the numbers differ by less than a tenth, and nobody can tell in which direction.
    """

    @classmethod
    def over_seeds(cls, what: str, pairs: Sequence[tuple[float, float]]) -> Ratio:
        """Return the geometric mean of a / b with Student's interval on the logarithm.

        Pairs that have no ratio, as of a kernel that has settled before its first epoch, leave it unknown.

        Args:
            what: what is estimated.
            pairs: (a, b) of each seed.
        """
        if not all(a is not None and b is not None and a > 0 and b > 0 for a, b in pairs):
            return cls(what, Estimate(math.nan, 0.0, math.inf, len(pairs)), MARGIN, unit=NUMBER, of=SEEDS)
        logs = mean([math.log(a / b) for a, b in pairs])
        estimate = Estimate(_exp(logs.value), _exp(logs.low), _exp(logs.high), logs.n)
        return cls(what, estimate, MARGIN, unit=NUMBER, of=SEEDS)

    @property
    def verdict(self) -> str:
        """Seen above the margin, contradicted below one over it, and cannot tell elsewhere."""
        word = decide(self.estimate, self.margin)
        is_between = word == CONTRADICTED and not self.estimate.high < 1 / self.margin
        return CANNOT_TELL if is_between else word

    @property
    def would_decide(self) -> str:
        """How many more seeds would decide; where the whole interval lies between the margins, none would."""
        if self.verdict != CANNOT_TELL:
            return ""
        low, value, high = (_log(end) for end in (self.estimate.low, self.estimate.value, self.estimate.high))
        margin = math.log(self.margin)
        if -margin <= low and high <= margin:
            return "no number of seeds: the two are alike to within a tenth"
        estimate = Estimate(value, low, high, self.estimate.n)
        if abs(value) < margin and self.estimate.n > 1:
            return "more seeds, unless the two are alike to within a tenth"
        return more(estimate, math.copysign(margin, value), SEEDS)

    @property
    def text(self) -> str:
        """The ratio with its interval, for a sentence."""
        if math.isnan(self.estimate.value):
            return "not known"
        if not math.isfinite(self.estimate.high):
            return f"{self.estimate.value:.2f}"
        return f"{self.estimate.value:.2f} [{self.estimate.low:.2f}, {self.estimate.high:.2f}]"


def _exp(value: float) -> float:
    return math.exp(value) if value < math.inf else math.inf


def _log(value: float) -> float:
    return math.log(value) if value > 0 else (-math.inf if value == 0 else math.nan)
