"""The section on attacks made from the kernel (claim C1)."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.report.figures import attack, style
from ntklens.report.sections.base import Plate, Section, arrays_of, numbers, plate_of, rows_of


def attack_section(record: Record) -> Section:
    """Return accuracy against ε, and a gallery of attacked images."""
    curve = rows_of(record, "attack_curve")
    plates = plate_of(
        curve,
        attack.accuracy_curve,
        "Compare the attacks with the dashed grey line, random noise of the same ε. The gap "
        "between them is the effect of the perturbation's direction, beyond that of its size. "
        "One step and PGD fall together where the machine is nearly linear within the ball. "
        "Bands are 95 % Wilson intervals.",
        "Line plot of the kernel machine's accuracy against the attack radius for noise, one step and PGD.",
    )
    text = (
        f"The attacked model is the {curve[0]['model']}: {_what(curve[0]['model'])}. No network was trained to make the "
        "perturbations; they follow the gradient of the kernel."
    )
    tables = numbers(record, {"attack_curve": "accuracy against ε"})
    return Section("attack", "Attacks made from the kernel alone", text, plates + _gallery(record), tables)


def _what(model: str) -> str:
    """Return what a kernel machine is, from its name: of the infinite network, of a finite one, or of a file."""
    if " empirical kernel" not in model:
        if ".safetensors" in model:
            return "a machine that was fitted and saved before"
        return "the mean prediction of infinitely wide networks trained on the same images"
    own = "the weights of its file"
    initial = "initial weights drawn from the seed"
    if ".py:" in model:
        initial += ", unless its function gives it others"
    return f"the machine on the tangent kernel of the finite network with {own if '@' in model else initial}"


def _gallery(record: Record) -> list[Plate]:
    rows = rows_of(record, "gallery")
    arrays = arrays_of(record, "attack/gallery_x", "attack/gallery_adv")
    if not rows or not arrays:
        return []
    x, x_adv = arrays
    return [
        Plate(
            lambda: attack.gallery(rows, x, x_adv),
            "Test images that the machine classifies right (top), the perturbation of one step "
            f"of size {style.threat(rows[0])} (middle; red is brighter, blue darker), and their "
            "sum with the machine's prediction (bottom). The images are chosen from those on "
            "which the attack succeeds.",
            "Grid of clean images, signed perturbations and attacked images with the machine's predictions.",
        )
    ]
