"""The section on the attacks on the user's own network."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import attack, style, victim
from ntklens.report.sections.base import Plate, Section, arrays_of, numbers, only_row, plate_of, rows_of
from ntklens.vocabulary import CLEAN, NOISE
from ntklens.wording import at_most, doubts, listed, surrogate_time


def victim_section(record: Record) -> Section:
    """Return the accuracy on clean, noisy and attacked images of each source, examples, and the self-checks."""
    rows = rows_of(record, "victim")
    meta = only_row(record, "victim_meta")
    plates = plate_of(
        rows,
        victim.accuracies,
        "Accuracy of the victim on clean images, under noise of the same size, and on the images of each source, with 95 % "
        "Wilson intervals. Compare each source with noise: the difference is the effect of the attack itself. The kernel "
        "of an untrained network sees nothing of the victim; where it comes near the white box, which sees everything, "
        "that knowledge is worth little. A tangent kernel (entk) has the weights of the file that its name ends in, or "
        "else initial weights drawn from the seed, which are not those of a trained victim. Each point is an upper bound: "
        "the robust accuracy is at most the lowest of them, and no attack proves it.",
        "Dot plot of the victim's accuracy on clean, noisy and attacked images, a row for each source of images.",
    )
    plates += _gallery(record, str(meta["strongest"]))
    titles = {
        "victim": "attacks on the victim",
        "victim_effect": "accuracy under the first minus accuracy under the second",
        "victim_sources": "what the images are made on",
        "victim_checks": "checks",
    }
    text = " ".join([_text(record, rows, meta), *doubts(rows_of(record, "victim_checks"))])
    return Section("victim", "Attacks on a network of yours", text, plates, numbers(record, titles))


def _gallery(record: Record, source: str) -> list[Plate]:
    rows = rows_of(record, "victim_gallery")
    arrays = arrays_of(record, "victim/gallery_x", "victim/gallery_adv")
    if not rows or not arrays:
        return []
    x, x_adv = arrays
    return [
        Plate(
            lambda: attack.gallery(rows, x, x_adv),
            f"Test images that the network classifies right (top), the perturbation of the strongest source, {source} "
            "(middle; red is brighter, blue darker), and their sum with the network's prediction (bottom). They are chosen "
            "from those on which the attack succeeds. All images are in arrays/victim.npz of the run.",
            "Grid of clean images, signed perturbations and attacked images with the network's predictions.",
        )
    ]


def _text(record: Record, rows: list[dict[str, Any]], meta: dict[str, Any]) -> str:
    """Return what was attacked and how, and what the lowest accuracy says."""
    attacks = [row for row in rows if row["kind"] not in (CLEAN, NOISE)]
    how = listed(
        [row["attack"] if row["attack"] == row["source"] else f"{row['attack']} on {row['source']}" for row in attacks]
    )
    sources = [
        f"{row['source']} was fitted on {row['sample']} samples of the data and {surrogate_time(row)}."
        for row in rows_of(record, "victim_sources")
        if row["sample"]
    ]
    lowest = next(row for row in attacks if row["source"] == meta["strongest"])
    notes = [str(note["text"]) for note in rows_of(record, "victim_notes")]
    return " ".join(
        [
            f"{meta['victim']} was shown images of {style.threat(attacks[0])}, made by {how}; the strongest is "
            f"{meta['strongest']}, so the {at_most(lowest)}.",
            *sources,
            *notes,
        ]
    )
