"""What a section of the report is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure
from numpy.typing import NDArray

from ntklens.record import Record
from ntklens.report.tables import Table, table

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Plate:
    """A figure with its texts.

    Attributes:
        make: draws the figure; called when the page is written.
        caption: what to see in the figure.
        alt: what the figure shows, for readers who cannot see it.
    """

    make: Callable[[], Figure]
    caption: str
    alt: str


@dataclass(frozen=True)
class Section:
    """A part of the report about one stage.

    Attributes:
        key: name of the section in links.
        title: heading.
        text: what was done.
        plates: figures.
        tables: the numbers behind the figures.
    """

    key: str
    title: str
    text: str
    plates: list[Plate] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def rows_of(record: Record, name: str) -> Rows:
    """Return the rows of a table, with values of any type; none when the run has no such table."""
    rows: Rows = record.table(name)
    return rows


def only_row(record: Record, name: str) -> dict[str, Any]:
    """Return the row of a table that has one row, and that every run of the section's stage writes."""
    return rows_of(record, name)[0]


def arrays_of(record: Record, *names: str) -> list[NDArray[Any]]:
    """Return the arrays "stage/name" in this order; nothing where one of them is missing.

    The folder of the arrays is by far the largest part of a run; a record that is kept without it has a report without the
    figures that are drawn from arrays.
    """
    return [record.array(name) for name in names] if all(record.has(name) for name in names) else []


def plate_of(rows: Rows, draw: Callable[[Rows], Figure], caption: str, alt: str) -> list[Plate]:
    """Return the plate of a figure that is drawn from the rows of one table; nothing where there are no rows."""
    return [Plate(lambda: draw(rows), caption, alt)] if rows else []


def numbers(record: Record, titles: dict[str, str]) -> list[Table]:
    """Return the tables that have rows.

    Args:
        record: the run.
        titles: for each table of the record its title on the page.
    """
    tables = [table(title, rows_of(record, name)) for name, title in titles.items()]
    return [t for t in tables if t is not None]
