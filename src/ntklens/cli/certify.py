"""`ntklens certify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

Top = Annotated[
    int | None,
    typer.Option("--top", help="Keep this many leading features, those of largest eigenvalue (default: all)."),
]
Steps = Annotated[int, typer.Option("--steps", help="Number of steps of the attack (PGD) beside the proof.")]
Quick = Annotated[
    bool,
    typer.Option(
        "--quick", help="Take the first bound alone, milliseconds per image; the second one takes tenths of a second."
    ),
]
Radius = Annotated[
    bool,
    typer.Option(
        "--radius",
        help="Find for each image a radius up to which it is proved right, too; this takes seconds for each image, and "
        "with --quick a part of one.",
    ),
]


def certify(
    network: o.Network = "fc1",
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    time: o.FlowTime = None,
    top: Top = None,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: Steps = 40,
    quick: Quick = False,
    radius: Radius = False,
    seed: o.Seed = 0,
    out: o.Out = Path("runs/certify"),
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Prove on which test images no perturbation changes the prediction of a kernel machine, beside an attack.

    The robust accuracy lies between the certified one and the attacked one. Dense networks with ReLU, erf or GELU are
    covered, with or without biases; the proof is about the infinitely wide network, not about a finite one. A saved
    machine, of `ntklens fit`, is certified as it is. Thousands of images may take an hour: --test keeps fewer. The
    figures go to certificates.json in the run's folder, and those of each image to images.csv.

    Example: ntklens certify fc3 --classes 0,6 --top 10 --eps 8/255

    Example: ntklens certify runs/fit/machine.safetensors --data mnist --data-dir ~/datasets --test 200 --eps 0.1
    """
    chosen = [
        name for name, value in (("--ridge", ridge or None), ("--time", time), ("--top", top)) if value is not None
    ]
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} exclude each other; give one of them.")
    chosen += ["--train"] if train is not None and Path(network).suffix == ".safetensors" else []
    if Path(network).suffix == ".safetensors" and (chosen or (w_std, b_std) != (2**0.5, 0.1)):
        raise InputError(
            f"{', '.join(chosen) or '--w-std and --b-std'} cannot change a saved machine, which is certified as it is; "
            f"leave {'it' if len(chosen) == 1 else 'them'} out, or name a network."
        )
    radius_of = o.number(eps, "--eps")
    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)

    from ntklens.cli.certifying import Settings, run_certify
    from ntklens.study import Spec

    kernel_part = o.kernel_part(w_std, b_std, 0.0) | {"architecture": network}
    attack_part = {"eps": radius_of, "norm": norm, "steps": steps, "curve": []}
    spec = Spec.parse(
        {"kind": "certify", "seed": seed, "data": data_part, "kernel": kernel_part, "attack": attack_part}
    )
    run_certify(Settings(spec, ridge, time, top, out, quick=quick, radius=radius, overwrite=overwrite, json=json))
