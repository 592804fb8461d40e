"""The rule on the features of several kernels: C4."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.study.claims.base import Measure, Verdict, estimate_of, judge, rows_of
from ntklens.vocabulary import NUMBER, OUTPUT_COSINE


def c4(record: Record) -> Verdict | None:
    """Judge C4: seen when, for every other kernel, the features' outputs at held-out images agree by more than chance.

    The estimate is the mean cosine between matched features, with its interval over test images. The margin is what a
    kernel reaches in 97.5 % of the draws that has the same spectrum, and features that are arranged in it at random.
    The further measures of agreement inform, and do not decide.
    """
    rows = [row for row in rows_of(record, "consistency") if row["value"] is not None]
    judged = [row for row in rows if row["measure"] == OUTPUT_COSINE and row["null_high"] is not None]
    if not judged:
        return None
    parts = [
        Measure(
            f"the {OUTPUT_COSINE} of {row['kernel_a']} and {row['kernel_b']}",
            estimate_of(row, n=int(row["n"] or 0)),
            row["null_high"],
            unit=NUMBER,
        )
        for row in judged
    ]
    values = [
        f"{r['kernel_a']} and {r['kernel_b']}: {r['value']:.2f} [{r['low']:.2f}, {r['high']:.2f}] "
        f"(chance: up to {r['null_high']:.2f})"
        for r in judged
    ]
    figure = f"The {OUTPUT_COSINE} is {', '.join(values)}."
    others = [row for row in rows if row["measure"] != OUTPUT_COSINE and row["null_high"] is not None]
    below = [f"{row['measure']}, {row['kernel_b']}" for row in others if not row["value"] > row["null_high"]]
    if others:
        told = f"all but {'; '.join(below)}" if below else "all of them"
        figure += f" Of {len(others)} further measures, which inform only, {told} are above chance."
    return judge(figure, *parts)
