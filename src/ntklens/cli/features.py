"""`ntklens features`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import console
from ntklens.cli import options as o
from ntklens.cli.experiment import execute
from ntklens.errors import InputError
from ntklens.report import write_animation
from ntklens.study import Spec, export_robust_data

Scored = Annotated[int | None, typer.Option("--scored", help="Score the first so many features; all by default.")]
FeatureSteps = Annotated[int, typer.Option("--steps", help="Of the attack on each feature: 1, or more for PGD.")]
Compare = Annotated[str, typer.Option("--compare", help="Other architectures, as in fc3,fc10,conv2; empty for none.")]
CompareTrain = Annotated[int | None, typer.Option("--compare-train", help="Training images of that comparison.")]
Learning = Annotated[int, typer.Option("--learning-steps", help="Watch a finite network learn the features; 0: no.")]
Networks = Annotated[str, typer.Option("--robust-networks", help="Train these on data with robust features only.")]
Ranks = Annotated[str | None, typer.Option("--ranks", help="Numbers of features of that data; 5,20 by default.")]
Export = Annotated[
    Path | None, typer.Option("--export", help="Write the last of that data, its projected images, as .npz for --data.")
]
Pictured = Annotated[
    str | None,
    typer.Option("--pictured", help="Indices of the features that are shown, as in 0,1,5; seven by default."),
]
Frames = Annotated[int, typer.Option("--frames", help="Of an animation over the index, features.gif.")]


def features(
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
    steps: FeatureSteps = 1,
    scored: Scored = None,
    compare: Compare = "fc3,fc10",
    compare_train: CompareTrain = None,
    learning_steps: Learning = 0,
    robust_networks: Networks = "",
    ranks: Ranks = None,
    export: Export = None,
    pictured: Pictured = None,
    frames: Frames = 0,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/features"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Which features of your data are useful, robust, both or neither, by the eigenvectors of a kernel matrix.

    Example: ntklens features --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 1000 --test 500 --steps 10

    Example: ntklens features --classes 2,4 --robust-networks small-cnn --ranks 20 --export robust.npz
    """
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
    if ranks is not None and not o.names(robust_networks):
        raise InputError(
            "--ranks are those of the data that --robust-networks are trained on; give some, such as small-cnn."
        )
    if export is not None:
        _check_export(export, robust_networks, overwrite=overwrite)
    asked: dict[str, Any] = {
        "steps": steps,
        "scored": scored,
        "compare": o.names(compare),
        "compare_train": compare_train,
        "learning_steps": learning_steps,
        "robust_networks": o.names(robust_networks),
        "frames": frames,
    }
    for option, field, text, least in (("--ranks", "robust_ranks", ranks, 1), ("--pictured", "pictured", pictured, 0)):
        if text is not None:
            asked[field] = _numbers(option, text, least)
    values |= {
        "kind": "features",
        "title": "Useful and robust features",
        "attack": {"eps": o.number(eps, "--eps"), "norm": norm, "curve": []},
        "features": asked,
    }
    spec = Spec.parse(values)
    record = execute(
        spec,
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        tables=("picture_rows", "subsets", "top_k", "robust_data"),
    )
    animation = write_animation(record, record.folder / "features.gif")
    written = None if export is None else export_robust_data(spec, record, export)
    if not json:
        for path in (animation, written):
            if path is not None:
                console.say(f"written: {path}")


def _numbers(option: str, text: str, least: int) -> list[int]:
    parts = o.names(text)
    if not parts or not all(part.isdecimal() and int(part) >= least for part in parts):
        raise InputError(f'{option} takes whole numbers from {least}, as in 5,20; "{text}" came.')
    return [int(part) for part in parts]


def _check_export(path: Path, networks: str, *, overwrite: bool) -> None:
    """Refuse before the run what could not be written after it."""
    target = path.with_suffix(".npz")
    if not networks:
        raise InputError("--export writes what --robust-networks are trained on; give some, such as small-cnn.")
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists; choose another --export, or pass --overwrite to replace it.")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise InputError(f"{target} cannot be written: {target.parent} is not a folder that takes files.")
