"""The rules on the kernel under adversarial training: C7, C8 and L1. All compare PGD training with standard training."""

from __future__ import annotations

import math
from itertools import pairwise

from ntklens.record import Record
from ntklens.statistics import Estimate, mean
from ntklens.study.claims.base import Measure, Verdict, cannot_tell, estimate_of, judge, only_row, rows_of
from ntklens.study.claims.more import SEEDS
from ntklens.study.context import Rows
from ntklens.vocabulary import DIFFERENCE, NUMBER, PGD, STANDARD, UNTRAINED
from ntklens.wording import share

_STUDENT = 3
"""Least number of seeds from which Student's interval over them is of use."""


def _of(rows: Rows, training: str) -> Rows:
    return [row for row in rows if row["training"] == training]


def _are_paired(rows: Rows) -> bool:
    """Return whether there are rows of both trainings, and of the same seeds."""
    pgd, standard = ({row["seed"] for row in _of(rows, training)} for training in (PGD, STANDARD))
    return bool(pgd) and pgd == standard


def _runs(count: int) -> str:
    return "one run of each" if count == 1 else f"{count} seeds"


def _by_seed(rows: Rows, training: str) -> list[Rows]:
    """Return the rows of a training, one list per seed."""
    rows = _of(rows, training)
    return [[row for row in rows if row["seed"] == seed] for seed in sorted({int(row["seed"]) for row in rows})]


def c7(record: Record) -> Verdict | None:
    """Judge C7: seen when the kernel slows down for good at an earlier epoch under PGD training, by interval over seeds.

    "For good" means that the velocity stays below the threshold to the end of the run, for at least three records
    (`measures.lazy_epoch`). Where a kernel does not slow down within the run, nobody can tell.
    """
    rows = rows_of(record, "lazy_epochs")
    threshold = only_row(record, "dynamics_meta")["lazy_threshold"]
    at_threshold = [row for row in rows if row["threshold"] == threshold]
    if not _are_paired(at_threshold):
        return None
    epochs = {training: [row["epoch"] for row in _of(at_threshold, training)] for training in (PGD, STANDARD)}
    figure = (
        f"The kernel's velocity falls below {threshold:g} per epoch for good (to the end of the run, for at least three "
        f"records): under PGD training {_since(epochs[PGD])}; under standard training {_since(epochs[STANDARD])} "
        f"({_runs(len(epochs[PGD]))})."
    )
    others = _other_thresholds(rows, threshold)
    if others:
        figure += f" First epochs at other thresholds, PGD and standard: {others}."
    travelled = {training: ", ".join(_travelled(record, training)) for training in (PGD, STANDARD)}
    figure += (
        f" After its first epoch the kernel travels {travelled[PGD]} under PGD, "
        f"{travelled[STANDARD]} under standard training, in sums of kernel distances."
    )
    # The rows of both trainings are in the order of the seeds, so that each place is one pair.
    pairs = list(zip(epochs[PGD], epochs[STANDARD], strict=True))
    earlier = [s - a for a, s in pairs if a is not None and s is not None]
    if len(earlier) < len(pairs):
        return cannot_tell(figure, "longer trainings")
    return judge(figure, _over_seeds("by how many epochs the kernel becomes lazy earlier under PGD training", earlier))


def _over_seeds(what: str, values: list[float]) -> Measure:
    """Return a mean over paired seeds, to be above zero."""
    return Measure(what, mean(values), 0.0, unit=NUMBER, of=SEEDS)


def _since(epochs: list[float | None]) -> str:
    return " and ".join("never" if e is None else f"from epoch {e:g} on" for e in epochs)


def _other_thresholds(rows: Rows, threshold: float) -> str:
    """Return the first lazy epochs at the thresholds, beside the experiment's own, that some kernel falls below."""
    reached = {row["threshold"] for row in rows if row["epoch"] is not None} - {threshold}
    texts = []
    for other in sorted(reached, reverse=True):
        pgd, standard = (
            "/".join(
                "none" if row["epoch"] is None else f"{row['epoch']:g}"
                for row in _of(rows, training)
                if row["threshold"] == other
            )
            for training in (PGD, STANDARD)
        )
        texts.append(f"{other:g}: {pgd} and {standard}")
    return "; ".join(texts)


def _travelled(record: Record, training: str) -> list[str]:
    """Return the total kernel distance travelled after the first recorded epoch, one value per seed."""
    distances = []
    for path in _by_seed(rows_of(record, "dynamics"), training):
        # The velocity is per epoch, and epochs need not follow each other by one.
        steps = [float(b["velocity"]) * (b["epoch"] - a["epoch"]) for a, b in pairwise(path[1:])]
        distances.append(f"{sum(steps):.2f}")
    return distances


def _last(record: Record, training: str, column: str) -> list[float]:
    """Return a measure at the last epoch, one value per seed."""
    return [float(path[-1][column]) for path in _by_seed(rows_of(record, "dynamics"), training)]


def c8(record: Record) -> Verdict | None:
    """Judge C8: seen when PGD training ends with more of the kernel's energy on top, by interval over seeds."""
    last_epochs = {epoch for training in (PGD, STANDARD) for epoch in _last(record, training, "epoch")}
    rows = rows_of(record, "dynamics")
    if not _are_paired(rows) or len(last_epochs) > 1:
        return None
    top_k = only_row(record, "dynamics_meta")["top_k"]
    pgd, standard = (_last(record, training, "concentration") for training in (PGD, STANDARD))
    pgd_rank, standard_rank = (_last(record, training, "effective_rank") for training in (PGD, STANDARD))

    def listed(values: list[float], digits: int) -> str:
        return ", ".join(f"{value:.{digits}f}" for value in values)

    figure = (
        f"Share of the squared spectrum in the top {top_k}: {listed(pgd, 4)} after PGD training, "
        f"{listed(standard, 4)} after standard training, {rows[0]['concentration']:.4f} before "
        f"({_runs(len(pgd))}); effective rank {listed(pgd_rank, 1)} and {listed(standard_rank, 1)}."
    )
    more = [a - s for a, s in zip(pgd, standard, strict=True)]
    return judge(figure, _over_seeds("how much larger that share is after PGD training", more))


def l1(record: Record) -> Verdict | None:
    """Judge L1: seen when machines on kernels of PGD training are more robust than those on kernels of standard training.

    All are fitted on clean images. The estimate is the mean difference of paired seeds. Its interval is the wider one of
    Student's over seeds, where there are three or more, and of the one over images, which takes the two accuracies of a
    seed as independent although both are of the same images, and is therefore wide rather than narrow.
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
    over_images = _mean_over_images(pgd, standard)
    over_seeds = mean([a["robust_accuracy"] - s["robust_accuracy"] for a, s in zip(pgd, standard, strict=True)])
    if over_seeds.n >= _STUDENT and over_seeds.high - over_seeds.low > over_images.high - over_images.low:
        return judge(figure, Measure(what, over_seeds, 0.0, unit=DIFFERENCE, of=SEEDS))
    return judge(figure, Measure(what, over_images, 0.0, unit=DIFFERENCE))


def _mean_over_images(a: Rows, b: Rows) -> Estimate:
    """Return the mean difference of the seeds, with the mean of their intervals (Newcombe 1998, method 10 without φ)."""
    differences = []
    for x, y in zip(a, b, strict=True):
        p, q = (estimate_of(row, "robust_accuracy") for row in (x, y))
        value = p.value - q.value
        low = value - math.hypot(p.value - p.low, q.high - q.value)
        differences.append((value, low, value + math.hypot(p.high - p.value, q.value - q.low)))
    value, low, high = (sum(column) / len(column) for column in zip(*differences, strict=True))
    return Estimate(value, low, high, int(a[0]["n"]))
