"""The only place that prints: progress bars with an ETA, tables, one-sentence errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from ntklens.report.tables import Table as Prepared
from ntklens.report.tables import table as prepared

out = Console()
err = Console(stderr=True)


@contextmanager
def progress(stages: Sequence[str]) -> Iterator[Callable[[str, float], None]]:
    """A bar for each stage, with the time gone and the time left; yields (stage, share done) -> None."""
    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
    )
    tasks: dict[str, TaskID] = {}
    told: set[tuple[str, str]] = set()
    with bar:
        for stage in stages:
            tasks[stage] = bar.add_task(stage, total=1.0, start=False)

        def watch(stage: str, share: float) -> None:
            task = tasks[stage]
            if not bar.tasks[task].started:
                bar.start_task(task)
            bar.update(task, completed=share)
            news = (stage, "started" if share == 0 else "done")
            if not err.is_terminal and share in (0.0, 1.0) and news not in told:
                told.add(news)
                err.print(": ".join(news), highlight=False)

        yield watch


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as in the report: a column a key, an interval beside its value.

    Where they are too wide for the terminal, what all rows have in common goes into a line of its own, and if that is not
    enough each row is told as a paragraph: no word is broken.
    """
    found = prepared(title, rows)
    if found is None:
        return
    common, room = "", out.width
    if sum(_longest(found)) + _frame(found) > room:
        found, common = _without_common(found)
    widths = _widths(found, room)
    say(found.title)
    if common:
        say(common)
    if widths is None:
        for cells in found.rows:
            say("  " + "; ".join(f"{name}: {cell}" for name, cell in zip(found.header, cells, strict=True)))
        return
    grid = Table()
    for name, width, column in zip(found.header, widths, zip(*found.rows, strict=True), strict=True):
        figures = all(cell[:1] in "0123456789-–" for cell in column)
        grid.add_column(name, width=width, justify="right" if figures else "left")
    for cells in found.rows:
        grid.add_row(*cells)
    out.print(grid, markup=False)


def _frame(found: Prepared) -> int:
    """Characters of the lines and margins between columns."""
    return 3 * len(found.header) + 1


def _longest(found: Prepared) -> list[int]:
    """Characters of each column's longest cell."""
    return [max(map(cell_len, cells)) for cells in zip(found.header, *found.rows, strict=True)]


def _widths(found: Prepared, room: int) -> list[int] | None:
    """Of columns that break no word, where there is room for them; those that want most get what is left over."""
    columns, wanted = zip(found.header, *found.rows, strict=True), _longest(found)
    widths = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    left = room - sum(widths) - _frame(found)
    for _ in range(min(left, sum(wanted) - sum(widths))):
        widths[max(range(len(widths)), key=lambda place: wanted[place] - widths[place])] += 1
    return None if left < 0 else widths


def _without_common(found: Prepared) -> tuple[Prepared, str]:
    """The table less the columns that are the same in all rows, and these in words."""
    same = [place for place in range(len(found.header)) if len({row[place] for row in found.rows}) == 1]
    if len(found.rows) < 2 or len(same) == len(found.header):
        return found, ""
    kept = [place for place in range(len(found.header)) if place not in same]
    words = ", ".join(f"{found.header[place]} {found.rows[0][place]}" for place in same)
    rows = [[row[place] for place in kept] for row in found.rows]
    return Prepared(found.title, [found.header[place] for place in kept], rows), f"in all rows: {words}" if same else ""


def as_json(value: Any) -> None:
    """For programs: JSON on standard output and nothing else."""
    out.print_json(json.dumps(value))


def say(text: str) -> None:
    """A line for people."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """The sentence of an error, on standard error."""
    err.print(f"error: {text}", highlight=False, markup=False, soft_wrap=True)
