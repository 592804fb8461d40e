"""`ntklens report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

Folders = Annotated[
    list[Path],
    typer.Argument(
        metavar="FOLDER...",
        help="Folder of a run, the --out of the command that made it, or folders of KernelTrackers.",
    ),
]
Html = Annotated[
    Path | None,
    typer.Option("--out", help="HTML file to write (default: report.html in the folder; needed for several folders)."),
]


def report(folder: Folders, out: Html = None, json: o.Json = False) -> None:
    """Render the report of a finished run again, or that of trainings that a KernelTracker followed.

    Of a run nothing is computed: the report shows the tables and arrays in its folder. Of the folder of a KernelTracker the
    measures are computed from the kernels in it; several such folders, of the same probe images, are drawn side by side.

    Example: ntklens report runs/demo

    Example: ntklens report runs/standard runs/adversarial --out trainings.html
    """
    from ntklens.cli import console
    from ntklens.report import write_report
    from ntklens.study.tracker_folders import is_tracker_folder, opened, tracked_record

    if len(folder) > 1 and not all(map(is_tracker_folder, folder)):
        raise InputError("expected one run, or several folders of KernelTrackers; got others. Give one run at a time.")
    if len(folder) > 1 and out is None:
        raise InputError("--out says where the page of several folders goes; give an HTML file.")
    tracked = is_tracker_folder(folder[0])
    with tracked_record(folder) if tracked else opened(folder[0]) as record:
        path = write_report(record, out or folder[0] / "report.html")
    if json:
        console.as_json({"report": str(path)})
    else:
        console.say(f"report: {path}")
