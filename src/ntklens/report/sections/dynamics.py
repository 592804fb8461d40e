"""The section on the kernel over training (claims C7 and C8)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import dynamics, style
from ntklens.report.sections.base import Plate, Section, first, numbers

_TRAININGS = ("standard", "adversarial")


def dynamics_section(record: Record) -> Section:
    """Distances between epochs, the path in polar coordinates, and measures against the epoch."""
    rows: list[dict[str, Any]] = record.table("dynamics")
    meta = first(record, "dynamics_meta")
    maps = {t: record.array(f"dynamics/distance_{t}") for t in _TRAININGS if record.has(f"dynamics/distance_{t}")}
    plates = []
    if maps:
        plates.append(
            Plate(
                lambda: dynamics.distance_maps(maps),
                "Distance between the kernels of every two epochs. Dark blocks along the diagonal are spells in which the "
                "kernel keeps its shape; a bright edge shows how far it has come from its start. One colour scale for "
                "all maps.",
                "Heat maps of the kernel distance between every two epochs, a map a training.",
            )
        )
    plates.append(
        Plate(
            lambda: dynamics.polar(rows),
            "The kernel's path from its start, the centre. Radius: |K(t) - K(0)| as a share of |K(T) - K(0)|, each "
            "training by its own last epoch T, marked by a star; angle: how far the kernel has turned from K(0).",
            "Three polar plots of the kernel's path: whole, in its top eigenspace, and in the rest.",
        )
    )
    if meta:
        plates.append(
            Plate(
                lambda: dynamics.over_epochs(rows, meta),
                "Accuracy with 95 % Wilson intervals, and three measures of the kernel without one: there is one run of "
                "each training. The kernel is called lazy from the epoch after which its velocity stays below the dotted "
                f"line: {_lazy(meta, 'standard')} in standard, {_lazy(meta, 'adversarial')} in adversarial training.",
                "Four line plots against the epoch: accuracy, velocity, concentration and effective rank.",
            )
        )
    tables = numbers({"epoch by epoch": rows})
    return Section("dynamics", "How training moves the kernel", _text(meta), plates, tables)


def _text(meta: dict[str, Any]) -> str:
    network = f"A small network ({meta['architecture']})" if "architecture" in meta else "A small network"
    attack = f"PGD-{meta['attack_steps']}" if "attack_steps" in meta else "adversarial"
    eps = f" (ε = {style.pixels(meta['eps'])})" if "eps" in meta else ""
    probe = f"the same {meta['probe']}" if "probe" in meta else "the same"
    return (
        f"{network} was trained twice from one initialisation, on clean images and on {attack} examples{eps}; after each "
        f"epoch its tangent kernel was measured on {probe} clean test images."
    )


def _lazy(meta: dict[str, Any], training: str) -> str:
    epoch = meta.get(f"lazy_epoch_{training}")
    return "not within this run" if epoch is None else f"from epoch {epoch:g}"
