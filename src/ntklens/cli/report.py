"""`ntklens report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o

Folder = Annotated[Path, typer.Argument(help="Folder of a run, the --out of the command that made it.")]
Html = Annotated[
    Path | None, typer.Option("--out", help="HTML file to write (default: report.html in the folder of the run).")
]


def report(folder: Folder, out: Html = None, json: o.Json = False) -> None:
    """Render the report of a finished run again.

    Nothing is computed: the report shows the tables and arrays in the folder of the run.

    Example: ntklens report runs/demo
    """
    from ntklens.cli import console
    from ntklens.record import Record
    from ntklens.report import write_report

    path = write_report(Record.open(folder), out)
    if json:
        console.as_json({"report": str(path)})
    else:
        console.say(f"report: {path}")
