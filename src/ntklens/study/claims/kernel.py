"""The rules on adversarial images that are made from the kernel alone: C1 and C2."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ntklens.record import Record
from ntklens.study.claims.base import Measure, Verdict, estimate_of, judge, only_row, over_seeds_and_images, rows_of
from ntklens.vocabulary import CANNOT_TELL, DIFFERENCE, KERNEL_MATCHED, NOISE, SEEN, WHITE_BOX
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
    intervals are over images and seeds. With a single width the second part is missing, and nobody can tell.

    Networks as people train them are another regime, of which the claim says nothing: where the run has some, what the
    kernel's images cost them beyond noise is told with a verdict of its own, and does not decide.
    """
    effects = {(r["width"], r["first"], r["second"]): r for r in rows_of(record, "lazy_effect")}
    widest = max(width for width, _, _ in effects)
    beyond_noise, gap = effects[widest, NOISE, KERNEL_MATCHED], effects[widest, KERNEL_MATCHED, WHITE_BOX]
    parts = [
        over_seeds_and_images(
            f"lazy regime: what the kernel's images cost networks of width {widest} beyond noise", beyond_noise
        )
    ]
    figure = (
        f"At width {widest} the kernel's examples at matched time cost a network {points(beyond_noise)} more than noise; "
        f"they fall short of its own white-box examples by {points(gap)}"
    )
    for row in rows_of(record, "lazy_narrowing"):
        narrowest = row["narrowest"]
        parts.append(
            over_seeds_and_images(
                f"lazy regime: what their gap to the white box loses from width {narrowest} to {widest}", row
            )
        )
        figure += f", against {points(effects[narrowest, KERNEL_MATCHED, WHITE_BOX])} at width {narrowest}"
    as_trained = [row for row in rows_of(record, "lazy_regimes") if row["regime"] in _AS_TRAINED]
    aside = [
        over_seeds_and_images(
            f"{row['regime']}: what the kernel's images cost networks of width {row['width']} beyond noise", row
        )
        for row in as_trained
    ]
    verdict = judge(figure, *parts, aside=aside)
    if len(parts) == 1 and verdict.verdict == SEEN:
        verdict = replace(verdict, verdict=CANNOT_TELL, would_decide="networks of a second width")
    regimes = [f"in the lazy regime: {verdict.verdict}"]
    regimes += [
        f"as people train them ({row['regime']}): {measure.verdict}, {points(_beyond_noise(row))} more than noise"
        for row, measure in zip(as_trained, aside, strict=True)
    ]
    return replace(verdict, figure=f"Networks {listed(regimes)}. {figure}.")


def _beyond_noise(row: dict[str, Any]) -> dict[str, Any]:
    return {"value": row["beyond_noise"], "low": row["beyond_noise_low"], "high": row["beyond_noise_high"]}
