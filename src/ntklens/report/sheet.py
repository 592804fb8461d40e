"""Pictures beside the report: a contact sheet of attacked images, an animation over features."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from ntklens.record import Record
from ntklens.report.figures import attack, pictures
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


def write_animation(record: Record, path: str | Path, milliseconds: int = 400) -> Path | None:
    """Features one after the other, from the largest eigenvalue on, as a GIF; None where the run pictured none."""
    rows = record.table("frames")
    if not rows or not record.has("features/frames"):
        return None
    image, gradients = record.array("features/picture_images")[0], record.array("features/frames")
    shown = []
    with styled():
        for row, gradient in zip(rows, gradients, strict=True):
            buffer = io.BytesIO()
            pictures.frame(row, image, gradient).savefig(buffer, format="png", dpi=90)
            shown.append(Image.open(buffer).convert("P"))
    shown[0].save(path, save_all=True, append_images=shown[1:], duration=milliseconds, loop=0)
    return Path(path)
