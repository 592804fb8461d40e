"""The time of a large piece of work from that of small ones."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds."""
_MOST_GROWTH = 10.0
_MOST_REPEATS = 3
_WORK_SHARE = 0.4
_LONG = 0.5
"""Seconds of a first run from which on it is known to be work, not latency."""
_VERY_LONG = 1.0
"""Seconds of a first run from which on no second one is made to tell the two terms apart."""
_FAR = 20.0
"""Times the run's work that the target has, from which on long runs that do not grow are not scaled up: they may wait."""
_PATIENCE = 3.0
"""Seconds of a run, and twice as many of all runs, up to which larger sizes tell waiting from work."""
_LONG_GROWTH = 4.0
"""Growth of the work after such a run."""
_OWN_LOAD = 0.5
"""Load above the number of processors that this process itself may cause."""
_HELD_UP = 3.0
"""Times what the run before lets expect, from which on a run is made again."""
_LEAST_SHARE = 0.25
"""Least share of what the last run alone would say: two short runs tell little of a constant."""


def timed(
    prepare: Callable[[int], Callable[[], object]],
    target: int,
    effort: float,
    *,
    start: int = 1,
    power: float = 1.0,
    clock: Clock = time.perf_counter,
) -> float:
    """Estimate the seconds of a piece of work of size `target`.

    The first run is not counted: it loads and compiles. Sizes then grow until a run takes about `effort` seconds and grows
    with its size, or until the target is reached. Two terms are fitted to the last two runs: one in proportion to
    size^power, and a smaller one, a constant for power 1 and size for power 2 (a kernel matrix, with what is done once per
    image).

    Args:
        prepare: from a size to the function that is timed; what it does itself is not counted.
        target: the size that is asked for.
        effort: seconds that are enough for a run.
        start: the first size.
        power: of the size, in the leading term.
        clock: seconds.
    """
    size = max(1, min(start, target))
    runs: list[tuple[int, float]] = []
    before = clock()
    prepare(size)()
    first = longest = clock() - before  # of the first size, whatever else it has loaded
    while True:
        seconds = min(_least(prepare(size), effort, clock), longest)
        if runs and seconds > _HELD_UP * runs[-1][1] * (size / runs[-1][0]) ** power:
            # Other work on the machine may hold a run up, and what it took would be scaled up: it is made again.
            seconds = min(seconds, _least(prepare(size), effort, clock))
        runs.append((size, seconds))
        longest = math.inf
        if size >= target:
            return seconds
        is_work = _is_work(runs, power)
        is_long = seconds >= _LONG and (len(runs) > 1 or seconds >= _VERY_LONG)
        if is_long and not is_work and (target / size) ** power > _FAR:
            # On a busy machine the threads of a small piece wait for one another, as long as those of a larger one.
            is_long = seconds >= _PATIENCE or clock() - before > 2 * _PATIENCE + first
        if is_long or (seconds >= effort / 2 and is_work):
            return _extrapolated(runs[-2:], target, power)
        # The next run takes half a second at most, if the leading term is all there is; latency does not grow.
        is_latency = len(runs) > 1 and not is_work
        growth = _MOST_GROWTH if is_latency else min(_MOST_GROWTH, max(2.0, _LONG / max(seconds, 1e-9)))
        growth = min(growth, _LONG_GROWTH) if seconds >= _LONG else growth
        size = min(target, max(size + 1, round(size * growth ** (1 / power))))


def is_busy() -> bool:
    """Return whether more work wants to run on this machine than it has processors, over the last minute."""
    try:
        load, _, _ = os.getloadavg()
    except (AttributeError, OSError):  # not every system tells it
        return False
    return load > (os.cpu_count() or 1) + _OWN_LOAD


def _is_work(runs: list[tuple[int, float]], power: float) -> bool:
    """Return whether the last run is longer than the one before by the work that it has more of, not all latency."""
    if len(runs) < 2:
        return False
    (smaller, faster), (size, seconds) = runs[-2:]
    work: float = (size / smaller) ** power
    return seconds >= faster * (1 + _WORK_SHARE * (work - 1))


def _least(run: Callable[[], object], effort: float, clock: Clock) -> float:
    """Return the least seconds of a few runs: what others do on the machine makes single ones longer."""
    least, spent = math.inf, 0.0
    for _ in range(_MOST_REPEATS):
        before = clock()
        run()
        seconds = clock() - before
        least, spent = min(least, seconds), spent + seconds
        if spent >= effort:
            break
    return least


def _extrapolated(runs: list[tuple[int, float]], target: int, power: float) -> float:
    size, seconds = runs[-1]
    plain: float = seconds * (target / size) ** power
    if len(runs) < 2:
        return plain
    smaller, faster = runs[0]
    # seconds = a size^power + b size^(power - 1), solved for a and b, neither of them negative.
    u, v, p, q = (float(s**exponent) for exponent in (power, power - 1) for s in (size, smaller))
    determinant = u * q - v * p
    a = (seconds * q - faster * p) / determinant
    b = (u * faster - v * seconds) / determinant
    if b <= 0:
        return plain
    fitted: float = max(a, 0.0) * target**power + b * target ** (power - 1)
    return min(plain, max(fitted, _LEAST_SHARE * plain, seconds))
