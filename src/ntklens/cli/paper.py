"""`ntklens paper`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o

Experiment = Annotated[
    str | None,
    typer.Argument(
        help="Experiment: transfer (claims C1 and C2), features (C3 to C6, N1) or dynamics (C7, C8 and L1); all three, in "
        "folders of --out, where none is given.",
        show_default=False,
    ),
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
    experiment: Experiment = None,
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

    Claims C1 to C6 are those of Tsilivis & Kempe (2022); C7, C8 and L1 those of Loo et al. (2022); N1
    is a claim of ntklens. Each claim gets a verdict and a figure.

    Example: ntklens paper --out runs/paper

    Example: ntklens paper transfer --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 1000
    """
    radius = None if eps is None else o.number(eps, "--eps")

    from ntklens.cli import console
    from ntklens.cli.experiment import execute
    from ntklens.record import FILE, check_folder
    from ntklens.study import PAPERS, paper_spec

    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)
    names = PAPERS if experiment is None else (experiment,)
    specs = {name: paper_spec(name, data_part, eps=radius, seed=seed, device=device) for name in names}
    folders = {name: out if experiment is not None else out / name for name in names}
    if not resume:
        for folder in folders.values():  # before hours of work on those that come first
            check_folder(folder, overwrite=overwrite)
    results: dict[str, Any] = {}
    for name, spec in specs.items():
        if experiment is None and not json:
            console.say(f"{name}:")
        execute(
            spec,
            folders[name],
            overwrite=overwrite,
            # An interrupted run of all three leaves no folder of the experiments that it had not come to.
            resume=resume and (experiment is not None or (folders[name] / FILE).is_file()),
            json=json,
            tables=("claims",),
            show=partial(results.__setitem__, name),
        )
    if json:
        console.as_json(results if experiment is None else results[experiment])
