"""Count how often the rules of C1, C2 and L1 see what is not there, on simulated outcomes.

Run it with `python -m benchmarks.false_alarms_means`. These claims are judged by a mean difference of two right-or-wrong
outcomes on the same images: for one machine (C1) by the interval of `paired_difference`, over seeds and images (C2, L1) by
that of `crossed_mean`. Under the null both outcomes have one distribution: an image has its own difficulty, a seed its own
effect on each side, and nothing favours a side. It prints the share of runs that are seen, and contradicted, per number of
seeds and size of the seeds' effect; at most 2.5 % of each are expected where the intervals cover 95 %.

Printed for 500 images and 2,000 runs per row (2026-11-26): C1 seen in 2.6 % (contradicted in 1.6 %); with three seeds C2
and L1 seen in 0.0, 0.1 and 1.8 % for effects of a seed of 0, 0.1 and 0.4, with five seeds in 0.2, 0.6 and 2.5 %.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from ntklens.statistics import Estimate, crossed_mean, paired_difference
from ntklens.study.claims.base import decide
from ntklens.vocabulary import CONTRADICTED, SEEN


def outcomes(
    rng: np.random.Generator, seeds: int, n: int, spread: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw the outcomes of both sides, (seeds, n) each: images are shared, a seed's effect is each side's own."""
    difficulty = rng.normal(0.8, 1.5, n)
    sides = []
    for _ in range(2):
        effect = rng.normal(0.0, spread, (seeds, 1))
        logits = difficulty + effect + rng.normal(0.0, 0.5, (seeds, n))
        sides.append(rng.random((seeds, n)) < 1 / (1 + np.exp(-logits)))
    return sides[0], sides[1]


def estimate(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> Estimate:
    """Return the difference as the claims compute it: C1 with one machine, C2 and L1 with several seeds."""
    if len(first) == 1:
        return paired_difference(first[0], second[0])
    return crossed_mean(first.astype(float) - second.astype(float))[0]


def main() -> None:
    """Print one line per number of seeds and size of the seeds' effect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--images", type=int, default=500)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    for claim, seeds, spread in (
        ("C1", 1, 0.0),
        *(("C2, L1", seeds, spread) for seeds in (3, 5) for spread in (0.0, 0.1, 0.4)),
    ):
        verdicts = [
            decide(estimate(*outcomes(rng, seeds, arguments.images, spread)), 0.0) for _ in range(arguments.runs)
        ]
        seen, contradicted = (100 * verdicts.count(v) / len(verdicts) for v in (SEEN, CONTRADICTED))
        share = f"seen {seen:.1f} %, contradicted {contradicted:.1f} %"
        print(f"{claim:7} {seeds} seeds, effect of a seed {spread}: {share}", flush=True)


if __name__ == "__main__":
    main()
