"""`ntklens features`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.cli.folders import check_export
from ntklens.errors import InputError

Steps = Annotated[
    int | None,
    typer.Option(
        "--steps",
        help="Number of steps of the attacks; more than 1 is PGD (default: 1 on features, 10 on networks).",
    ),
]
Scored = Annotated[
    int | None,
    typer.Option("--scored", help="Score only this many features, those of largest eigenvalue (default: all)."),
]
Compare = Annotated[
    str | None,
    typer.Option(
        "--compare",
        help="Other networks whose features are compared, such as fc3,conv2,model.py:build@weights.pt (default: fc3,fc10, "
        "and none for --kernel empirical; empty: none).",
    ),
]
CompareTrain = Annotated[
    int | None,
    typer.Option("--compare-train", help="Number of training images used when comparing networks (default: all)."),
]
LearningSteps = Annotated[
    int,
    typer.Option(
        "--learning-steps",
        help="Steps of gradient descent for which a finite network is watched as it learns the features (0: off).",
    ),
]
RobustNetworks = Annotated[
    str,
    typer.Option(
        "--robust-networks",
        help="Networks to train on data sets that keep only the robust features, such as small-cnn or model.py:build "
        "(empty: none).",
    ),
]
RobustRanks = Annotated[
    str | None,
    typer.Option("--robust-ranks", help="How many leading features the robust data sets keep (default: 5,20)."),
]
Export = Annotated[
    Path | None,
    typer.Option("--export", help="Save the last robust data set to this .npz file, usable with --data."),
]
Pictured = Annotated[
    str | None,
    typer.Option(
        "--pictured", help="Indices of the features to picture, from 0, such as 0,1,5 (default: 0,1,2,5,10,50,200)."
    ),
]
Certified = Annotated[
    int,
    typer.Option(
        "--certified",
        help="Number of test images on which machines and features are proved robust, beside an attack (0: none).",
    ),
]
Frames = Annotated[
    int,
    typer.Option("--frames", help="Number of frames of features.gif, an animation over the feature index (0: none)."),
]


def features(
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: o.Train = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    arch: o.Architecture = "fc1",
    weights: o.Weights = None,
    kernel: o.KernelKind = "analytic",
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    eps: o.Eps = "8/255",
    norm: o.Norm = "linf",
    steps: Steps = None,
    scored: Scored = None,
    compare: Compare = None,
    compare_train: CompareTrain = None,
    learning_steps: LearningSteps = 0,
    robust_networks: RobustNetworks = "",
    robust_ranks: RobustRanks = None,
    export: Export = None,
    pictured: Pictured = None,
    frames: Frames = 0,
    certified: Certified = 0,
    seed: o.Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/features"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Find which features of your data are useful, robust, or both.

    The features are the eigenvectors of a kernel matrix. Each is scored by the accuracy of the kernel machine that keeps it
    alone, on clean images (usefulness) and on images that are attacked against it (robustness).

    Example: ntklens features --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 1000 --test 500 --steps 10

    Example: ntklens features --classes 2,4 --robust-networks small-cnn --robust-ranks 20 --export robust.npz
    """
    networks = o.names(robust_networks)
    if robust_ranks is not None and not networks:
        raise InputError("--robust-ranks needs --robust-networks; give some, such as small-cnn.")
    if export is not None:
        _check_export(export, networks, overwrite=overwrite)
    values: dict[str, Any] = {
        "kind": "features",
        "title": "Useful and robust features",
        "seed": seed,
        "device": device,
        "data": o.data_part(data, data_dir, classes, train, test, size, grey, rgb),
        "kernel": o.kernel_part(w_std, b_std, ridge, kernel) | {"architecture": arch, "weights": weights},
        "attack": {"eps": o.number(eps, "--eps"), "norm": norm, "curve": []},
        "features": {
            "scored": scored,
            "compare": o.names(("" if kernel == "empirical" else "fc3,fc10") if compare is None else compare),
            "compare_train": compare_train,
            "learning_steps": learning_steps,
            "robust_networks": networks,
            "frames": frames,
            "certified": certified,
        },
    }
    if steps is not None:
        values["attack"]["steps"] = values["features"]["steps"] = steps
    if robust_ranks is not None:
        values["features"]["robust_ranks"] = o.whole_numbers(robust_ranks, "--robust-ranks", least=1)
    if pictured is not None:
        values["features"]["pictured"] = o.whole_numbers(pictured, "--pictured")

    from ntklens.cli import console
    from ntklens.cli.experiment import execute
    from ntklens.report import write_animation
    from ntklens.study import Spec, export_robust_data

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
    exported = None if export is None else export_robust_data(spec, record, export)
    if not json:
        for path in (animation, exported):
            if path is not None:
                console.say(f"written: {path}")


def _check_export(path: Path, networks: list[str], *, overwrite: bool) -> None:
    """Raise InputError if the export would fail; called before the run, so that no work is lost."""
    if not networks:
        raise InputError(
            "--export needs --robust-networks, whose training data it saves; give some, such as small-cnn."
        )
    check_export(path, overwrite=overwrite)
