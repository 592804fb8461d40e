"""What a section of the report is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from ntklens.record import Record
from ntklens.report.tables import Table, table


@dataclass(frozen=True)
class Plate:
    """A figure, drawn when it is asked for, with what to see in it and what it shows to who cannot see it."""

    make: Callable[[], Figure]
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the report: what was done, figures, and the numbers behind them."""

    key: str
    title: str
    text: str
    plates: list[Plate] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def first(record: Record, name: str) -> dict[str, Any]:
    """The only row of a table; empty when the table is not there."""
    return next(iter(record.table(name)), {})


def numbers(tables: dict[str, list[dict[str, Any]]]) -> list[Table]:
    """The tables that have rows."""
    return [found for title, rows in tables.items() if (found := table(title, rows)) is not None]
