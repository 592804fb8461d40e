"""A contact sheet of attacked images as a PNG."""

from __future__ import annotations

from pathlib import Path

from ntklens.record import Record
from ntklens.report.figures import attack
from ntklens.report.figures.style import styled


def write_sheet(record: Record, path: str | Path) -> Path | None:
    """Images, perturbations and attacked images of an attack on a network; None where it fooled nothing."""
    rows = record.table("victim_gallery")
    if not rows:
        return None
    with styled():
        figure = attack.gallery(rows, record.array("victim/gallery_x"), record.array("victim/gallery_adv"))
        figure.savefig(path, dpi=130)
    return Path(path)
