"""Rows of a record as a table for people: percentages, degrees, intervals beside their values, ε in 255ths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ntklens.report.figures.style import pixels

_BOUNDS = {
    "accuracy": (("low", "high"), ("accuracy_low", "accuracy_high")),
    "robust_accuracy": (("robust_low", "robust_high"),),
    "usefulness": (("usefulness_low", "usefulness_high"),),
    "robustness": (("robustness_low", "robustness_high"),),
    "fooled": (("fooled_low", "fooled_high"),),
    "value": (("low", "high"),),
}
"""Columns that have an interval, and the names that its ends go by; of two that could have the same, the first has it."""

_SHARES = {
    "accuracy",
    "robust_accuracy",
    "pgd_accuracy",
    "one_step_accuracy",
    "usefulness",
    "robustness",
    "one_step",
    "feature_usefulness",
    "feature_robustness",
    "agreement",
    "fooled",
}
"""Columns that are told in per cent."""

_ANGLES = {"angle", "angle_top", "angle_bottom"}
"""Columns in radians, told in degrees."""

_HEADINGS = {
    "eps": "ε",
    "pgd_accuracy": "under PGD alone",
    "one_step_accuracy": "under one step",
    "one_step": "under one step",
}
"""Columns that go by another name."""

_WORDS = {
    ("linearised", "not"): "not: the network itself",
    ("linearised", "standard"): "on clean images",
    ("linearised", "PGD"): "on PGD images",
    ("training", "none"): "untrained",
}
"""What values of a record are called before people."""

_INTERVAL = " [95 % interval]"


@dataclass(frozen=True)
class Table:
    """A table ready to be set: every cell is text."""

    title: str
    header: list[str]
    rows: list[list[str]]


def table(title: str, rows: Sequence[dict[str, Any]]) -> Table | None:
    """The rows as a table; None when there are none.

    Example:
        >>> found = table("curve", [{"eps": 8 / 255, "accuracy": 0.815, "low": 0.755, "high": 0.863}])
        >>> found.header, found.rows
        (['ε', 'accuracy [95 % interval]'], [['8/255', '81.5 % [75.5, 86.3]']])
    """
    if not rows:
        return None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    bounds: dict[str, tuple[str, str]] = {}
    for key, pairs in _BOUNDS.items():
        for pair in pairs:
            if key in keys and set(pair) <= set(keys) and pair not in bounds.values():
                bounds[key] = pair
    ends = {end for pair in bounds.values() for end in pair}
    shown = [key for key in keys if key not in ends]
    header = [_heading(key) + (_INTERVAL if key in bounds else "") for key in shown]
    return Table(title, header, [[_cell(row, key, bounds.get(key)) for key in shown] for row in rows])


def number(value: Any) -> str:
    """A value in four significant digits, a dash where there is none.

    Example:
        >>> number(0.123456), number(1500), number(None)
        ('0.1235', '1500', '–')
    """
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _heading(key: str) -> str:
    return _HEADINGS.get(key, key.replace("_", " "))


def _cell(row: dict[str, Any], key: str, bounds: tuple[str, str] | None) -> str:
    value = row.get(key)
    if value is None:
        return number(None)
    if key == "eps":
        return pixels(value)
    if key in _ANGLES:
        return f"{math.degrees(value):.1f}°"
    if (key, value) in _WORDS:
        return _WORDS[key, value]
    share = key in _SHARES
    text = f"{100 * value:.1f} %" if share else number(value)
    low, high = (row.get(end) for end in bounds) if bounds else (None, None)
    if low is None or high is None:
        return text
    return f"{text} [{100 * low:.1f}, {100 * high:.1f}]" if share else f"{text} [{number(low)}, {number(high)}]"
