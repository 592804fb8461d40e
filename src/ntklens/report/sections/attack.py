"""The section on attacks made from the kernel (claim C1)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import attack, style
from ntklens.report.sections.base import Plate, Section, numbers


def attack_section(record: Record) -> Section:
    """Accuracy against ε, and a gallery of attacked images."""
    curve: list[dict[str, Any]] = record.table("attack_curve")
    gallery: list[dict[str, Any]] = record.table("gallery")
    plates = [
        Plate(
            lambda: attack.accuracy_curve(curve),
            "Compare the attacks with the dashed grey line, random noise of the same ε: the gap between them is what the "
            "direction of a perturbation does beyond its size. One step and PGD fall together where the machine is "
            "nearly linear within the ball. Bands are 95 % Wilson intervals.",
            "Line plot of the kernel machine's accuracy against the attack radius for noise, one step and PGD.",
        )
    ]
    if gallery and record.has("attack/gallery_x"):
        x, found = record.array("attack/gallery_x"), record.array("attack/gallery_adv")
        plates.append(
            Plate(
                lambda: attack.gallery(gallery, x, found),
                "Test images that the machine gets right (top), what one step of size "
                f"ε = {style.pixels(gallery[0]['eps'])} adds to them (middle; red is brighter, blue darker), and the sum "
                "with what the machine then sees in it (bottom). They are chosen from those on which the attack succeeds.",
                "Grid of clean images, signed perturbations and attacked images with the machine's predictions.",
            )
        )
    text = (
        f"The attacked model is the {curve[0]['model']}: the mean prediction of infinitely wide networks trained on the "
        "same images. No network was trained to make the perturbations; they follow the gradient of the kernel."
    )
    return Section("attack", "Attacks made from the kernel alone", text, plates, numbers({"accuracy against ε": curve}))
