"""`ntklens run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.study import Spec


def run(
    experiment: Annotated[Path, typer.Argument(help="A TOML file; the demo's is in the README.")],
    out: o.Out = Path("runs/experiment"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """An experiment from a TOML file.

    Example: ntklens run my.toml --out runs/mine
    """
    execute(Spec.read(experiment), out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
