"""What a rule returns, how its verdict follows from estimates with margins, and how it reads a record.

A claim is judged by estimates with 95 % intervals and by margins that are fixed in advance. It is *seen* where the whole
interval lies on the claim's side of the margin, *contradicted* where the whole interval lies on the other side, and
otherwise nobody *can tell*; then the width of the interval says about how many more images or seeds would decide.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ntklens.record import Record
from ntklens.schema import bounds
from ntklens.statistics import Estimate
from ntklens.study.claims.more import SEEDS, more
from ntklens.study.context import Rows
from ntklens.vocabulary import CANNOT_TELL, CONTRADICTED, DIFFERENCE, SEEN, SHARE

Side = Literal["above", "below"]
"""On which side of its margin an estimate speaks for a claim."""


def decide(estimate: Estimate, margin: float, side: Side = "above") -> str:
    """Return the verdict on an estimate: seen, contradicted or cannot tell.

    Args:
        estimate: with its 95 % interval.
        margin: fixed before the estimate is known.
        side: the claim's side of the margin.

    Example:
        >>> decide(Estimate(0.8, 0.7, 0.9, 100), 0.5), decide(Estimate(0.8, 0.7, 0.9, 100), 0.75)
        ('seen', 'cannot tell')
    """
    above, below = estimate.low > margin, estimate.high < margin
    if not (above or below):
        return CANNOT_TELL
    return SEEN if above == (side == "above") else CONTRADICTED


@dataclass(frozen=True)
class Measure:
    """One estimate that a claim is judged by.

    Attributes:
        what: what is estimated, as the subject of a sentence: "the accuracy of the head under attack".
        estimate: with its 95 % interval.
        margin: fixed in advance.
        side: the claim's side of the margin.
        unit: how the numbers are written: `SHARE`, `DIFFERENCE` or `NUMBER` of the vocabulary.
        of: what the interval shrinks with: "test images" or "seeds".
        each: how many of these one observation of the estimate takes: 2 where half of the test images are used.
    """

    what: str
    estimate: Estimate
    margin: float
    side: Side = "above"
    unit: str = SHARE
    of: str = "test images"
    each: float = 1.0

    @property
    def verdict(self) -> str:
        """The verdict on this measure alone."""
        return decide(self.estimate, self.margin, self.side)

    @property
    def would_decide(self) -> str:
        """What would decide, where nobody can tell; empty elsewhere."""
        return more(self.estimate, self.margin, self.of, self.each) if self.verdict == CANNOT_TELL else ""

    def row(self) -> dict[str, Any]:
        """Return the columns of this measure in the tables "claims" and "claim_parts"."""
        return {
            "verdict": self.verdict,
            "measure": self.what,
            "estimate": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "side": self.side,
            "margin": self.margin,
            "unit": self.unit,
            "would_decide": self.would_decide,
        }


@dataclass(frozen=True)
class Verdict:
    """The verdict on a claim, with what it rests on.

    Attributes:
        verdict: seen, contradicted or cannot tell.
        figure: the figures behind it, as whole sentences.
        decisive: the measure that decides, or that keeps the claim from being decided; None where nothing was estimated.
        would_decide: what would decide, where nobody can tell; empty elsewhere.
        parts: all measures, each a part of the claim; none where the claim has one part.
        aside: measures that inform, and do not decide.
    """

    verdict: str
    figure: str
    decisive: Measure | None
    would_decide: str = ""
    parts: tuple[Measure, ...] = ()
    aside: tuple[Measure, ...] = ()

    def row(self) -> dict[str, Any]:
        """Return the columns of the table "claims", without the claim and its statement."""
        measured = dict.fromkeys(COLUMNS) | {"unit": ""} if self.decisive is None else self.decisive.row()
        return measured | {"verdict": self.verdict, "figure": self.figure, "would_decide": self.would_decide}

    def part_rows(self) -> Rows:
        """Return the rows of the table "claim_parts", without the claim: the parts first, then what informs."""
        return [part.row() | {"decides": True} for part in self.parts] + [
            part.row() | {"decides": False} for part in self.aside
        ]


COLUMNS = ("measure", "estimate", "low", "high", "side", "margin", "unit")
"""Columns that say what a verdict rests on."""


def judge(figure: str, *parts: Measure, aside: Sequence[Measure] = ()) -> Verdict:
    """Return the verdict on a claim of one or more parts.

    It is seen when all parts are seen, contradicted when one is contradicted, and otherwise nobody can tell. The decisive
    part is the first one that is contradicted, or else the one that is furthest from being decided, or else, where all
    are seen, the one that is nearest to its margin.

    Args:
        figure: the figures behind it, as whole sentences.
        *parts: at least one.
        aside: measures that inform, and do not decide.
    """
    by_verdict = {word: [p for p in parts if p.verdict == word] for word in (CONTRADICTED, CANNOT_TELL, SEEN)}
    word = next(word for word, found in by_verdict.items() if found)
    decisive = by_verdict[word][0] if word == CONTRADICTED else min(by_verdict[word], key=_distance)
    several = parts if len(parts) > 1 or aside else ()
    return Verdict(word, figure, decisive, decisive.would_decide, tuple(several), tuple(aside))


def cannot_tell(figure: str, would_decide: str, measure: Measure | None = None) -> Verdict:
    """Return that nobody can tell, for a reason other than the width of an interval: a guard that does not hold.

    Args:
        figure: the figures and the reason, as whole sentences.
        would_decide: what would decide.
        measure: what was estimated in spite of it, if anything.
    """
    return Verdict(CANNOT_TELL, figure, measure, would_decide)


def _distance(part: Measure) -> float:
    """Return how far a measure lies on the claim's side of its margin, in units of half its interval."""
    estimate = part.estimate
    gap = (estimate.value - part.margin) * (1 if part.side == "above" else -1)
    half = estimate.value - estimate.low if estimate.value > part.margin else estimate.high - estimate.value
    if math.isnan(gap) or not math.isfinite(half):
        return -math.inf
    return gap / half if half > 0 else math.copysign(math.inf, gap)


def rows_of(record: Record, table: str) -> Rows:
    """Return the rows of a table, with values of any type."""
    rows: Rows = record.table(table)
    return rows


def only_row(record: Record, table: str) -> dict[str, Any]:
    """Return the first row of a table that has one row."""
    return rows_of(record, table)[0]


def estimate_of(row: dict[str, Any], column: str = "value", *, n: int | None = None) -> Estimate:
    """Return an estimate with its interval as a row of a table holds it.

    Numbers that are missing stand for a value that is not known, and for ends at ± infinity.

    Args:
        row: of a table.
        column: of the value.
        n: number of observations; by default the row's `n`.
    """
    low, high = (row.get(end) for end in bounds(column))
    value = row[column]
    return Estimate(
        math.nan if value is None else value,
        -math.inf if low is None else low,
        math.inf if high is None else high,
        int(row.get("n") or 0) if n is None else n,
    )


def over_seeds_and_images(what: str, row: dict[str, Any]) -> Measure:
    """Return a difference of accuracies whose interval is over images and seeds, to be above zero."""
    by_seeds = row["seed_share"] is not None and row["seed_share"] > 0.5  # more seeds narrow it more than images do
    column = "beyond_noise" if "beyond_noise" in row else "value"
    estimate = estimate_of(row, column, n=row["seeds"] if by_seeds else row["n"])
    return Measure(what, estimate, 0.0, unit=DIFFERENCE, of=SEEDS if by_seeds else "test images")
