"""`ntklens audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.errors import InputError

KINDS = ("shortcut", "backdoor", "unlearnable")
Kind = Annotated[
    str,
    typer.Argument(
        help="Audit: shortcut (does the machine rely on a patch, and through which features?), backdoor (how many bad "
        "training images plant a trigger?) or unlearnable (what is lost if every training image is perturbed?).",
        show_default=False,
    ),
]
Network = Annotated[
    str,
    typer.Argument(
        metavar="[NETWORK]",
        help="Network whose kernel is taken: a name such as fc1 (the default), fc3 or conv2, or your own as "
        "file.py:factory.",
    ),
]
Train = Annotated[
    int | None,
    typer.Option(
        "--train",
        help="Train on this many images, the first ones (default: 1,000, or two thirds of what is there).",
    ),
]
HeldOut = Annotated[
    int | None,
    typer.Option(
        "--held-out",
        help="Hold out this many images, those after the training images: they guide the audit, and no figure is of them "
        "(default: up to 1,000).",
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        "--top",
        help="Keep this many leading features, those of largest eigenvalue (default: all); in the unlearnable audit score "
        "the machine that keeps them, too.",
    ),
]
PatchSize = Annotated[int | None, typer.Option("--patch", help="Side of the square patch, in pixels (default: 4).")]
Brightness = Annotated[
    float | None, typer.Option("--brightness", help="Brightness of the patch, from 0 to 1 (default: 1, white).")
]
Corner = Annotated[
    str | None,
    typer.Option(
        "--corner",
        help="Corner of the patch: top-left, top-right, bottom-left or bottom-right (default: bottom-right).",
    ),
]
Target = Annotated[
    str | None,
    typer.Option("--target", help="Class that the patch stands for, by name or index (default: the last one)."),
]
Planted = Annotated[
    float | None,
    typer.Option(
        "--planted",
        help="Plant the patch in the training images, in memory: in this share of them it says the class, in the others "
        "the opposite (default: none is planted, and the audit is of your images as they are).",
    ),
]
Bad = Annotated[int | None, typer.Option("--bad", help="Add up to this many bad training images (default: 3).")]
Eps = Annotated[
    str | None,
    typer.Option(
        "--eps",
        help="Largest change of a pixel of the training images, in [0, 1], such as 8/255 (the default) or 0.03.",
    ),
]
Steps = Annotated[int | None, typer.Option("--steps", help="Number of steps of the perturbation (default: 8).")]
Networks = Annotated[
    str,
    typer.Option(
        "--networks",
        help="Train these finite networks on the same images, too, separated by commas, such as fc1,small-cnn.",
    ),
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="Number of trainings of each of --networks, one per seed (default: 3).")
]
Width = Annotated[
    int | None,
    typer.Option(
        "--width",
        help="Hidden units, or channels, in each layer of --networks (default: 512 in dense ones, 64 in others).",
    ),
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs of each training of --networks (default: 60).")]
Export = Annotated[
    Path | None,
    typer.Option(
        "--export",
        help="Write the perturbed training images to this .npz file, which --data can read; without this option no "
        "image is written.",
    ),
]


def audit(
    kind: Kind,
    network: Network = "fc1",
    data: o.Data = "fashion-mnist-mini",
    data_dir: o.DataDir = None,
    classes: o.Classes = None,
    train: Train = None,
    held_out: HeldOut = None,
    test: o.Test = None,
    size: o.Size = None,
    grey: o.Grey = False,
    rgb: o.Rgb = False,
    w_std: o.WStd = 2**0.5,
    b_std: o.BStd = 0.1,
    ridge: o.Ridge = 0.0,
    time: o.FlowTime = None,
    top: Top = None,
    patch: PatchSize = None,
    brightness: Brightness = None,
    corner: Corner = None,
    target: Target = None,
    planted: Planted = None,
    bad: Bad = None,
    eps: Eps = None,
    steps: Steps = None,
    networks: Networks = "",
    seeds: Seeds = None,
    width: Width = None,
    epochs: Epochs = None,
    export: Export = None,
    seed: o.Seed = 0,
    out: o.Out = Path("runs/audit"),
    overwrite: o.Overwrite = False,
    json: o.Json = False,
) -> None:
    """Measure what shortcuts, backdoors and perturbed images in your own training data do to a model that is trained on it.

    Each audit makes a copy of your data worse in memory, and says how much worse a kernel machine becomes, and finite
    networks if you name some. It is for your own data: it tells what a model could be made to do by data that you have
    gathered. Figures are of test images, which guide nothing. They go to audit.json in the run's folder, and the rows to
    audit.csv and networks.csv.

    Example: ntklens audit shortcut --classes 0,6 --planted 0.95 --brightness 0.5

    Example: ntklens audit backdoor fc1 --classes 0,6 --train 500 --bad 10 --networks fc1,small-cnn

    Example: ntklens audit unlearnable --data fashion-mnist --data-dir ~/datasets --eps 16/255 --top 30
    """
    if kind not in KINDS:
        raise InputError(f'expected the kind of audit as one of {", ".join(KINDS)}; got "{kind}".')
    _check_options(
        kind,
        {
            ("shortcut", "backdoor"): {
                "--patch": patch,
                "--brightness": brightness,
                "--corner": corner,
                "--target": target,
            },
            ("shortcut",): {"--planted": planted},
            ("backdoor",): {"--bad": bad},
            ("unlearnable",): {"--eps": eps, "--steps": steps, "--export": export},
        },
    )
    trained = tuple(o.names(networks))
    alone = [
        name for name, value in (("--seeds", seeds), ("--width", width), ("--epochs", epochs)) if value is not None
    ]
    if alone and not trained:
        raise InputError(f"{alone[0]} needs --networks; give some, such as fc1,small-cnn.")
    if Path(network).suffix == ".safetensors":
        raise InputError("an audit fits machines of its own, so that a saved machine cannot be its network; give fc1.")
    chosen = [name for name, value in (("--ridge", ridge or None), ("--time", time)) if value is not None]
    chosen += ["--top"] if top is not None and kind != "unlearnable" else []
    if len(chosen) > 1:
        raise InputError(f"{chosen[0]} and {chosen[1]} exclude each other; give one of them.")
    for name, value in (
        ("--held-out", held_out),
        ("--top", top),
        ("--patch", patch),
        ("--bad", bad),
        ("--steps", steps),
        ("--seeds", seeds),
        ("--width", width),
        ("--epochs", epochs),
    ):
        _check_count(name, value)
    if planted is not None and not 0 <= planted <= 1:
        raise InputError(f"--planted: expected a share from 0 to 1; got {planted}.")
    radius = o.number("8/255" if eps is None else eps, "--eps")
    data_part = o.data_part(data, data_dir, classes, train, test, size, grey, rgb)

    from ntklens.cli.auditing import Settings, run_audit
    from ntklens.cli.folders import check_export
    from ntklens.study import Spec

    if export is not None:
        check_export(export, overwrite=overwrite)
    kernel_part = o.kernel_part(w_std, b_std, ridge) | {"architecture": network}
    attack_part: dict[str, Any] = {"eps": radius, "norm": "linf", "curve": []}
    spec = Spec.parse({"kind": "audit", "seed": seed, "data": data_part, "kernel": kernel_part, "attack": attack_part})
    run_audit(
        Settings(
            spec,
            time,
            {
                "kind": kind,
                "train": train,
                "held_out": held_out,
                "top": top,
                "target": target,
                "planted": planted,
                "networks": trained,
                "width": width,
                **_given(bad=bad, steps=steps, seeds=seeds, epochs=epochs),
            },
            _given(size=patch, brightness=brightness, corner=corner),
            export,
            out,
            overwrite=overwrite,
            json=json,
        )
    )


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _check_count(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise InputError(f"{name}: expected a whole number of 1 or more; got {value}.")


def _check_options(kind: str, options: dict[tuple[str, ...], dict[str, Any]]) -> None:
    """Raise InputError for an option that belongs to another audit."""
    for kinds, values in options.items():
        for name, value in values.items():
            if value is not None and kind not in kinds:
                raise InputError(
                    f"{name} is an option of the {' and '.join(kinds)} audit, not of {kind}; leave it out."
                )
