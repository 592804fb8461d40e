"""About how many more images or seeds would decide, from the width of an interval."""

from __future__ import annotations

import math

from ntklens.statistics import Estimate

SEEDS = "seeds"
"""What Student's intervals over few trainings shrink with."""
_MOST = 100.0
"""Factor beyond which a number is no advice."""
_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def more(estimate: Estimate, margin: float, of: str, each: float = 1.0) -> str:
    """Return what would bring the margin outside the interval if the estimate stayed where it is.

    The ends of an interval over n images lie at a distance in proportion to 1/√n; those of Student's interval over n seeds
    at t(n - 1) s / √n, whose quantile t shrinks too.

    Args:
        estimate: with its 95 % interval, on whose both sides the margin lies.
        margin: of the claim.
        of: "seeds", or what else is counted: "test images".
        each: how many of these one observation takes.

    Example:
        >>> more(Estimate(0.54, 0.44, 0.64, 100), 0.5, "test images", each=2)
        'about 1300 test images'
        >>> more(Estimate(1.4, -0.5, 3.3, 3), 0.0, "seeds")
        'one more seed'
    """
    gap = abs(estimate.value - margin)
    half = estimate.value - estimate.low if estimate.value > margin else estimate.high - estimate.value
    if of == SEEDS:
        return _more_seeds(gap, half, estimate.n)
    if not (gap > 0 and math.isfinite(half) and estimate.n):
        return f"more {of}"
    factor = (half / gap) ** 2
    if factor > _MOST:
        return f"more than {_MOST:g} times as many {of}"
    return f"about {_rounded_up(each * estimate.n * factor)} {of}"


def _more_seeds(gap: float, half: float, n: int) -> str:
    from scipy import stats  # slow to import, and used by this function alone

    if n < 2:
        return f"{_WORDS[3 - n]} more seeds"  # an interval needs two, and is of use from three on
    if not (gap > 0 and math.isfinite(half)):
        return "more seeds"
    deviation = half * math.sqrt(n) / float(stats.t.ppf(0.975, n - 1))
    for total in range(n + 1, n + int(_MOST) + 1):
        if float(stats.t.ppf(0.975, total - 1)) * deviation / math.sqrt(total) < gap:
            further = total - n
            name = _WORDS[further] if further < len(_WORDS) else f"about {further}"
            return f"{name} more seed{'s' * (further > 1)}"
    return f"more than {_MOST:g} more seeds"


def _rounded_up(number: float) -> int:
    """Return a number rounded up to two significant digits."""
    step = 10 ** max(0, math.floor(math.log10(max(number, 1.0))) - 1)
    return int(math.ceil(number / step - 1e-9) * step)
