"""The section on an attack of the user's own network."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import attack, style, victim
from ntklens.report.sections.base import Plate, Section, first, numbers


def victim_section(record: Record) -> Section:
    """Accuracy clean, under noise and under the attack; examples; the self-checks."""
    rows: list[dict[str, Any]] = record.table("victim")
    shown: list[dict[str, Any]] = record.table("victim_gallery")
    meta = first(record, "victim_meta")
    plates = [
        Plate(
            lambda: victim.accuracies(rows),
            "Accuracy of the network with 95 % Wilson intervals. Compare the attack with noise of the same size: what "
            "lies between is the attack's own.",
            "Dot plot of the network's accuracy on clean, noisy and attacked images.",
        )
    ]
    if shown and record.has("victim/gallery_x"):
        x, found = record.array("victim/gallery_x"), record.array("victim/gallery_adv")
        plates.append(
            Plate(
                lambda: attack.gallery(shown, x, found),
                "Test images that the network gets right (top), what the attack adds (middle; red is brighter, blue "
                "darker), and the sum with what the network then sees in it (bottom). All images are in "
                "arrays/victim.npz of the run.",
                "Grid of clean images, signed perturbations and attacked images with the network's predictions.",
            )
        )
    checks: list[dict[str, Any]] = record.table("victim_checks")
    whose = "surrogate" if meta.get("surrogate") else "network"
    tables = {"attack": rows, f"checks of the {whose}": checks}
    failed = [str(c["seen"]) for c in checks if c["passed"] == "no"]
    text = _text(rows, meta)
    if failed:
        text += f" Read the figures with care; of the {whose}: {' '.join(failed)}"
    return Section("victim", "Attack on a network of yours", text, plates, numbers(tables))


def _text(rows: list[dict[str, Any]], meta: dict[str, Any]) -> str:
    last = rows[-1]
    radius = f"ε = {style.pixels(last['eps'])} in {style.norm_sign(last['norm'])}"
    if not meta.get("surrogate"):
        return f"{meta.get('victim', 'The network')} was attacked from inside by {last['attack']}, {radius}."
    time, searched = meta.get("time"), meta.get("correlation")
    when = "trained for ever" if time is None else f"stopped at ηt = {time:.3g}"
    found = "" if searched is None else f", matched to {meta['queries']} outputs (correlation {searched:.2f})"
    if meta.get("search_fooled") is not None:
        found = (
            f", the time whose images fooled most, {100 * meta['search_fooled']:.0f} % of its right predictions, on images "
            f"set aside ({meta['queries']} queries)"
        )
    if not meta.get("kernel", True):
        when = "trained"
    return (
        f"{meta['victim']} was attacked without a look inside: the images were made by {last['attack']}, {radius}, on "
        f"{meta['surrogate']}, fitted on {meta['sample']} samples of the data and {when}{found}."
    )
