"""`ntklens compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o

First = Annotated[Path, typer.Argument(help="Folder of a run, the --out of the command that made it.")]
Second = Annotated[Path, typer.Argument(help="Folder of another run; differences are what it has more.")]
Every = Annotated[bool, typer.Option("--all", help="Print the figures too whose difference may be chance.")]


def compare(first: First, second: Second, every: Every = False, json: o.Json = False) -> None:
    """Compare two runs: their settings, their verdicts, and their figures with intervals of the differences.

    Nothing is computed but the differences. The intervals take the runs as independent, so those of runs that share test
    images are wider than they need be. The folder of a KernelTracker is taken for a run, too.

    Example: ntklens compare runs/before runs/after
    """
    from ntklens.cli import console
    from ntklens.study.compare import compare as set_beside
    from ntklens.study.tracker_folders import opened

    with opened(first) as one, opened(second) as other:
        found = set_beside(one, other)
        has_settings = bool(one.spec and other.spec)
    if json:
        console.as_json(vars(found))
        return
    if not has_settings:
        console.say("Nothing is known of the settings of a training that a KernelTracker followed.")
    elif found.settings:
        console.table("what differs in the settings", found.settings)
    else:
        console.say("Both runs have the same settings, data and versions.")
    console.table("claims", found.claims)
    different = [row for row in found.figures if row["differs"]]
    shown = found.figures if every else different
    console.table("figures", [{key: row[key] for key in row if key != "differs"} for row in shown])
    console.say(
        f"{len(different)} of {len(found.figures)} figures differ by more than their intervals; of figures that are the "
        "same, about one in twenty does so by chance."
        if found.figures
        else "The runs have no figure with an interval in common."
    )
    if found.measures:
        console.table("measures at the end", found.measures)
        console.say("These measures have no interval, so nobody can tell by them alone whether a difference is chance.")
    for row in found.alone:
        console.say(f"{row['figures']} figures of the table {row['table']} are in one run alone.")
