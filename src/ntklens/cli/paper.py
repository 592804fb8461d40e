"""`ntklens paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o

Experiment = Annotated[
    str,
    typer.Argument(help="Experiment: transfer (claims C1 and C2), features (C3 to C6) or dynamics (C7, C8 and L1)."),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="Data set in place of the experiment's own: a name, an .npz file, or a folder of images.",
    ),
]
Eps = Annotated[
    str | None,
    typer.Option("--eps", help="Radius ε of the attacks, for pixels in [0, 1] (default: 8/255, and 0.1 on mnist)."),
]


def paper(
    experiment: Experiment,
    data: Data = None,
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    eps: Eps = None,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/paper"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Test the papers' claims, on the experiment's own images or on yours.

    Claims C1 to C6 are those of Tsilivis & Kempe (2022); C7, C8 and L1 those of Loo et al. (2022). Each claim gets a
    verdict and a figure.

    Example: ntklens paper transfer --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 1000
    """
    radius = None if eps is None else o.number(eps, "--eps")

    from ntklens.cli.experiment import execute
    from ntklens.study import paper_spec

    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)
    spec = paper_spec(experiment, data_part, eps=radius, seed=seed, device=device)
    execute(spec, out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
