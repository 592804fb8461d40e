"""The section on surrogates against victims."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import style, transfer
from ntklens.report.figures.style import Rows
from ntklens.report.sections.base import Plate, Section, numbers, only_row, rows_of
from ntklens.vocabulary import CLEAN, WHITE_BOX


def transfer_section(record: Record) -> Section:
    """Return who is fooled by whose images, and what the images cost."""
    means, costs = rows_of(record, "transfer_means"), rows_of(record, "transfer_cost")
    meta = only_row(record, "transfer_meta")
    spread = ""
    if any(transfer.has_interval(row) for row in means):
        spread = " In brackets stands Student's 95 % interval over the seeds"
        spread += "; a question mark where the seeds are too few for one."
    plates = [
        Plate(
            lambda: transfer.heat_map(means),
            "Accuracy of the victims on images made elsewhere: the darker a row, the stronger "
            "its surrogate. Clean images come first and images made on the victim itself last. White frames mark images "
            "made on the victim, on a network of its architecture that was trained with other seeds, and on a kernel of "
            f"its architecture.{spread}",
            "Heat map of the accuracy of victims, one per column, on the images of surrogates, one per row.",
        ),
        Plate(
            lambda: transfer.cost_and_strength(means, costs),
            "A surrogate further up fools more, one further left costs less. A kernel surrogate "
            "is fitted and never trained; its time grows with the number of samples times the "
            "number of images.",
            "Scatter plot of the share of predictions fooled against the seconds that a surrogate takes.",
        ),
    ]
    tables = numbers(
        record,
        {
            "transfer_means": "means over the seeds",
            "transfer": "each victim",
            "transfer_cost": "cost of each surrogate",
        },
    )
    return Section("transfer", "Who is fooled by whose images", _text(meta) + _tangents(means, meta), plates, tables)


def _tangents(means: Rows, meta: dict[str, Any]) -> str:
    """Return what the tangent kernel of a victim's network does to that victim, beside the white box.

    A victim that is trained in the run has other weights than its tangent kernel, which has initial ones.
    """
    given = meta["given"].split(", ")
    accuracies = {(row["surrogate"], row["victim"]): row["accuracy"] for row in means}
    sentences = []
    for (surrogate, victim), accuracy in accuracies.items():
        if surrogate == f"entk:{victim}":
            clean, white_box = accuracies[CLEAN, victim], accuracies[WHITE_BOX, victim]
            weights = "its own weights" if victim in given else "initial weights drawn from the seed"
            sentences.append(
                f" The machine on the tangent kernel of {victim} with {weights}, fitted on the sample, makes images "
                f"that bring {victim} from {100 * clean:.1f} to {100 * accuracy:.1f} %; the white box brings it to "
                f"{100 * white_box:.1f} %."
            )
    return "".join(sentences)


def _text(meta: dict[str, Any]) -> str:
    steps = "one step" if meta["steps"] == 1 else f"PGD of {meta['steps']} steps"
    seeds = "one seed" if meta["seeds"] == 1 else f"{meta['seeds']} seeds"
    given = meta["given"]
    taken = f" The victim {given} brings its own weights and was not trained." if given else ""
    if "," in given:
        taken = f" The victims {given} bring their own weights and were not trained."
    return (
        f"Victims were trained on all {meta['train']} training images ({meta['epochs']} epochs, "
        f"{seeds}); surrogates were fitted or trained on {meta['sample']} of them. {meta['test']} "
        f"test images were attacked by {steps} on the {meta['loss']} with {style.threat(meta)}. "
        "Success has two measures: 1 - accuracy on the attacked images, and the share fooled "
        f"among the predictions that were right before the attack.{taken}"
    )
