"""`ntklens run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o

Experiment = Annotated[
    Path, typer.Argument(help="TOML file with the experiment; the README links to that of the demo, to start from.")
]


def run(
    experiment: Experiment,
    out: o.Out = Path("runs/experiment"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Run an experiment that a TOML file describes.

    Example: ntklens run my.toml --out runs/mine
    """
    from ntklens.cli.experiment import execute
    from ntklens.study import Spec

    execute(Spec.read(experiment), out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
