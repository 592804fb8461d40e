"""`ntklens attack`."""

from __future__ import annotations

from pathlib import Path

from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.study import Spec


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
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/attack"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Fit a kernel machine and attack it: accuracy, clean and under noise, one step and PGD, with 95 % intervals.

    Example: ntklens attack --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 2000 --eps 8/255
    """
    radius = o.number(eps, "--eps")
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
    values |= {
        "kind": "attack",
        "title": "Attacks on a kernel machine",
        "attack": {"eps": radius, "norm": norm, "steps": steps, "curve": [0.0, radius]},
    }
    execute(Spec.parse(values), out, overwrite=overwrite, resume=resume, json=json, tables=("attack_curve",))
