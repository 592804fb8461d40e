"""The rules on adversarial images that are made from the kernel alone: C1 and C2."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.study.claims.base import Verdict, only_row, rows_of
from ntklens.vocabulary import KERNEL_MATCHED, NOISE, WHITE_BOX
from ntklens.wording import points


def c1(record: Record) -> Verdict:
    """Judge C1: seen when one step lowers the accuracy by more than noise of the same size does."""
    effect = only_row(record, "attack_effect")
    return Verdict(
        effect["low"] > 0, f"One step lowers the machine's accuracy by {points(effect)} more than noise of the same ε."
    )


def c2(record: Record) -> Verdict | None:
    """Judge C2: seen when the kernel's images beat noise at the largest width, and transfer as well as at the smallest.

    The kernel's images are those at the networks' own training time. They transfer as well when the gap to the white box
    is not larger at the largest width than at the smallest. The estimates of the gap are compared, without their intervals;
    with a single width there is no comparison, and no verdict.
    """
    rows = rows_of(record, "lazy_effect")
    widths = sorted({row["width"] for row in rows})
    if len(widths) < 2:
        return None
    narrowest, widest = widths[0], widths[-1]

    def effect(width: int, first: str, second: str) -> dict[str, Any]:
        return next(r for r in rows if (r["width"], r["first"], r["second"]) == (width, first, second))

    beyond_noise = effect(widest, NOISE, KERNEL_MATCHED)
    gap_widest = effect(widest, KERNEL_MATCHED, WHITE_BOX)
    gap_narrowest = effect(narrowest, KERNEL_MATCHED, WHITE_BOX)
    has_not_widened = gap_widest["value"] <= gap_narrowest["value"]
    return Verdict(
        beyond_noise["low"] > 0 and has_not_widened,
        f"At width {widest} the kernel's examples at matched time cost a network "
        f"{points(beyond_noise)} more than noise; they fall short of its own white-box examples "
        f"by {points(gap_widest)}, against {points(gap_narrowest)} at width {narrowest}.",
    )
