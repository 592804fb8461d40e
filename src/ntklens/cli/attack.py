"""`ntklens attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

Loss = Annotated[
    str | None,
    typer.Option(
        "--loss",
        help="Loss that the attacks increase: cross-entropy, margin or dlr (default: margin with --surrogate, "
        "otherwise cross-entropy).",
    ),
]
Victim = Annotated[
    str | None,
    typer.Option(
        "--victim",
        help="Your network: model.py:factory, a .pt or .pt2 file, or a saved kernel machine (.safetensors). "
        "Without it, a kernel machine is fitted and attacked.",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="File with the weights of a victim from a factory: .safetensors, .pt, .pth, .ckpt (Lightning), .bin, or the "
        ".index.json of several.",
    ),
]
Surrogate = Annotated[
    str | None,
    typer.Option(
        "--surrogate",
        help="Compute the attacked images on this model instead of the victim: an architecture such as fc3 or conv2 "
        "(its kernel, never trained), net:small-cnn (a trained network), linear, rbf, or mine.py:factory.",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="Training time ηt of a kernel surrogate: search (the one whose images fool the victim most, the default), "
        "match (the one whose outputs are closest to the victim's), inf, or a number.",
    ),
]
Method = Annotated[str, typer.Option("--method", help="Attack on a victim: fgsm, pgd or square.")]
Queries = Annotated[int, typer.Option("--queries", help="Maximum number of model queries per image (square attack).")]
Momentum = Annotated[
    float,
    typer.Option("--momentum", help="Weight of the earlier gradients in PGD on a victim; 0 for none, 1 for MI-FGSM."),
]
Diversity = Annotated[
    float,
    typer.Option(
        "--diversity",
        help="Probability that an image is randomly shrunk and shifted before each gradient; 0 for never, 0.5 for DI.",
    ),
]
Translation = Annotated[
    int,
    typer.Option(
        "--translation", help="Side, in pixels, of the window that smooths the gradient; 0 for none, 5 for TI."
    ),
]
Checks = Annotated[
    bool,
    typer.Option("--checks/--no-checks", help="Check the victim for masked gradients and similar pitfalls."),
]
Seed = Annotated[
    int,
    typer.Option(
        "--seed",
        help="Seed of the noise, of --method square, of --diversity and of a net:... surrogate; a kernel surrogate and its "
        "sample, the first training images, are the same for every seed.",
    ),
]


def attack(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    arch: o.Architecture = "fc1",
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: o.Steps = 10,
    loss: Loss = None,
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
    seed: Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/attack"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Attack a kernel machine, or a network of yours.

    Without --victim, a kernel machine is fitted and its accuracy measured on clean images, under noise, under one-step
    attacks and under PGD. With --victim, your network is attacked. With --surrogate, the attack uses no gradient of your
    network and trains nothing (except a net:... surrogate): samples of the data are enough. The attacked images are written
    to arrays/victim.npz in the run's folder, with a contact sheet beside them.

    Example: ntklens attack --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 2000 --eps 8/255

    Example: ntklens attack --victim model.py:build --weights model.safetensors --surrogate fc3 --data my_images/
    """
    radius = o.number(eps, "--eps")
    if victim is None and (surrogate or weights):
        raise InputError("--surrogate and --weights need a --victim; give one, such as --victim model.py:build.")
    if surrogate is None and time is not None:
        raise InputError("--time needs a --surrogate; give one, such as --surrogate fc3, or leave --time out.")
    if victim is None and (method != "pgd" or momentum or diversity or translation):
        raise InputError("--method, --momentum, --diversity and --translation need a --victim; give one.")
    threat: dict[str, Any] = {
        "eps": radius,
        "norm": norm,
        "steps": steps,
        "loss": loss if loss is not None else "margin" if surrogate else "cross-entropy",
    }
    values: dict[str, Any] = {
        "kind": "attack",
        "seed": seed,
        "device": device,
        "data": o.data_part(data, data_dir, classes, train, test, size, grey, rgb),
        "kernel": o.kernel_part(w_std, b_std, ridge) | {"architecture": arch},
    }
    if victim is None:
        values |= {"title": "Attacks on a kernel machine", "attack": threat | {"curve": [0.0, radius]}}
        tables: tuple[str, ...] = ("attack_curve",)
    else:
        values |= {
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
        tables = ("victim", "victim_checks")

    from ntklens.cli import console
    from ntklens.cli.experiment import execute
    from ntklens.report import write_sheet
    from ntklens.study import Spec

    in_json = () if victim is None else ("victim_meta",)
    record = execute(
        Spec.parse(values), out, overwrite=overwrite, resume=resume, json=json, tables=tables, only_in_json=in_json
    )
    if victim is None:
        return
    sheet = write_sheet(record, record.folder / "adversarial.png")
    if not json:
        images = record.folder / "arrays" / "victim.npz"
        console.say(f"images: {images}" + (f", {sheet}" if sheet else ""))
