"""The rules on the features of the kernel: C3 to C6."""

from __future__ import annotations

import math

from ntklens.record import Record
from ntklens.statistics import rank_correlation
from ntklens.study.claims.base import Verdict, only_row, rows_of
from ntklens.study.context import Rows
from ntklens.vocabulary import FRAGILE, PARTLY, ROBUST
from ntklens.wording import share


def _bands(record: Record, category: str) -> Rows:
    """Return the bands of the spectrum of a category, in their order."""
    return [row for row in rows_of(record, "bands") if row["category"] == category]


def _is_unattacked(record: Record) -> bool:
    """Return whether ε is zero, where robustness is nothing but usefulness and no rule applies."""
    return bool(only_row(record, "features_meta")["eps"] == 0)


def c3(record: Record) -> Verdict | None:
    """Judge C3: seen when there are features, or bands of several features tested together, of both kinds."""
    if _is_unattacked(record):
        return None
    categories = [row["category"] for row in rows_of(record, "features")]
    robust, partly, fragile = (categories.count(category) for category in (ROBUST, PARTLY, FRAGILE))
    useless = len(categories) - robust - partly - fragile
    in_between = f"{partly} in between, " if partly else ""
    figure = (
        f"By all test images, of {len(categories)} features {robust} are useful and robust, {in_between}{fragile} "
        f"useful but not robust, {useless} not shown to be useful by the test on the figure."
    )
    # Bands of one feature say nothing beyond that feature's own row.
    robust_bands = [f"{r['first']} to {r['last']}" for r in _bands(record, ROBUST) if r["count"] > 1]
    fragile_bands = [f"{r['first']} to {r['last']}" for r in _bands(record, FRAGILE) if r["count"] > 1]
    for bands, what in ((robust_bands, "robust"), (fragile_bands, "not robust")):
        if bands:
            figure += f" Taken together, features {', '.join(bands)} are useful and, under one step, {what}."
    return Verdict(bool(robust or robust_bands) and bool(fragile or fragile_bands), figure)


def c4(record: Record) -> Verdict | None:
    """Judge C4: seen when, for every other kernel, every measure of agreement lies above what chance gives.

    A measure has no value where one side is constant; such measures are named and do not count.
    """
    rows = [row for row in rows_of(record, "consistency") if row["null_high"] is not None]
    measured = [row for row in rows if row["value"] is not None]
    if not measured:
        return None
    first = str(measured[0]["measure"])
    values = [
        f"{r['kernel_a']} and {r['kernel_b']}: {r['value']:.2f} (chance: up to {r['null_high']:.2f})"
        for r in measured
        if r["measure"] == first
    ]
    below = [f"{r['measure']}, {r['kernel_b']}" for r in measured if not r["value"] > r["null_high"]]
    unknown = [f"{r['measure']}, {r['kernel_b']}" for r in rows if r["value"] is None]
    figure = f"{first[0].upper()}{first[1:]} is {', '.join(values)}."
    if below:
        figure += f" Not above chance: {'; '.join(below)}."
    else:
        figure += f" All {len(measured)} measures are above the 97.5 % point of chance."
    if unknown:
        figure += f" Without a value, as one side is constant: {'; '.join(unknown)}."
    return Verdict(not below, figure)


def c5(record: Record) -> Verdict | None:
    """Judge C5: seen when all robust bands come before all useful non-robust ones, and a network learns in that order.

    The rule on a network applies where one was trained and gave an order.

    The robustness of all features, useful or not, falls with their index for random labels too, because functions of
    large eigenvalues are smooth. So that correlation is told, but only the useful bands are judged.
    """
    if _is_unattacked(record):
        return None
    robust, fragile = _bands(record, ROBUST), _bands(record, FRAGILE)
    in_order = False
    if robust and fragile:
        last_robust, first_fragile = max(r["last"] for r in robust), min(r["first"] for r in fragile)
        in_order = last_robust < first_fragile
        figure = (
            "Of the bands of the spectrum, under one step, robust and useful ones end at feature "
            f"{last_robust}, useful non-robust ones begin at {first_fragile}."
        )
    else:
        missing = [category for category, bands in ((ROBUST, robust), (FRAGILE, fragile)) if not bands]
        figure = f"There is no {' and no '.join(missing)} band of the spectrum to compare."
    rows = rows_of(record, "features")
    rho = rank_correlation([r["index"] for r in rows], [r["robustness"] for r in rows])
    if not math.isnan(rho.value):
        figure += (
            f" Rank correlation of robustness with the place, all features: {rho.value:.2f} "
            f"[{rho.low:.2f}, {rho.high:.2f}]; it falls with any labels."
        )
    if not rows_of(record, "learning_meta"):
        return Verdict(in_order, f"{figure} By construction, training of the kernel learns the features in that order.")
    order = only_row(record, "learning_meta")
    if order["value"] is None:
        return Verdict(in_order, f"{figure} In so few steps the network of width {order['width']} gave no order.")
    figure += (
        f" The step at which a network of width {order['width']} has learned half of a feature "
        f"goes with its place by {order['value']:.2f} [{order['low']:.2f}, {order['high']:.2f}]."
    )
    return Verdict(in_order and order["low"] > 0, figure)


def c6(record: Record) -> Verdict | None:
    """Judge C6: seen when fewer features are more robust and not less accurate, and a later band is not robust.

    Of the first k features, the useful choice is the k of the highest robust accuracy among those whose accuracy is above
    the rate of the majority class. By interval, it has to be more robust than all features, and all features may not be
    less accurate than it; and some band after it has to be useful and not robust.
    """
    if _is_unattacked(record):
        return None
    rows = rows_of(record, "top_k")
    everything = rows[-1]
    majority = only_row(record, "features_meta")["majority"]
    figure = (
        f"All {everything['k']} features: accuracy {share(everything)}, under one step "
        f"{share(everything, 'robust_accuracy')}."
    )
    useful = [row for row in rows[:-1] if row["accuracy_low"] > majority]
    if not useful:
        return Verdict(False, f"{figure} No smaller number of the first ones is more accurate than the majority class.")
    best = max(useful, key=lambda row: row["robust_accuracy"])
    figure += f" The first {best['k']}: {share(best)}, {share(best, 'robust_accuracy')}."
    more_robust = best["robust_accuracy_low"] > everything["robust_accuracy_high"]
    not_more_accurate = best["accuracy_low"] <= everything["accuracy_high"]
    fragile = [row for row in _bands(record, FRAGILE) if row["first"] >= best["k"]]
    if not fragile:
        return Verdict(False, f"{figure} No band of the other features is useful and not robust.")
    strongest = max(fragile, key=lambda row: row["accuracy"])
    figure += (
        f" Features {strongest['first']} to {strongest['last']} alone: {share(strongest)}, "
        f"{share(strongest, 'robust_accuracy')}."
    )
    return Verdict(more_robust and not_more_accurate, figure)
