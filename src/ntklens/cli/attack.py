"""`ntklens attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import console
from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.errors import InputError
from ntklens.report import write_sheet
from ntklens.study import Spec

Victim = Annotated[
    str | None, typer.Option("--victim", help="Your network: model.py:factory, a .pt or .pt2 file; or a saved machine.")
]
Weights = Annotated[Path | None, typer.Option("--weights", help="Safetensors of the victim's state, for a factory.")]
Surrogate = Annotated[
    str | None,
    typer.Option("--surrogate", help="Make the images elsewhere: fc3, conv2, mine.py:factory, net:small-cnn, linear."),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="Training time ηt of a kernel surrogate: search (by effect), match (by outputs), inf, or a number.",
    ),
]
Method = Annotated[str, typer.Option("--method", help="On a victim: fgsm, pgd or square.")]
Queries = Annotated[int, typer.Option("--queries", help="Of Square, an image.")]
Momentum = Annotated[float, typer.Option("--momentum", help="Of PGD on a victim or its surrogate; 1 for MI.")]
Diversity = Annotated[float, typer.Option("--diversity", help="Probability of diverse inputs; 0.5 for DI.")]
OwnLoss = Annotated[
    str | None,
    typer.Option("--loss", help="cross-entropy, margin or dlr; margin by default on a surrogate, else cross-entropy."),
]
Checks = Annotated[bool, typer.Option("--checks/--no-checks", help="Whether the attacked model can be trusted.")]
Translation = Annotated[int, typer.Option("--translation", help="Window that smooths the gradient; 5 for TI.")]


def attack(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    arch: o.Architecture = "fc1",
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: o.Steps = 10,
    loss: OwnLoss = None,
    victim: Victim = None,
    weights: Weights = None,
    surrogate: Surrogate = None,
    sample: o.Sample = 1000,
    time: Time = None,
    method: Method = "pgd",
    queries: Queries = 1000,
    momentum: Momentum = 0.0,
    diversity: Diversity = 0.0,
    translation: Translation = 0,
    checks: Checks = True,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/attack"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Attack a kernel machine, or a network of yours, from inside or with images made on a surrogate.

    Without --victim a kernel machine is fitted and attacked: accuracy, clean and under noise, one step and PGD. With
    --victim your network is; with --surrogate its inside is not looked at, and nothing is trained: samples of the data are
    enough. The attacked images are in arrays/victim.npz of the run, with a contact sheet beside it.

    Example: ntklens attack --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 2000 --eps 8/255

    Example: ntklens attack --victim model.py:build --weights model.safetensors --surrogate fc3 --data my_images/
    """
    radius = o.number(eps, "--eps")
    if victim is None and (surrogate or weights):
        raise InputError("--surrogate and --weights belong to a --victim; give one, as in --victim model.py:build.")
    if surrogate is None and time is not None:
        raise InputError("--time is that of a --surrogate; give one, such as --surrogate fc3, or leave --time out.")
    if victim is None and (method != "pgd" or momentum or diversity or translation):
        raise InputError("--method, --momentum, --diversity and --translation are those of an attack on a --victim.")
    values = o.common(
        data=data,
        data_dir=data_dir,
        classes=classes,
        train=train,
        test=test,
        architecture=arch,
        w_std=w_std,
        b_std=b_std,
        ridge=ridge,
        seed=seed,
        device=device,
    )
    threat: dict[str, Any] = {"eps": radius, "norm": norm, "steps": steps}
    threat["loss"] = loss or ("margin" if surrogate else "cross-entropy")
    run: dict[str, bool] = {"overwrite": overwrite, "resume": resume, "json": json}
    if victim is None:
        values |= {
            "kind": "attack",
            "title": "Attacks on a kernel machine",
            "attack": threat | {"curve": [0.0, radius]},
        }
        execute(Spec.parse(values), out, **run, tables=("attack_curve",))
        return
    values |= {
        "kind": "attack",
        "title": "An attack on a network",
        "attack": threat | {"curve": []},
        "victim": {
            "path": victim,
            "weights": weights,
            "surrogate": surrogate,
            "sample": sample,
            "time": time or "search",
            "method": method,
            "queries": queries,
            "momentum": momentum,
            "diversity": diversity,
            "translation": translation,
            "checks": checks,
        },
    }
    record = execute(Spec.parse(values), out, **run, tables=("victim", "victim_checks"))
    sheet = write_sheet(record, record.folder / "adversarial.png")
    if not json:
        console.say(f"images: {record.folder / 'arrays' / 'victim.npz'}" + (f", {sheet}" if sheet else ""))
