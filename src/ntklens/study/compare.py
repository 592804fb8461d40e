"""Two runs side by side: what they were asked for, the verdicts on the claims, and every figure that both have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ntklens.record import Record
from ntklens.schema import bounds
from ntklens.statistics import Estimate, difference
from ntklens.study.context import Rows
from ntklens.vocabulary import NOT_MEASURED

_ACCURACIES = ("accuracy", "robust_accuracy")
FIGURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "attack_curve": (("model", "attack", "norm", "eps"), ("accuracy",)),
    "attack_effect": (("comparison", "eps"), ("value",)),
    "victim": (("source", "attack", "norm", "eps"), ("accuracy",)),
    "victim_effect": (("first", "second", "eps"), ("value",)),
    "lazy_effect": (("width", "first", "second"), ("value",)),
    "lazy_narrowing": (("narrowest", "widest"), ("value",)),
    "lazy_regimes": (("regime", "width"), ("value", "beyond_noise")),
    "transfer_means": (("surrogate", "victim"), ("accuracy", "fooled")),
    "head_tail": (("features",), (*_ACCURACIES, "survives")),
    "head_tail_effect": (("first", "second", "attacked"), ("value",)),
    "top_k": (("k",), _ACCURACIES),
    "subsets": (("features",), _ACCURACIES),
    "bands": (("first", "last"), _ACCURACIES),
    "trade_off": (("knob", "value"), _ACCURACIES),
    "consistency": (("kernel_a", "kernel_b", "measure"), ("value",)),
    "certified": (("machine", "eps"), (*_ACCURACIES, "certified_accuracy")),
    "settling": (("training", "seed"), _ACCURACIES),
    "kernel_machines_effect": (("first", "second"), ("value",)),
    "kernel_machines": (("training", "seed", "fitted_on"), _ACCURACIES),
}
"""Tables whose figures are compared: the columns that tell a row, and those with an estimate and its interval."""

MEASURES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "settling": (("training", "seed"), ("epoch", "settled", "first_epoch", "last_epoch", "area")),
    "dynamics": (
        ("training", "seed"),
        ("centred_rank", "effective_rank", "alignment", "trace", "velocity", "probe_accuracy"),
    ),
}
"""Tables whose values have no interval: the columns that tell a row, and those set side by side.

Of the rows with the same columns the last one counts, which in the table "dynamics" is the last epoch."""


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Attributes:
        settings: rows "setting", "first" and "second" for what the runs were asked for, and for their data and victim,
            where the two differ.
        claims: rows with a claim, both verdicts, both estimates, and their difference with its interval where both
            measure the same against the same margin.
        figures: rows with a table, the row of it, the column, both values, and their difference (second - first) with its
            interval, and whether that interval leaves out zero.
        measures: rows with a table, the row of it, the column, and both values, of measures that have no interval.
        alone: rows with a table and the number of its figures that one run alone has.
    """

    settings: Rows
    claims: Rows
    figures: Rows
    measures: Rows
    alone: Rows


def compare(first: Record, second: Record) -> Comparison:
    """Set two runs side by side.

    The intervals of differences take the runs as independent. Runs that share test images are alike in part, and then the
    intervals are wider than they need be; none is too narrow for that reason.

    Args:
        first: a record.
        second: another one; differences are what it has more.
    """
    figures, alone = [], []
    for table in FIGURES:
        one, other = dict(_figures(first, table)), dict(_figures(second, table))
        figures += [
            {"table": table, "row": row, "column": column} | _difference(one[row, column], other[row, column])
            for row, column in one
            if (row, column) in other
        ]
        missing = len(one.keys() ^ other.keys())
        if missing:
            alone.append({"table": table, "figures": missing})
    return Comparison(_settings(first, second), _claims(first, second), figures, _measures(first, second), alone)


def _measures(first: Record, second: Record) -> Rows:
    """Return the measures without an interval that both runs have."""
    rows: Rows = []
    for table, (keys, columns) in MEASURES.items():
        one, other = ({_name(row, keys): row for row in record.table(table)} for record in (first, second))
        rows += [
            {"table": table, "row": name, "column": column, "first": one[name][column], "second": other[name][column]}
            for name in one
            for column in columns
            if name in other and column in one[name] and column in other[name]
        ]
    return rows


def _figures(record: Record, table: str) -> Iterator[tuple[tuple[str, str], Estimate]]:
    """Yield the figures of a table by the text of their row and their column; those not measured are left out."""
    keys, columns = FIGURES[table]
    for row in record.table(table):
        for column in columns:
            if (estimate := _estimate(row, column)) is not None:
                yield (_name(row, keys), column), estimate


def _name(row: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the text that tells a row of a table."""
    return ", ".join(f"{key} {_plain(row[key])}" for key in keys if row.get(key) is not None)


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _estimate(row: Mapping[str, Any], column: str) -> Estimate | None:
    """Return an estimate of a row; None where it has no value or no interval."""
    low, high = (row.get(end) for end in bounds(column))
    value = row.get(column)
    return None if value is None or low is None or high is None else Estimate(value, low, high, int(row.get("n") or 0))


def _difference(first: Estimate, second: Estimate) -> dict[str, Any]:
    found = difference(second, first)
    return {
        "first": first.value,
        "second": second.value,
        "difference": found.value,
        "difference_low": found.low,
        "difference_high": found.high,
        "differs": found.low > 0 or found.high < 0,
    }


def _claims(first: Record, second: Record) -> Rows:
    """Return a row per claim that one of the runs has measured."""
    both = [{str(row["claim"]): row for row in record.table("claims")} for record in (first, second)]
    rows: Rows = []
    for claim in dict.fromkeys([*both[0], *both[1]]):
        one, other = (of.get(claim, {}) for of in both)
        row = {"claim": claim, "first": one.get("verdict"), "second": other.get("verdict")}
        row |= {"measure": one.get("measure") or other.get("measure")}
        estimates = [_estimate(dict(of) | {"value": of.get("estimate")}, "value") for of in (one, other)]
        same = all(one.get(column) == other.get(column) for column in ("measure", "margin", "unit"))
        found: dict[str, Any] = dict.fromkeys(("difference", "difference_low", "difference_high"))
        if same and estimates[0] is not None and estimates[1] is not None:
            found = {key: _difference(estimates[0], estimates[1])[key] for key in found}
        row |= {"estimate_first": one.get("estimate"), "estimate_second": other.get("estimate")}
        rows.append(row | found)
    return [row for row in rows if {row["first"], row["second"]} - {None, NOT_MEASURED}]


def _settings(first: Record, second: Record) -> Rows:
    """Return the settings that differ, by their places in the experiment, and what else the figures rest on."""
    places = ("data", "victim", "versions", "processors")
    both = [
        dict(_flat(record.spec)) | dict(_flat({"run": {place: record.provenance.get(place) for place in places}}))
        for record in (first, second)
    ]
    return [
        {"setting": place, "first": both[0].get(place), "second": both[1].get(place)}
        for place in dict.fromkeys([*both[0], *both[1]])
        if both[0].get(place) != both[1].get(place)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables by their dotted places."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
