"""`ntklens dynamics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

Trainings = Annotated[
    str, typer.Option("--trainings", help="Trainings to compare, separated by commas: standard, FGSM, PGD.")
]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Learning rate of SGD in batches of 100.")]
Seeds = Annotated[int, typer.Option("--seeds", help="Number of seeds; every training runs once per seed.")]
Probe = Annotated[
    int | None,
    typer.Option("--probe", help="Number of test images on which the kernel is measured (default: up to 100)."),
]
LazyThreshold = Annotated[
    float,
    typer.Option(
        "--lazy-threshold",
        help="Velocity (kernel distance per epoch) below which the noise of the steps counts as small.",
    ),
]
LinearFrom = Annotated[
    str,
    typer.Option(
        "--linear-from",
        help="Epochs at which the network is replaced by its linearisation and trained on, such as 2,10 "
        "(default: none).",
    ),
]
LinearEpochs = Annotated[int, typer.Option("--linear-epochs", help="Epochs of each linearised training.")]
MachineTrain = Annotated[
    int,
    typer.Option(
        "--machine-train",
        help="Also fit kernel machines on the trained networks' NTKs, with this many training images (0: off).",
    ),
]
Watch = Annotated[
    Path | None,
    typer.Option("--watch", help="Measure the checkpoints in this folder instead of training networks."),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Network of the checkpoints in --watch, as model.py:factory; the same as --arch."),
]
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="Network that is trained: a name such as fc3 or small-cnn (the default), or your own as file.py:factory.",
    ),
]
Patience = Annotated[
    float, typer.Option("--patience", help="Seconds to wait for the next checkpoint in --watch before the run ends.")
]


def dynamics(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    outputs: o.Outputs = None,
    trainings: Trainings = "standard,PGD",
    arch: Arch = None,
    weights: o.Weights = None,
    width: o.Width = 32,
    epochs: o.Epochs = 40,
    learning_rate: LearningRate = 0.1,
    seeds: Seeds = 1,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: o.Steps = 5,
    probe: Probe = None,
    lazy_threshold: LazyThreshold = 0.01,
    linear_from: LinearFrom = "",
    linear_epochs: LinearEpochs = 10,
    machine_train: MachineTrain = 0,
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
    """Measure how training moves a network's tangent kernel.

    Small networks are trained on clean and on adversarial images, and the kernel is measured after every epoch. With
    --watch, nothing is trained: the checkpoints that a training of yours writes are measured as they appear, each scored
    on 500 of the test images; --test takes another number, which sets most of the time.

    Example: ntklens dynamics --data fashion-mnist --data-dir ~/datasets --train 10000 --trainings standard,FGSM,PGD

    Example: ntklens dynamics --watch checkpoints/ --model model.py:build --data fashion-mnist-mini --patience 600
    """
    if watch is not None and model is None:
        model, arch = arch, None
    if (watch is None) != (model is None):
        raise InputError(
            "--watch (the folder of the checkpoints) and --model (their network) need each other; give both or neither."
        )
    values: dict[str, Any] = {
        "kind": "dynamics",
        "title": "How training moves the tangent kernel",
        "seed": seed,
        "device": device,
        "data": o.data_part(data, data_dir, classes, train, test, size, grey, rgb, outputs),
        "attack": {"eps": o.number(eps, "--eps"), "norm": norm, "steps": steps, "curve": []},
        "dynamics": {
            "trainings": o.names(trainings),
            "architecture": "small-cnn" if arch is None else arch,
            "weights": weights,
            "width": width,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "seeds": seeds,
            "attack_steps": steps,
            "lazy_threshold": lazy_threshold,
            "linear_from": o.whole_numbers(linear_from, "--linear-from") if linear_from else [],
            "linear_epochs": linear_epochs,
            "machine_train": machine_train,
            "watch": watch,
            "model": model,
            "patience": patience,
        },
    }
    if watch is not None and test is not None:
        values["dynamics"]["watch_test"] = test
    if probe is not None:
        values["dynamics"]["probe"] = probe

    from ntklens.cli.experiment import execute
    from ntklens.study import Spec

    execute(
        Spec.parse(values),
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        # Where checkpoints are watched, the advice is among the sentences above the tables.
        tables=("settling", "continued", "kernel_machines", *(("advice",) if watch is None else ())),
        only_in_json=() if watch is None else ("advice",),
    )
