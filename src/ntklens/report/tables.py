"""Rows of a record as a table for people: percentages, degrees, intervals beside their values, ε in 255ths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ntklens.schema import AUDIT_SHARES, bounds
from ntklens.vocabulary import NOT_LINEARISED, PGD, STANDARD, UNTRAINED
from ntklens.wording import pixels

_SHARES = {
    "accuracy",
    "robust_accuracy",
    "rounded_accuracy",
    "pgd_accuracy",
    "one_step_accuracy",
    "usefulness",
    "robustness",
    "one_step",
    "feature_usefulness",
    "feature_robustness",
    "agreement",
    "fooled",
    "certified_accuracy",
    "certified",
    *AUDIT_SHARES,
}
"""Columns that are written in per cent."""

_ANGLES = {"angle", "angle_top", "angle_bottom"}
"""Columns in radians, which are written in degrees."""

_HEADINGS = {
    "rounded_accuracy": "after rounding to 8 bits",
    "eps": "ε",
    "pgd_accuracy": "under PGD alone",
    "one_step_accuracy": "under one step",
    "one_step": "under one step",
    "clean_accuracy": "clean images",
    "noise_accuracy": "with noise",
    "perturbed_accuracy": "perturbed",
    "certified_accuracy": "proved",
    "certified": "proved",
    "undecided": "neither fooled nor proved",
}
"""Headings of columns whose names do not say what they are."""

_WORDS = {
    ("linearised", NOT_LINEARISED): "not: the network itself",
    ("linearised", STANDARD): "on clean images",
    ("linearised", PGD): "on PGD images",
    ("training", UNTRAINED): "untrained",
    ("passed", True): "yes",
    ("passed", False): "no",
}
"""Words for values whose names in a record do not say what they are."""

_INTERVAL = " [95 % interval]"


@dataclass(frozen=True)
class Table:
    """A table in which every cell is text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def table(title: str, rows: Sequence[dict[str, Any]]) -> Table | None:
    """Return the rows as a table; None when there are none.

    Example:
        >>> curve = [{"eps": 8 / 255, "accuracy": 0.815, "accuracy_low": 0.755, "accuracy_high": 0.863}]
        >>> found = table("curve", curve)
        >>> found.header, found.rows
        (['ε', 'accuracy [95 % interval]'], [['8/255', '81.5 % [75.5, 86.3]']])
    """
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    # A column with an interval takes its two ends into its own cells.
    with_interval = {key for key in keys if set(bounds(key)) <= set(keys)}
    ends = {end for key in with_interval for end in bounds(key)}
    columns = [key for key in keys if key not in ends]
    header = [_heading(key) + (_INTERVAL if key in with_interval else "") for key in columns]
    return Table(title, header, [[_cell(row, key, key in with_interval) for key in columns] for row in rows])


def number(value: Any) -> str:
    """Write a value in four significant digits; a dash where there is none.

    Example:
        >>> number(0.123456), number(1500), number(None)
        ('0.1235', '1500', '–')
    """
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _heading(key: str) -> str:
    return _HEADINGS.get(key, key.replace("_", " "))


def _cell(row: dict[str, Any], key: str, has_interval: bool) -> str:
    value = row.get(key)
    if value is None:
        return number(None)
    if key == "eps":
        return pixels(value)
    if key in _ANGLES:
        return f"{math.degrees(value):.1f}°"
    if (key, value) in _WORDS:
        return _WORDS[key, value]
    is_share = key in _SHARES
    text = f"{100 * value:.1f} %" if is_share else number(value)
    low, high = (row.get(end) for end in bounds(key)) if has_interval else (None, None)
    if low is None or high is None:
        return text
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if is_share else f"{text} [{number(low)}, {number(high)}]"
