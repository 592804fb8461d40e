"""Conditions without which two trainings cannot be compared by the paths of their kernels."""

from __future__ import annotations

from typing import Any

LEAST_SEEDS = 3
"""Number of paired seeds from which on Student's interval over them is of use."""
LEAST_RANK = 2.0
"""Effective rank of the centred cosine kernel below which it is hardly more than one direction."""
LEARNED_WITHIN = 0.6
"""Share of the run within which 90 % of the decrease of the loss has to be done."""
_WORDS = {1: "is one seed", 2: "are two seeds"}

Pair = tuple[dict[str, Any], dict[str, Any]]
"""Rows of the table "settling": standard and PGD training of one seed."""


def broken_guard(pairs: list[Pair], meta: dict[str, Any]) -> tuple[str, str] | None:
    """Return the first guard that does not hold, as a sentence, and what would decide; None where all hold.

    Both trainings must be more accurate than always naming the most frequent class, on clean images, and PGD training under
    attack too (by the lower end of the interval); a standard training that fails under attack is what it is compared with.

    Args:
        pairs: one per seed.
        meta: the row of the table "dynamics_meta".
    """
    majority = meta.get("majority")
    for name, rows in (("standard", [s for s, _ in pairs]), ("PGD", [p for _, p in pairs])):
        for key, images in (("accuracy", "on clean images"), ("robust_accuracy", "under attack")):
            needed = key == "accuracy" or name == "PGD"
            if needed and majority is not None and not all(_above(row[f"{key}_low"], majority) for row in rows):
                return (
                    f"{name} training has not learned the task: {images} it is not above the {100 * majority:.0f} % of the "
                    "most frequent class in every seed.",
                    "a training that learns: another rate, more epochs or a smaller ε",
                )
        if not all(_above(row["centred_rank"], LEAST_RANK) for row in rows):
            return (
                f"After {name} training the kernel is hardly more than one direction: its effective rank is not above "
                f"{LEAST_RANK:g} in every seed.",
                "a training that learns: another rate or more epochs",
            )
        if not all(_is_early(row) for row in rows):
            return (
                f"{name} training still learns at the end: 90 % of the decrease of its loss are not done within the first "
                f"{100 * LEARNED_WITHIN:.0f} % of the epochs in every seed.",
                "longer trainings",
            )
    if len(pairs) < LEAST_SEEDS:
        missing = LEAST_SEEDS - len(pairs)
        return (
            f"There {_WORDS[len(pairs)]}, and an interval over seeds is of use from {LEAST_SEEDS} on.",
            f"{('one', 'two')[missing - 1]} more seed{'s' * (missing > 1)}",
        )
    return None


def _above(value: float | None, level: float) -> bool:
    return value is not None and value > level


def _is_early(row: dict[str, Any]) -> bool:
    learned = row["learned_epoch"]
    return learned is not None and learned <= LEARNED_WITHIN * row["last_epoch"]
