"""`ntklens transfer`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.study import Spec

Surrogates = Annotated[
    str, typer.Option("--surrogates", help="noise, linear, rbf, ntk:ARCH (untrained), net:ARCH (trained); +mi +di +ti.")
]
Victims = Annotated[str, typer.Option("--victims", help="Architectures of the attacked networks, as in fc2,small-cnn.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Victims of each architecture.")]
Width = Annotated[int, typer.Option("--width", help="Hidden units or channels of trained networks.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Of every training.")]


def transfer(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    surrogates: Surrogates = "noise,linear,rbf,ntk:fc1,ntk:fc3,net:fc2,net:small-cnn",
    victims: Victims = "fc2,small-cnn",
    seeds: Seeds = 3,
    sample: o.Sample = 1000,
    width: Width = 64,
    epochs: Epochs = 5,
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
    """Attack trained networks with images made on surrogates, most of them never trained: who is fooled by whom.

    Example: ntklens transfer --data fashion-mnist --data-dir ~/datasets --test 1000 --eps 16/255 --seeds 3
    """
    values = o.common(
        data=data,
        data_dir=data_dir,
        classes=classes,
        train=train,
        test=test,
        architecture="fc1",
        w_std=w_std,
        b_std=b_std,
        ridge=ridge,
        seed=seed,
        device=device,
    )
    values |= {
        "kind": "transfer",
        "title": "Who is fooled by whose images",
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
    execute(
        Spec.parse(values),
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        tables=("transfer_means", "transfer_cost"),
    )
