"""The section on an attack of the user's own network."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import attack, style, victim
from ntklens.report.sections.base import Plate, Section, arrays_of, numbers, only_row, plate_of, rows_of
from ntklens.wording import attacked_model, doubts


def victim_section(record: Record) -> Section:
    """Return the accuracy on clean, noisy and attacked images, examples, and the self-checks."""
    rows = rows_of(record, "victim")
    meta = only_row(record, "victim_meta")
    plates = plate_of(
        rows,
        victim.accuracies,
        "Accuracy of the network with 95 % Wilson intervals. Compare the attack with noise of "
        "the same size: the difference between them is the effect of the attack itself.",
        "Dot plot of the network's accuracy on clean, noisy and attacked images.",
    )
    plates += _gallery(record)
    tables = numbers(record, {"victim": "attack", "victim_checks": f"checks of the {attacked_model(meta)}"})
    text = " ".join([_text(rows[-1], meta), *doubts(meta, rows_of(record, "victim_checks"))])
    return Section("victim", "Attack on a network of yours", text, plates, tables)


def _gallery(record: Record) -> list[Plate]:
    rows = rows_of(record, "victim_gallery")
    arrays = arrays_of(record, "victim/gallery_x", "victim/gallery_adv")
    if not rows or not arrays:
        return []
    x, x_adv = arrays
    return [
        Plate(
            lambda: attack.gallery(rows, x, x_adv),
            "Test images that the network classifies right (top), the perturbation (middle; red "
            "is brighter, blue darker), and their sum with the network's prediction (bottom). "
            "All images are in arrays/victim.npz of the run.",
            "Grid of clean images, signed perturbations and attacked images with the network's predictions.",
        )
    ]


def _text(attacked: dict[str, Any], meta: dict[str, Any]) -> str:
    """Return what was attacked and how.

    Args:
        attacked: the row of the attack in the table "victim".
        meta: the row of the table "victim_meta".
    """
    how = f"{attacked['attack']}, {style.threat(attacked)}"
    if not meta["surrogate"]:
        return f"{meta['victim']} was attacked from inside by {how}."
    return (
        f"{meta['victim']} was attacked without a look inside: the images were made by {how}, on "
        f"{meta['surrogate']}, which was fitted on {meta['sample']} samples of the data and "
        f"{_surrogate_time(meta)}."
    )


def _surrogate_time(meta: dict[str, Any]) -> str:
    """Return how long the surrogate was trained, and how that time was found."""
    if not meta["kernel"]:
        return "trained"
    time = "trained for ever" if meta["time"] is None else f"stopped at ηt = {meta['time']:.3g}"
    if "search_fooled" in meta:
        return (
            f"{time}. Images of that time fooled most: {100 * meta['search_fooled']:.0f} % of the "
            f"victim's right predictions on images set aside ({meta['queries']} queries)"
        )
    if "correlation" in meta:
        return (
            f"{time}, the time at which its outputs are most like the victim's on "
            f"{meta['queries']} images (correlation {meta['correlation']:.2f})"
        )
    return time
