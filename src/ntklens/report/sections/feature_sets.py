"""The parts of the section on features that are about sets of them."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.report.figures import feature_sets
from ntklens.report.sections.base import Plate, Rows, only_row, plate_of, rows_of
from ntklens.vocabulary import FRAGILE, ROBUST


def sets(record: Record) -> list[Plate]:
    """Return machines of each category's features and of each band of the spectrum, and the trade-off."""
    bands = rows_of(record, "bands")
    k = head(record)
    return [
        *_head_and_tail(record),
        *plate_of(
            rows_of(record, "subsets"),
            feature_sets.subsets,
            "Machines made of the features of one category, and of all but one. The features are "
            "sorted into categories by half of the test images and the machines scored on the "
            "other half, since what is chosen for its score on some images is worth less on "
            "others; the numbers in brackets therefore differ from those by all test images. If the "
            "classifier uses both kinds, the useful non-robust features alone are accurate on clean "
            "images and on few attacked ones, and leaving the robust ones out "
            "costs robustness. Intervals are 95 % Wilson intervals.",
            "Dot plot of clean and robust accuracy of machines made of sets of features.",
        ),
        *plate_of(
            bands,
            lambda rows: feature_sets.bands(rows, k),
            "Machines made of one band of the spectrum each. Their categories, under one step, "
            f"follow the rule for single features. Here the rule allows for {len(bands)} tests "
            "and not for one per feature, so a band of one feature can be called useful that is "
            "not called so alone. Most features of small eigenvalues say too little to be called "
            "useful one by one; look for bands that are accurate together (blue) and fall under "
            "attack (red). The dashed line parts the head from the tail. Intervals are 95 % Wilson intervals.",
            "Dot plot of clean and robust accuracy of machines made of bands of the spectrum.",
        ),
        *plate_of(
            rows_of(record, "trade_off"),
            feature_sets.trade_off,
            "Stopping early, or a ridge, keeps the features of large eigenvalues and leaves the "
            "others out. Look for where the blue line no longer rises (left: towards late times; "
            "right: towards small ridges) while the red one falls: what is learned there costs "
            "robustness and gains no accuracy. Bands are 95 % Wilson intervals.",
            "Two line plots of clean and robust accuracy, over the training time and over the ridge.",
        ),
    ]


def head(record: Record) -> int | None:
    """Return the number of features in the head; None where none was chosen."""
    return next((int(row["k"]) for row in rows_of(record, "head_tail_meta")), None)


def _head_and_tail(record: Record) -> list[Plate]:
    rows = rows_of(record, "head_tail")
    if not rows:
        return []
    meta = only_row(record, "head_tail_meta")
    return plate_of(
        rows,
        lambda rows: feature_sets.head_and_tail(rows, meta),
        f"The spectrum in two parts. The head are the first k = {meta['k']} features: of the numbers tried, the one "
        f"that keeps most under one step on one half of the test images ({meta['n_chosen']}). The tail are all others. "
        f"Both, and all features together, are scored on the other half ({meta['n']}), each attacked on its own by one "
        f"step and by PGD of {meta['steps']} steps. If features split into robust and non-robust ones, the head stays "
        "above the rate of the majority class (dotted) under attack, and the tail is above it on clean images and falls "
        "below it. Claims C3, C5 and C6 are judged by these numbers. Intervals are 95 % Wilson intervals.",
        "Dot plot of clean and robust accuracy of the head, the tail and all features.",
    )


def consequences(record: Record) -> list[Plate]:
    """Return what networks pick up, which images carry the features, and what networks learn from robust data."""
    return [
        *_learning(record),
        *_attribution(record),
        *_carriers(record),
        *_robust_data(record),
    ]


def _learning(record: Record) -> list[Plate]:
    rows = rows_of(record, "learning")
    if not rows:
        return []
    width = only_row(record, "learning_meta")["width"]
    return plate_of(
        rows,
        feature_sets.learning,
        f"How much of each band of the spectrum a finite network of width {width} has picked up: "
        "the projection of its outputs on the eigenvectors, weighted by the labels' energy. "
        "Where the curves rise one after the other, the features of large eigenvalues are "
        "learned first. Dashed lines are the kernel's prediction. Bands with less than 0.5 % of "
        "the labels' energy are left out.",
        "Line plot of the share learned of each band of features against the training steps.",
    )


def _attribution(record: Record) -> list[Plate]:
    rows = rows_of(record, "attribution")
    missing = [category for category in (ROBUST, FRAGILE) if not any(row[category] for row in rows)]
    if len(missing) == 2:
        return []
    absent = f" No feature is called {missing[0]}, so there are no bars of these." if missing else ""
    return plate_of(
        rows,
        feature_sets.attribution,
        "How much of the labels the robust and the useful non-robust features explain, split "
        "by the class of the training images. A negative bar means that, on that class, "
        f"these features alone speak against the label.{absent}",
        "Bar chart of the label energy of robust and non-robust features for each class.",
    )


def _carriers(record: Record) -> list[Plate]:
    rows = rows_of(record, "carriers")
    names = {ROBUST: "features/carriers_robust", FRAGILE: "features/carriers_fragile"}
    # A category without any feature has no images.
    images = {category: record.array(name) for category, name in names.items() if record.has(name)}
    if not rows or not images:
        return []
    return [
        Plate(
            lambda: feature_sets.carriers(rows, images),
            "The training images whose labels the features of each category explain most, with "
            "their share of the label energy. The arrays attribution_robust and "
            "attribution_fragile of the run hold the shares of all images.",
            "Rows of training images: those that carry the robust, and the useful non-robust, features.",
        )
    ]


def _robust_data(record: Record) -> list[Plate]:
    rows = rows_of(record, "robust_data")
    if not rows:
        return []
    return plate_of(
        rows,
        feature_sets.robust_data,
        "Networks trained on the data set as it is, on one in which only some features are left "
        "(in the labels or in the images), and on one projected on a random subspace of the same "
        f"rank. All are tested, and attacked by PGD, on the unchanged test images{_halves(rows)}. "
        f"{_intervals(rows)}",
        "Dot plot of clean and robust accuracy of networks, one row per training set.",
    )


def _halves(rows: Rows) -> str:
    """Return where the networks were tested, if some were tested on fewer images than others."""
    is_halved = len({row["n"] for row in rows}) > 1
    return "; where the features were chosen by half of these, on the other half" if is_halved else ""


def _intervals(rows: Rows) -> str:
    seeds = rows[0]["seeds"]
    if seeds == 1:
        return "There is one seed, and so no intervals."
    return f"Intervals are Student's over {seeds} seeds, each with a random subspace of its own."
