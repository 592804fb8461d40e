"""`ntklens report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import console
from ntklens.cli import options as o
from ntklens.record import Record
from ntklens.report import write_report


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Annotated[Path | None, typer.Option("--out", help="The HTML file; report.html in the run by default.")] = None,
    json: o.Json = False,
) -> None:
    """Render a run's record again, without computing anything.

    Example: ntklens report runs/demo
    """
    path = write_report(Record.open(folder), out)
    if json:
        console.as_json({"report": str(path)})
    else:
        console.say(f"report: {path}")
