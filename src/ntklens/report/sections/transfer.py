"""The section on the transfer to finite networks (claim C2)."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.report.figures import style, transfer
from ntklens.report.sections.base import Plate, Section, first, numbers


def transfer_section(record: Record) -> Section:
    """Accuracy of finite networks on images attacked elsewhere, against their width and at the largest one."""
    rows: list[dict[str, Any]] = record.table("transfer")
    meta = first(record, "transfer_meta")
    eps = style.pixels(max(r["eps"] for r in rows))
    plates = [
        Plate(
            lambda: transfer.accuracy_by_width(rows),
            "The lower a line, the stronger the attack. The question is whether the kernel's examples, made at the "
            "networks' own training time, and the networks' own (white box) draw together towards the right, where the "
            "networks are lazy. Small points are single networks with 95 % Wilson intervals; lines join their means; "
            "sources stand side by side at each width.",
            "Line plot of the accuracy of finite networks against their width, one line a source of images.",
        ),
        Plate(
            lambda: transfer.at_largest_width(rows),
            "The widest networks alone, with 95 % Wilson intervals. The controls are noise, which shows what any "
            "perturbation of this size does, and a surrogate network trained from another initialisation.",
            "Dot plot of the accuracy of the widest networks under each source, with intervals.",
        ),
    ]
    trained = f" by {meta['steps']} steps of full-batch gradient descent" if meta else ""
    text = (
        f"Finite networks of the kernel's architecture, {len({r['seed'] for r in rows})} of each width, were trained"
        f"{trained} and shown one-step examples (ε = {eps}) made elsewhere."
    )
    tables: dict[str, list[dict[str, Any]]] = {
        "accuracy of each network": rows,
        "differences of accuracy between sources, averaged over networks": record.table("transfer_effect"),
        "cost of each source": record.table("transfer_cost"),
    }
    return Section("transfer", "Transfer to networks that the attack has not seen", text, plates, numbers(tables))
