"""The section on the transfer to finite networks (claim C2)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import lazy, style
from ntklens.report.sections.base import Plate, Section, first, numbers


def lazy_section(record: Record) -> Section:
    """Accuracy of finite networks on images attacked elsewhere, against their width and at the largest one."""
    rows: list[dict[str, Any]] = record.table("lazy")
    meta = first(record, "lazy_meta")
    eps = style.pixels(max(r["eps"] for r in rows))
    plates = [
        Plate(
            lambda: lazy.accuracy_by_width(rows),
            "The lower a line, the stronger the attack. The question is whether the kernel's examples, made at the "
            "networks' own training time, and the networks' own (white box) draw together towards the right, where the "
            "networks are lazy. Small points are single networks with 95 % Wilson intervals; lines join their means; "
            "sources stand side by side at each width.",
            "Line plot of the accuracy of finite networks against their width, one line a source of images.",
        ),
        Plate(
            lambda: lazy.at_largest_width(rows),
            "The widest networks alone, with 95 % Wilson intervals. The controls are noise, which shows what any "
            "perturbation of this size does, and a surrogate network trained from another initialisation.",
            "Dot plot of the accuracy of the widest networks under each source, with intervals.",
        ),
    ]
    if any(r.get("cosine") is not None for r in rows):
        plates.append(
            Plate(
                lambda: lazy.cosine_by_width(rows),
                "How alike the input gradients of a network and of each model that attacks it from outside are: cosine, "
                "averaged over the test images; 1 is the same direction. In the lazy regime the kernel machine at the "
                "networks' own time tends to it with width. Small points are single networks with 95 % intervals.",
                "Line plot of the cosine of the input gradients against the width of the network, a line a source.",
            )
        )
    plates += _beyond(record)
    trained = f" by {meta['steps']} steps of full-batch gradient descent" if meta else ""
    text = (
        f"Finite networks of the kernel's architecture, {len({r['seed'] for r in rows})} of each width, were trained"
        f"{trained} and shown one-step examples (ε = {eps}) made elsewhere."
    )
    tables: dict[str, list[dict[str, Any]]] = {
        "accuracy of each network": rows,
        "differences of accuracy between sources, averaged over networks": record.table("lazy_effect"),
        "cost of each source": record.table("lazy_cost"),
    }
    tables["over training"] = record.table("lazy_steps")
    tables["kinds of training"] = record.table("lazy_regimes")
    return Section("lazy", "Transfer to networks that the attack has not seen", text, plates, numbers(tables))


def _beyond(record: Record) -> list[Plate]:
    """Over training, and out of the lazy regime, where these were measured."""
    steps: list[dict[str, Any]] = record.table("lazy_steps")
    kinds: list[dict[str, Any]] = record.table("lazy_regimes")
    plates = []
    if steps:
        plates.append(
            Plate(
                lambda: lazy.over_steps(steps),
                f"The networks of width {steps[0]['width']} while they train; means over the seeds. Left, how near the "
                "kernel's examples at the network's own time stay to the white box. Right, the cosine between the input "
                "gradients of the kernel machine and of the network, averaged over the test images: 1 is the same "
                "direction.",
                "Two line plots against the training step: accuracy by source of images, and cosine of the gradients.",
            )
        )
    if kinds:
        plates.append(
            Plate(
                lambda: lazy.regimes(kinds),
                f"Networks of width {kinds[0]['width']} trained in several ways. The grey bar is the gap between the "
                "kernel's examples and the white box, in points of accuracy with its 95 % interval over the images; the "
                "kernel's time is searched from a hundred outputs of the network. A short bar: the kernel still "
                "describes the network.",
                "Dot plot of accuracy under four sources of images, one row a kind of training, with the gap written in.",
            )
        )
    return plates
