"""`ntklens paper`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.study import paper_spec


def paper(
    part: Annotated[str, typer.Argument(help="transfer: claims C1 and C2; features: C3 to C6; dynamics: C7, C8.")],
    data: o.OtherData = None,
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    eps: Annotated[str | None, typer.Option("--eps", help="Radius in pixel units; 8/255, and 0.1 on MNIST.")] = None,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/paper"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """The paper's claims on your data, each with a verdict and its figure; the experiment's own images by default.

    Example: ntklens paper transfer --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 1000
    """
    given = {
        "name": data,
        "data_dir": data_dir,
        "classes": o.class_list(classes),
        "train": train,
        "test": test,
    }
    radius = None if eps is None else o.number(eps, "--eps")
    chosen = {k: v for k, v in given.items() if v is not None}
    spec = paper_spec(part, chosen, eps=radius, seed=seed, device=device)
    execute(spec, out, overwrite=overwrite, resume=resume, json=json, tables=("claims",))
