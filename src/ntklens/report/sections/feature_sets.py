"""The parts of the section on features that are about sets of them."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import feature_sets
from ntklens.report.sections.base import Plate, first


def sets(record: Record) -> list[Plate]:
    """Machines of each category's features; the trade-off over time and ridge."""
    chosen: list[dict[str, Any]] = record.table("subsets")
    knobs: list[dict[str, Any]] = record.table("trade_off")
    stretches: list[dict[str, Any]] = record.table("bands")
    plates = []
    if len(chosen) > 1:
        plates.append(
            Plate(
                lambda: feature_sets.subsets(chosen),
                f"Machines made of the features of one category, and of all but one{_apart(record)}. If the classifier "
                "uses both kinds, the useful non-robust ones alone are accurate on clean images and on few attacked ones, "
                "and leaving the robust ones out costs robustness. 95 % Wilson intervals.",
                "Dot plot of clean and robust accuracy of machines made of sets of features.",
            )
        )
    if stretches:
        plates.append(
            Plate(
                lambda: feature_sets.bands(stretches),
                "Machines made of one stretch of the spectrum each, named, under one step, by the rule that sorts single "
                f"features, which here has to allow for {len(stretches)} tests and not for one a feature: a stretch of one "
                "feature can be called useful here and not above. Most features of small eigenvalues say too little to be "
                "called useful one by one; look for stretches that are accurate together (blue) and fall under attack "
                "(red). 95 % Wilson intervals.",
                "Dot plot of clean and robust accuracy of machines made of bands of the spectrum.",
            )
        )
    if knobs:
        plates.append(
            Plate(
                lambda: feature_sets.trade_off(knobs),
                "Stopping early, or a ridge, keeps the features of large eigenvalues and leaves the others out. Look for "
                "where the blue line no longer rises (left, towards late times; right, towards small ridges) while the red "
                "one falls: what is learned there costs robustness and gains no accuracy. Bands are 95 % Wilson intervals.",
                "Two line plots of clean and robust accuracy, over the training time and over the ridge.",
            )
        )
    return plates


def consequences(record: Record) -> list[Plate]:
    """What networks pick up, which images carry the features, and what networks learn from robust data."""
    plates = []
    steps: list[dict[str, Any]] = record.table("learning")
    if steps:
        meta = first(record, "learning_meta")
        width = f" of width {meta['width']}" if meta else ""
        plates.append(
            Plate(
                lambda: feature_sets.learning(steps),
                f"How much of each band of the spectrum a finite network{width} has picked up: the "
                "projection of its outputs on the eigenvectors, weighted by the labels' energy. Curves that rise one after "
                "the other: the features of large eigenvalues are learned first. Dashed, what the kernel predicts. Bands "
                "with less than 0.5 % of the labels' energy are left out.",
                "Line plot of the share learned of each band of features against the training steps.",
            )
        )
    classes: list[dict[str, Any]] = record.table("attribution")
    if classes:
        plates.append(
            Plate(
                lambda: feature_sets.attribution(classes),
                "How much of the labels the robust and the useful non-robust features explain, split by the class of the "
                "training images that they explain them at. A negative bar: on that class these features, alone, speak "
                "against the label.",
                "Bar chart of the label energy of robust and non-robust features for each class.",
            )
        )
    plates += _carriers(record)
    networks: list[dict[str, Any]] = record.table("robust_data")
    if networks:
        plates.append(
            Plate(
                lambda: feature_sets.robust_data(networks),
                "Networks trained on the data set as it is, on one in which only some features are left (in the labels or "
                "in the images), and on one projected on a random subspace of the same rank; all are tested, and attacked "
                f"by PGD, on the unchanged test images{_halves(networks)}.{_over(networks)}",
                "Dot plot of clean and robust accuracy of networks, one row a training set.",
            )
        )
    return plates


def _apart(record: Record) -> str:
    """Whether the images that chose the sets are others than those that score them; in earlier records they are not."""
    rows: list[dict[str, Any]] = record.table("features")
    if not rows or "by_half" not in rows[0]:
        return ""
    return (
        ", sorted by half of the test images and scored on the other half: what is chosen for its score on some images is "
        "worth less on others"
    )


def _halves(networks: list[dict[str, Any]]) -> str:
    halved = len({r.get("n") for r in networks}) > 1
    return "; where the features were chosen by half of these, on the other half" if halved else ""


def _over(networks: list[dict[str, Any]]) -> str:
    seeds = networks[0]["seeds"]
    drawn = ", each with a random subspace of its own" if "n" in networks[0] else ""
    return f" Intervals are Student's over {seeds} seeds{drawn}." if seeds > 1 else " One seed, so without intervals."


def _carriers(record: Record) -> list[Plate]:
    rows: list[dict[str, Any]] = record.table("carriers")
    names = {"robust and useful": "carriers_robust", "useful non-robust": "carriers_fragile"}
    images = {kind: record.array(f"features/{key}") for kind, key in names.items() if record.has(f"features/{key}")}
    if not rows or not images:
        return []
    return [
        Plate(
            lambda: feature_sets.carriers(rows, images),
            "The training images whose labels these features explain most, with their share of the label energy. What is "
            "fragile in a data set can be looked at image by image: arrays attribution_robust and attribution_fragile of "
            "the run hold all of them.",
            "Two rows of training images: those that carry the robust, and the useful non-robust, features.",
        )
    ]
