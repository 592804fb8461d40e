"""`ntklens transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o

Surrogates = Annotated[
    str,
    typer.Option(
        "--surrogates",
        help="Models that the attacked images are computed on, separated by commas: noise, linear, rbf, ntk:NETWORK "
        "(its kernel, never trained), entk:NETWORK (its tangent kernel with the weights after the @, or else with "
        "initial weights drawn from the seed) or net:NETWORK (trained). A "
        "NETWORK is fc3, model.py:build or model.py:build@weights.pt; append +mi, +di or +ti for variants of the attack.",
    ),
]
Victims = Annotated[
    str,
    typer.Option(
        "--victims",
        help="Attacked networks, such as fc2,model.py:build (trained here), model.py:build@weights.pt, victim.pt2 or "
        "machine.safetensors (as they are).",
    ),
]
Seeds = Annotated[
    int, typer.Option("--seeds", help="Number of victims that are trained for each network, one per seed.")
]


def transfer(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    outputs: o.Outputs = None,
    surrogates: Surrogates = "noise,linear,rbf,ntk:fc1,ntk:fc3,net:fc2,net:small-cnn",
    victims: Victims = "fc2,small-cnn",
    seeds: Seeds = 3,
    sample: o.Sample = 1000,
    width: o.Width = 64,
    epochs: o.Epochs = 5,
    kernel: o.KernelKind = "analytic",
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: o.Steps = 10,
    loss: o.Loss = "margin",
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/transfer"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Attack trained networks with images computed on surrogates.

    The report tells which surrogates, most of them never trained, fool which networks, and at what cost.

    Example: ntklens transfer --data fashion-mnist --data-dir ~/datasets --test 1000 --eps 16/255 --seeds 3
    """
    values: dict[str, Any] = {
        "kind": "transfer",
        "title": "Who is fooled by whose images",
        "seed": seed,
        "device": device,
        "data": o.data_part(data, data_dir, classes, train, test, size, grey, rgb, outputs),
        "kernel": o.kernel_part(w_std, b_std, ridge, kernel),
        "attack": {"eps": o.number(eps, "--eps"), "norm": norm, "steps": steps, "loss": loss, "curve": []},
        "transfer": {
            "surrogates": o.names(surrogates),
            "victims": o.names(victims),
            "seeds": seeds,
            "sample": sample,
            "width": width,
            "epochs": epochs,
        },
    }

    from ntklens.cli.experiment import execute
    from ntklens.study import Spec

    execute(
        Spec.parse(values),
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        tables=("transfer_means", "transfer_cost"),
    )
