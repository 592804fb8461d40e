"""What a rule returns, and how it reads a record."""

from __future__ import annotations

from typing import Any, NamedTuple

from ntklens.record import Record
from ntklens.study.context import Rows


class Verdict(NamedTuple):
    """Whether a claim is seen, and the figure that decides, as whole sentences."""

    seen: bool
    figure: str


def rows_of(record: Record, table: str) -> Rows:
    """Return the rows of a table, with values of any type."""
    rows: Rows = record.table(table)
    return rows


def only_row(record: Record, table: str) -> dict[str, Any]:
    """Return the first row of a table that has one row."""
    return rows_of(record, table)[0]
