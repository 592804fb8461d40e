"""The section on the kernel over training (claims C7 and C8)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import dynamics, style
from ntklens.report.sections.base import Plate, Section, first, numbers

_TRAININGS = ("standard", "FGSM", "PGD", "watched")


def dynamics_section(record: Record) -> Section:
    """Distances between epochs, the path in polar coordinates, and measures against the epoch."""
    rows: list[dict[str, Any]] = record.table("dynamics")
    meta = first(record, "dynamics_meta")
    several = len({r["epoch"] for r in rows}) > 1
    plates = (_path(record, rows, meta) if several else []) + _consequences(record)
    tables = numbers(
        {
            "what the kernel's path says": record.table("advice"),
            "first lazy epochs by threshold (slow from there to the end, for three epochs)": record.table(
                "lazy_epochs"
            ),
            "linearised continuations": record.table("continued"),
            "machines on the networks' kernels": record.table("kernel_machines"),
            "epoch by epoch": rows,
        }
    )
    return Section("dynamics", "How training moves the kernel", _text(record, meta), plates, tables)


def _path(record: Record, rows: list[dict[str, Any]], meta: dict[str, Any]) -> list[Plate]:
    """What is seen over the epochs."""
    maps = {t: record.array(f"dynamics/distance_{t}") for t in _TRAININGS if record.has(f"dynamics/distance_{t}")}
    plates = []
    if maps:
        plates.append(
            Plate(
                lambda: dynamics.distance_maps(maps, rows),
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
            "training by its own last epoch T, marked by a star; angle: how far the kernel has turned from K(0)."
            + (" The first seed." if meta.get("seeds", 1) > 1 else ""),
            "Three polar plots of the kernel's path: whole, in its top eigenspace, and in the rest.",
        )
    )
    if meta:
        plates.append(
            Plate(
                lambda: dynamics.over_epochs(rows, meta),
                "Accuracy with 95 % Wilson intervals, and five measures of the kernel without one; "
                f"{_seeds(meta)}. The kernel is called lazy from an epoch on if its velocity stays below the dotted line "
                f"from there to the end, for three epochs at least: {_lazy(record, meta)}.",
                "Six line plots against the epoch: accuracy, velocity, trace, concentration, effective rank and alignment.",
            )
        )
    if any(r.get("adversarial_cosine") is not None for r in rows) and any(r["training"] == "FGSM" for r in rows):
        plates.append(_one_step(record, rows))
    return plates


def _one_step(record: Record, rows: list[dict[str, Any]]) -> Plate:
    alarms: list[dict[str, Any]] = [r for r in record.table("advice") if r["kind"] == "catastrophic overfitting"]
    return Plate(
        lambda: dynamics.one_step(rows, alarms),
        "Whether one-step training is honest. Where it breaks down (catastrophic overfitting), accuracy under one step "
        "parts from that under PGD, and tangents of one-step images turn away from those of the images; an alarm, "
        "which is sounded for one-step training alone, is a fall of the cosine by over 0.05 while the accuracies part. "
        f"Alarms here: {len(alarms) or 'none'}.",
        "Two line plots against the epoch: accuracy under one step and PGD, and the cosine between tangents.",
    )


def _consequences(record: Record) -> list[Plate]:
    plates = []
    linear: list[dict[str, Any]] = record.table("continued")
    if linear:
        plates.append(
            Plate(
                lambda: dynamics.continued(linear),
                "The network of an epoch was replaced by its first-order expansion, whose kernel is fixed, and trained on. "
                "Where a line comes up to the dotted one of its colour, all that the training still did after that epoch "
                "could be done with the kernel of that epoch." + _means(linear) + _masked(linear),
                "Two line plots of accuracy, clean and under attack, against the epoch of the expansion.",
            )
        )
    machines: list[dict[str, Any]] = record.table("kernel_machines")
    if machines:
        plates.append(
            Plate(
                lambda: dynamics.machines(machines),
                "Kernel machines on the tangent kernels of these networks, all fitted on the same clean images. If the red "
                "triangles of an adversarially trained network lie right of the others, the robustness is in its kernel. "
                "95 % Wilson intervals." + _masked(machines),
                "Dot plot of clean and robust accuracy of kernel machines, one row a network.",
            )
        )
    return plates


def _means(rows: list[dict[str, Any]]) -> str:
    return " Means over seeds." if len({r["seed"] for r in rows}) > 1 else ""


def _masked(rows: list[dict[str, Any]]) -> str:
    """Where PGD alone, on the function itself, would have flattered most."""
    gaps = [r["pgd_accuracy"] - r["robust_accuracy"] for r in rows if r.get("pgd_accuracy") is not None]
    if not gaps:
        return ""
    return (
        " Robust means right on the clean image, under PGD on the function itself and on the network, and under Square, "
        "which asks for no gradient: these functions jump where a unit switches, which gradients do not see. Under PGD on "
        f"the function alone they are right on up to {100 * max(gaps):.0f} points more."
    )


def _text(record: Record, meta: dict[str, Any]) -> str:
    network = f"A small network ({meta['architecture']})" if "architecture" in meta else "A small network"
    if any(r["training"] == "watched" for r in record.table("dynamics")):
        return (
            f"The checkpoints of a training of {style.plain(meta.get('architecture', 'a network'), 60)}: its tangent "
            f"kernel was measured at each on the same {meta.get('probe', '')} clean test images."
        )
    names = sorted({str(r["training"]) for r in record.table("dynamics")}, key=_TRAININGS.index)
    how = {
        "standard": "clean images",
        "FGSM": "one-step (FGSM) examples",
        "PGD": f"PGD-{meta['attack_steps']} examples" if "attack_steps" in meta else "PGD examples",
    }
    eps = f" (ε = {style.pixels(meta['eps'])})" if "eps" in meta else ""
    probe = f"the same {meta['probe']}" if "probe" in meta else "the same"
    cost = meta.get("tracker_share")
    took = f" The measuring took {100 * cost:.1f} % as long as the training." if cost else ""
    return (
        f"{network} was trained from one initialisation a seed on {', on '.join(how[n] for n in names)}{eps}; after each "
        f"epoch its tangent kernel was measured on {probe} clean test images.{took}"
    )


def _seeds(meta: dict[str, Any]) -> str:
    count = meta.get("seeds", 1)
    return "there is one run of each training" if count == 1 else f"a line is one of {count} seeds"


def _lazy(record: Record, meta: dict[str, Any]) -> str:
    rows = [r for r in record.table("lazy_epochs") if r["threshold"] == meta["lazy_threshold"]]
    parts = []
    for training in _TRAININGS:
        found = [
            "not within this run" if r["epoch"] is None else f"from {r['epoch']:g}"
            for r in rows
            if r["training"] == training
        ]
        if found:
            parts.append(f"{training} {', '.join(found)}")
    return "; ".join(parts) or "not asked for"
