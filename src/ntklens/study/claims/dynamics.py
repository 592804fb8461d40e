"""The rules on the kernel under adversarial training: C7, C8 and L1. All compare PGD training with standard training.

C7 and C8 compare by ratios. The null of both is a training that differs from the standard one in the order of its batches
alone, whose ratio is 1 but for chance (benchmarks/false_alarms_dynamics.py).
"""

from __future__ import annotations

from dataclasses import replace

from ntklens.record import Record
from ntklens.statistics import mean
from ntklens.study.claims.base import Measure, Verdict, cannot_tell, judge, only_row, over_seeds_and_images, rows_of
from ntklens.study.claims.guards import Pair, broken_guard
from ntklens.study.claims.more import SEEDS
from ntklens.study.claims.ratio import Ratio
from ntklens.study.context import Rows
from ntklens.vocabulary import NUMBER, PGD, STANDARD, UNTRAINED
from ntklens.wording import share


def _of(rows: Rows, training: str) -> Rows:
    return [row for row in rows if row["training"] == training]


def _pairs(rows: Rows) -> list[Pair]:
    """Return the rows of standard and of PGD training of each seed that has both."""
    by_seed = {training: {row["seed"]: row for row in _of(rows, training)} for training in (STANDARD, PGD)}
    seeds = sorted(set(by_seed[STANDARD]) & set(by_seed[PGD]))
    return [(by_seed[STANDARD][seed], by_seed[PGD][seed]) for seed in seeds]


def _are_paired(rows: Rows) -> bool:
    """Return whether there are rows of both trainings, and of the same seeds."""
    pgd, standard = ({row["seed"] for row in _of(rows, training)} for training in (PGD, STANDARD))
    return bool(pgd) and pgd == standard


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _epochs(rows: Rows) -> str:
    return ", ".join("none" if row["epoch"] is None else f"{row['epoch']:.1f}" for row in rows)


def _ranks(rows: Rows) -> str:
    return ", ".join(f"{row['centred_rank']:.1f}" for row in rows)


def _columns(pairs: list[Pair]) -> tuple[Rows, Rows]:
    """Return the rows of standard training, and those of PGD training."""
    return [s for s, _ in pairs], [p for _, p in pairs]


def c7(record: Record) -> Verdict | None:
    """Judge C7: seen when the kernel settles earlier under PGD training, by the ratio of the settling epochs.

    The estimate is the ratio standard / PGD over paired seeds, which share initialisation, order of batches and number of
    epochs, with Student's interval on its logarithm. It is seen above 1.1 and contradicted below 1 / 1.1. Where a guard
    does not hold, nobody can tell: at least three seeds, both trainings learn, do so early in the run, and leave a kernel
    that is no single direction.
    """
    pairs = _pairs(rows_of(record, "settling"))
    if not pairs:
        return None
    meta = only_row(record, "dynamics_meta")
    standard, pgd = _columns(pairs)
    figure = (
        f"The kernel settles at epoch {_epochs(standard)} under standard and {_epochs(pgd)} under PGD training "
        f"({_seeds(len(pairs))}, each with one initialisation and one order of batches for both): from there on less than "
        "a tenth of its squared distance to its end is left."
    )
    measured = [(s["epoch"], p["epoch"]) for s, p in pairs]
    if any(epoch is None for pair in measured for epoch in pair):
        return cannot_tell(f"{figure} A kernel that still moves has no settling epoch.", "longer trainings")
    ratio = Ratio.over_seeds("settling epoch under standard training over that under PGD training", measured)
    figure += f" Standard over PGD: {ratio.text}."
    left = [
        s["distance_when_learned"] - p["distance_when_learned"]
        for s, p in pairs
        if s["distance_when_learned"] is not None and p["distance_when_learned"] is not None
    ]
    what = "what is left of that distance once 90 % of the loss is learned, standard minus PGD training"
    supporting = [Measure(what, mean(left), 0.0, unit=NUMBER, of=SEEDS)]
    if left:
        figure += f" Once 90 % of the decrease of its loss are done, {sum(left) / len(left):+.3f} more of it are left."
    broken = broken_guard(pairs, meta)
    if broken:
        reason, what = broken
        return replace(cannot_tell(f"{figure} {reason}", what, ratio), aside=tuple(supporting), parts=(ratio,))
    return judge(figure, ratio, aside=supporting)


def c8(record: Record) -> Verdict | None:
    """Judge C8: seen when the centred cosine kernel has the lower effective rank after PGD training.

    The estimate is the ratio standard / PGD over paired seeds, judged and guarded as that of C7. The same ratio where both
    trainings are equally accurate is told beside it and does not decide: a training that has come less far has the more
    concentrated kernel, also when it is slower for another reason.
    """
    pairs = _pairs(rows_of(record, "settling"))
    if not pairs:
        return None
    at_end = Ratio.over_seeds(
        "at the end: effective rank after standard training over that after PGD training",
        [(s["centred_rank"], p["centred_rank"]) for s, p in pairs],
    )
    equal = _pairs(rows_of(record, "equal_accuracy"))
    aside = [
        Ratio.over_seeds(
            "at equal clean accuracy: effective rank in standard training over that in PGD training",
            [(s["centred_rank"], p["centred_rank"]) for s, p in equal],
        )
    ]
    standard, pgd = _columns(pairs)
    figure = (
        f"At the end of training: {at_end.verdict}; the effective rank of the centred cosine kernel is "
        f"{_ranks(standard)} after standard and {_ranks(pgd)} after PGD training, standard over PGD {at_end.text} "
        f"({_seeds(len(pairs))})."
    )
    if equal:
        standard, pgd = _columns(equal)
        levels = ", ".join(f"{100 * row['accuracy']:.0f} %" for row in standard)
        figure += (
            f" At equal clean accuracy ({levels}): {aside[0].verdict}; it is {_ranks(standard)} and {_ranks(pgd)}, "
            f"standard over PGD {aside[0].text}."
        )
    broken = broken_guard(pairs, only_row(record, "dynamics_meta"))
    if broken:
        reason, what = broken
        return replace(cannot_tell(f"{figure} {reason}", what, at_end), aside=tuple(aside), parts=(at_end,))
    return judge(figure, at_end, aside=aside)


def l1(record: Record) -> Verdict | None:
    """Judge L1: seen when machines on kernels of PGD training are more robust than those on kernels of standard training.

    All are fitted on clean images. The estimate is the mean difference of paired seeds on the same images; its interval
    covers both (`statistics.crossed_mean`).
    """
    rows = [row for row in rows_of(record, "kernel_machines") if row["accuracy"] is not None]
    if not _are_paired(rows):
        return None
    pgd, standard = _of(rows, PGD), _of(rows, STANDARD)

    def listed(machines: Rows) -> str:
        return "; ".join(f"{share(row, 'robust_accuracy')} (clean {share(row)})" for row in machines)

    parts = [
        f"{name}: {listed(machines)}"
        for name, machines in ((PGD, pgd), (STANDARD, standard), ("untrained", _of(rows, UNTRAINED)))
    ]
    figure = (
        "Worst-case accuracy (clean, PGD and Square) of machines fitted on clean images, by the "
        f"network of the kernel. {'. '.join(parts)}."
    )
    what = "what the kernels of PGD training add to the machines' worst-case accuracy"
    effect = only_row(record, "kernel_machines_effect")
    return judge(figure, over_seeds_and_images(what, effect))
