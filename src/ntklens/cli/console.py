"""The only place that prints: progress bars with the remaining time, tables, JSON, one-sentence errors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Grid

from ntklens.cli.bars import Bars, Lines, StageProgress
from ntklens.cli.characters import can_show

if TYPE_CHECKING:
    from ntklens.report.tables import Table

out = Console()
err = Console(stderr=True)


@contextmanager
def progress(stages: Sequence[str]) -> Iterator[StageProgress]:
    """Show how far the stages are: bars on a terminal, and elsewhere lines, of which one comes a minute.

    Args:
        stages: names of the stages, in order.
    """
    shown = Bars(stages, err) if err.is_terminal else Lines(_note)
    with shown:
        yield shown


def _note(text: str) -> None:
    """Print a line on standard error."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows as in the report: one column per key, an interval beside its value; nothing where there are no rows.

    If the table is too wide for the terminal, the columns with one value in all rows go into a line above it. If that is
    not enough, each row is printed as a paragraph. No word is broken.
    """
    from ntklens.report.tables import table as text_table

    cells = text_table(title, rows)
    if cells is None:
        return
    common = ""
    if sum(_longest_cells(cells)) + _frame(cells) > out.width:
        cells, common = _without_common(cells)
    widths = _widths(cells, out.width)
    say(cells.title)
    if common:
        say(common)
    if widths is None:
        for row in cells.rows:
            say("  " + "; ".join(f"{name}: {cell}" for name, cell in zip(cells.header, row, strict=True)))
        return
    grid = Grid()
    for name, width, column in zip(cells.header, widths, zip(*cells.rows, strict=True), strict=True):
        is_numeric = all(cell[:1] in "0123456789-–" for cell in column)
        grid.add_column(name, width=width, justify="right" if is_numeric else "left")
    for row in cells.rows:
        grid.add_row(*row)
    out.print(grid, markup=False)


def _frame(cells: Table) -> int:
    """Return the number of characters that lines and margins take: three per column, and the last line."""
    return 3 * len(cells.header) + 1


def _longest_cells(cells: Table) -> list[int]:
    """Return the width of each column's longest cell, in characters of the terminal."""
    return [max(map(cell_len, column)) for column in zip(cells.header, *cells.rows, strict=True)]


def _widths(cells: Table, terminal_width: int) -> list[int] | None:
    """Return column widths that break no word; None where the terminal has no room for them.

    Spare width goes to the columns that lack most.
    """
    columns = list(zip(cells.header, *cells.rows, strict=True))
    longest = _longest_cells(cells)
    # A column is at least as wide as its longest word; "" stands for a cell without words.
    widths = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    spare = terminal_width - sum(widths) - _frame(cells)
    if spare < 0:
        return None
    # Hand out one character at a time, until nothing is spare or every cell fits on one line.
    for _ in range(min(spare, sum(longest) - sum(widths))):
        neediest = max(range(len(widths)), key=lambda column: longest[column] - widths[column])
        widths[neediest] += 1
    return widths


def _without_common(cells: Table) -> tuple[Table, str]:
    """Return the table without the columns that have one value in all rows, and a line that tells these values."""
    columns = range(len(cells.header))
    common = [column for column in columns if len({row[column] for row in cells.rows}) == 1]
    if not common or len(cells.rows) < 2 or len(common) == len(columns):
        return cells, ""
    remaining = [column for column in columns if column not in common]
    words = ", ".join(f"{cells.header[column]} {cells.rows[0][column]}" for column in common)
    header = [cells.header[column] for column in remaining]
    rows = [[row[column] for column in remaining] for row in cells.rows]
    return type(cells)(cells.title, header, rows), f"in all rows: {words}"


def as_json(value: Any) -> None:
    """Print a value as JSON on standard output, for programs.

    Where the encoding lacks a character, all of them are escaped as JSON does it, so that a program reads the same values.
    """
    text = json.dumps(value, ensure_ascii=False)
    out.print_json(text, ensure_ascii=not can_show(text))


def say(text: str) -> None:
    """Print a line on standard output, for people."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Print a line on standard error, for people: advice, and what standard output has no room for beside JSON."""
    err.print(text, highlight=False, markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """Print the sentence of an error on standard error."""
    err.print(f"error: {text}", highlight=False, markup=False, soft_wrap=True)
