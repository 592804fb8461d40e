"""The section on surrogates against victims."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import style, transfer
from ntklens.report.sections.base import Plate, Section, first, numbers


def transfer_section(record: Record) -> Section:
    """Who is fooled by whose images, and what they cost."""
    means: list[dict[str, Any]] = record.table("transfer_means")
    costs: list[dict[str, Any]] = record.table("transfer_cost")
    meta = first(record, "transfer_meta")
    spread = "± is half of Student's 95 % interval over the seeds. " if meta.get("seeds", 1) > 1 else ""
    plates = [
        Plate(
            lambda: transfer.heat_map(means),
            "Accuracy of the victims on images made elsewhere: the darker a row, the stronger its surrogate. Read down "
            "from clean images and noise, over kernels that know no network and those of untrained networks, to "
            f"trained networks and the victim itself. White frames: the victim's own architecture. {spread}",
            "Heat map of the accuracy of victims, one a column, on the images of surrogates, one a row.",
        ),
        Plate(
            lambda: transfer.cost_and_strength(means, costs),
            "Further up fools more, further left costs less. A kernel surrogate is fitted, never trained; its time grows "
            "with the number of samples times the number of images.",
            "Scatter plot of the share of predictions fooled against the seconds that a surrogate takes.",
        ),
    ]
    tables = {"means over the seeds": means, "each victim": record.table("transfer"), "cost of each surrogate": costs}
    return Section("transfer", "Who is fooled by whose images", _text(meta), plates, numbers(tables))


def _text(meta: dict[str, Any]) -> str:
    if not meta:
        return "Adversarial images made on surrogates were shown to victims that the surrogates have not seen."
    steps = "one step" if meta["steps"] == 1 else f"PGD of {meta['steps']} steps"
    seeds = "one seed" if meta["seeds"] == 1 else f"{meta['seeds']} seeds"
    return (
        f"Victims were trained on all {meta['train']} training images ({meta['epochs']} epochs, {seeds}), surrogates "
        f"fitted or trained on {meta['sample']} of them. {meta['test']} test images were attacked by {steps} on the "
        f"{meta['loss']} with ε = {style.pixels(meta['eps'])} in {style.norm_sign(meta['norm'])}. Success is "
        "counted twice: as 1 - accuracy, and as the share fooled among the predictions that were right before."
    )
