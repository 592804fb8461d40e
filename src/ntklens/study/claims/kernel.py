"""The rules on adversarial images that are made from the kernel alone: C1 and C2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ntklens.record import Record
from ntklens.study.claims.base import Measure, Verdict, estimate_of, judge, only_row, rows_of
from ntklens.study.claims.more import SEEDS
from ntklens.vocabulary import DIFFERENCE, KERNEL_MATCHED, NOISE, WHITE_BOX
from ntklens.wording import listed, points

_AS_TRAINED = ("standard parametrisation", "cross-entropy, SGD")
"""Regimes in which people train networks: torch's own parametrisation, and with it mini-batches and the cross-entropy."""


def c1(record: Record) -> Verdict:
    """Judge C1: seen when one step lowers the accuracy by more than noise of the same size does."""
    effect = only_row(record, "attack_effect")
    return judge(
        f"One step lowers the machine's accuracy by {points(effect)} more than noise of the same ε.",
        Measure(
            "what one step costs the machine's accuracy beyond noise of the same size",
            estimate_of(effect),
            0.0,
            unit=DIFFERENCE,
        ),
    )


def c2(record: Record) -> Verdict | None:
    """Judge C2: seen when, in the lazy regime, the kernel's images beat noise, and come nearer to the white box with width.

    The kernel's images are those at the networks' own training time. The two parts are what they cost the widest networks
    beyond noise, and by how much their gap to the white box is smaller at the largest width than at the smallest; the
    intervals are over images and seeds. With a single width there is no comparison, and no verdict.

    Networks as people train them are another regime, of which the claim says nothing: where the run has some, what the
    kernel's images cost them beyond noise is told with a verdict of its own, and does not decide.
    """
    narrowing = rows_of(record, "lazy_narrowing")
    if not narrowing:
        return None
    rows = rows_of(record, "lazy_effect")
    narrowest, widest = narrowing[0]["narrowest"], narrowing[0]["widest"]

    def effect(width: int, first: str, second: str) -> dict[str, Any]:
        return next(r for r in rows if (r["width"], r["first"], r["second"]) == (width, first, second))

    beyond_noise = effect(widest, NOISE, KERNEL_MATCHED)
    gap_widest = effect(widest, KERNEL_MATCHED, WHITE_BOX)
    gap_narrowest = effect(narrowest, KERNEL_MATCHED, WHITE_BOX)
    parts = [
        _measure(f"lazy regime: what the kernel's images cost networks of width {widest} beyond noise", beyond_noise),
        _measure(
            f"lazy regime: what their gap to the white box loses from width {narrowest} to {widest}", narrowing[0]
        ),
    ]
    figure = (
        f"At width {widest} the kernel's examples at matched time cost a network "
        f"{points(beyond_noise)} more than noise; they fall short of its own white-box examples "
        f"by {points(gap_widest)}, against {points(gap_narrowest)} at width {narrowest}."
    )
    aside = [
        _measure(f"{row['regime']}: what the kernel's images cost networks of width {row['width']} beyond noise", row)
        for row in _as_trained(record)
    ]
    verdict = judge(figure, *parts, aside=aside)
    regimes = [f"in the lazy regime: {verdict.verdict}"]
    regimes += [
        f"as people train them ({row['regime']}): {measure.verdict}, {points(_beyond_noise(row))} more than noise"
        for row, measure in zip(_as_trained(record), aside, strict=True)
    ]
    told = f"Networks {listed(regimes)}. {figure}"
    return replace(verdict, figure=told)


def _as_trained(record: Record) -> list[dict[str, Any]]:
    return [row for row in rows_of(record, "lazy_regimes") if row["regime"] in _AS_TRAINED]


def _beyond_noise(row: dict[str, Any]) -> dict[str, Any]:
    return {"value": row["beyond_noise"], "low": row["beyond_noise_low"], "high": row["beyond_noise_high"]}


def _measure(what: str, row: dict[str, Any]) -> Measure:
    """Return a difference of accuracies whose interval is over images and seeds, to be above zero."""
    by_seeds = row["seed_share"] is not None and row["seed_share"] > 0.5  # more seeds narrow it more than images do
    estimate = estimate_of(
        row, "beyond_noise" if "beyond_noise" in row else "value", n=row["seeds"] if by_seeds else row["n"]
    )
    return Measure(what, estimate, 0.0, unit=DIFFERENCE, of=SEEDS if by_seeds else "test images")
