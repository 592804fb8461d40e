"""`ntklens dynamics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.errors import InputError
from ntklens.study import Spec

Trainings = Annotated[str, typer.Option("--trainings", help="Of standard, FGSM and PGD, as in standard,PGD.")]
Network = Annotated[str, typer.Option("--network", help="Architecture of the network: small-cnn, fc2, conv2, ...")]
Width = Annotated[int, typer.Option("--width", help="Its hidden units or channels.")]
Epochs = Annotated[int, typer.Option("--epochs", help="Of every training.")]
Rate = Annotated[float, typer.Option("--learning-rate", help="Of SGD with momentum 0.9.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Initialisations, each trained in every way.")]
Probe = Annotated[int | None, typer.Option("--probe", help="Test images that the kernel is measured on; up to 100.")]
Threshold = Annotated[float, typer.Option("--lazy", help="Kernel distance an epoch below which it stands still.")]
Linear = Annotated[str, typer.Option("--linear-from", help="Epochs from which expansions are trained on, as in 2,10.")]
LinearEpochs = Annotated[int, typer.Option("--linear-epochs", help="Of these trainings.")]
Machine = Annotated[int, typer.Option("--machine", help="Images of kernel machines on the networks' kernels; 0: none.")]
Watch = Annotated[Path | None, typer.Option("--watch", help="Measure the checkpoints in this folder instead.")]
Model = Annotated[str | None, typer.Option("--model", help="Their network: file.py:factory.")]
Patience = Annotated[float, typer.Option("--patience", help="Seconds to wait for further checkpoints.")]


def dynamics(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    trainings: Trainings = "standard,PGD",
    network: Network = "small-cnn",
    width: Width = 32,
    epochs: Epochs = 30,
    learning_rate: Rate = 0.02,
    seeds: Seeds = 1,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: o.Steps = 7,
    probe: Probe = None,
    lazy: Threshold = 0.01,
    linear_from: Linear = "",
    linear_epochs: LinearEpochs = 10,
    machine: Machine = 0,
    watch: Watch = None,
    model: Model = None,
    patience: Patience = 0.0,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/dynamics"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """How the tangent kernel of a network moves while it is trained, and when it stops.

    Example: ntklens dynamics --data fashion-mnist --data-dir ~/datasets --train 10000 --trainings standard,FGSM,PGD

    Example: ntklens dynamics --watch checkpoints/ --model model.py:build --data fashion-mnist-mini --patience 600
    """
    if (watch is None) != (model is None):
        raise InputError("--watch takes the folder of the checkpoints and --model their network; give both or neither.")
    if not all(part.isdecimal() for part in o.names(linear_from)):
        raise InputError(f'--linear-from takes whole numbers, as in 2,10; "{linear_from}" came.')
    values: dict[str, Any] = {
        "kind": "dynamics",
        "title": "How training moves the tangent kernel",
        "seed": seed,
        "device": device,
        "data": {
            "name": data,
            "data_dir": data_dir,
            "classes": o.class_list(classes),
            "train": train,
            "test": test,
        },
        "attack": {"eps": o.number(eps, "--eps"), "norm": norm, "curve": []},
        "dynamics": {
            "trainings": o.names(trainings),
            "architecture": network,
            "width": width,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "seeds": seeds,
            "attack_steps": steps,
            "lazy_threshold": lazy,
            "linear_from": [int(part) for part in o.names(linear_from)],
            "linear_epochs": linear_epochs,
            "machine": machine,
            "watch": watch,
            "model": model,
            "patience": patience,
        }
        | ({} if probe is None else {"probe": probe}),
    }
    execute(
        Spec.parse(values),
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        tables=("lazy_epochs", "continued", "kernel_machines", "advice"),
    )
