"""The only place that prints: progress bars with an ETA, tables, one-sentence errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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
    with bar:
        for stage in stages:
            tasks[stage] = bar.add_task(stage, total=1.0, start=False)

        def watch(stage: str, share: float) -> None:
            task = tasks[stage]
            if not bar.tasks[task].started:
                bar.start_task(task)
            bar.update(task, completed=share)
            if not err.is_terminal and share in (0.0, 1.0):
                err.print(f"{stage}: {'started' if share == 0 else 'done'}", highlight=False)

        yield watch


def table(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as in the report: a column a key, an interval beside its value."""
    found = prepared(title, rows)
    if found is None:
        return
    grid = Table(title=found.title, title_justify="left")
    for place, name in enumerate(found.header):
        figures = all(row[place][:1] in "0123456789-–" for row in found.rows)
        grid.add_column(name, overflow="fold", no_wrap=place == 0, justify="right" if figures else "left")
    for cells in found.rows:
        grid.add_row(*cells)
    out.print(grid, markup=False)


def as_json(value: Any) -> None:
    """For programs: JSON on standard output and nothing else."""
    out.print_json(json.dumps(value))


def say(text: str) -> None:
    """A line for people."""
    out.print(text, highlight=False, markup=False, soft_wrap=True)


def fail(text: str) -> None:
    """The sentence of an error, on standard error."""
    err.print(f"error: {text}", highlight=False, markup=False, soft_wrap=True)
