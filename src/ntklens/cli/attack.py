"""`ntklens attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ntklens.cli import options as o
from ntklens.cli.junit import Case, check_place, write_junit
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
Arch = Annotated[
    str | None,
    typer.Option(
        "--arch",
        help="Network whose kernel machine is attacked: a name such as fc1 (the default), fc3 or conv2; your own as "
        "file.py:factory; or a saved kernel machine (.safetensors).",
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(
        "--weights",
        help="File with the weights of a --victim file.py:factory, or of --arch without a victim: .safetensors, .pt, .pth, "
        ".ckpt (Lightning), .bin, or the .index.json of several.",
    ),
]
Surrogate = Annotated[
    str | None,
    typer.Option(
        "--surrogate",
        help="What the attacked images are made on, separated by commas, one attack each: fc3, conv2 or mine.py:factory "
        "(the kernel of a network, never trained), entk:mine.py:factory@weights.pt (its tangent kernel with these "
        "weights), net:small-cnn (a trained network), linear, rbf, square (the victim's outputs alone, --queries of them) "
        "or white-box (the victim's own gradients, the default).",
    ),
]
Time = Annotated[
    str | None,
    typer.Option(
        "--time",
        help="Training time ηt of a kernel surrogate: search (the one whose images fool the victim most, the default), "
        "cross-entropy (the same among machines that are trained on the cross-entropy: slower), match (the one whose "
        "outputs are closest to the victim's), inf, or a number.",
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
FailUnder = Annotated[
    str | None,
    typer.Option(
        "--fail-under",
        help="End with exit code 1 if the lowest robust accuracy that is measured is below this, such as 0.5. The estimate "
        "decides, not its interval.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="End with exit code 1 if a check of the victim or of a surrogate fails.")
]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", help="Write the checks and the gate to this file as tests, in the XML format of JUnit."),
]
Png = Annotated[
    bool | None,
    typer.Option(
        "--png/--no-png",
        help="Write the images of the strongest attack to adversarial/ in the run's folder as PNG, rounded to 8 bits, "
        "under the names of the files that they were made from (default: where the data set is a folder of files).",
    ),
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
    outputs: o.Outputs = None,
    arch: Arch = None,
    kernel: o.KernelKind = "analytic",
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
    fail_under: FailUnder = None,
    strict: Strict = False,
    junit: Junit = None,
    png: Png = None,
    seed: Seed = 0,
    device: o.Device = "cpu",
    out: o.Out = Path("runs/attack"),
    overwrite: o.Overwrite = False,
    resume: o.Resume = False,
    json: o.Json = False,
) -> None:
    """Attack a kernel machine, or a network of yours.

    Without --victim, a kernel machine is fitted and its accuracy measured on clean images, under noise, under one-step
    attacks and under PGD. With --victim, your network is attacked. A --surrogate such as fc3 uses no gradient of your
    network and trains nothing (except a net:... surrogate): samples of the data are enough. Several of them stand side by
    side in one table, and the lowest accuracy is an upper bound on the robust accuracy. The attacked images are written
    to arrays/victim.npz in the run's folder, with a contact sheet beside them.

    Exit codes: 0 where all went well, 1 where --fail-under or --strict is not met, 2 for wrong input, 130 after Ctrl-C.

    Example: ntklens attack --data fashion-mnist --data-dir ~/datasets --classes 0,6 --train 2000 --eps 8/255

    Example: ntklens attack --victim model.py:build --weights model.safetensors --surrogate fc3 --data my_images/

    Example: ntklens attack --victim model.pt --surrogate fc3,conv2,net:small-cnn,square,white-box --data my_images/
    """
    radius = o.number(eps, "--eps")
    least = None if fail_under is None else o.number(fail_under, "--fail-under")
    if least is not None and not 0 <= least <= 1:
        raise InputError(f"--fail-under: expected a share from 0 to 1, such as 0.5; got {fail_under}.")
    if strict and (victim is None or not checks):
        raise InputError("--strict judges the checks of a --victim; give one, and leave out --no-checks.")
    if victim is None and png is not None:
        raise InputError("--png and --no-png need a --victim; give one.")
    if junit is not None:
        check_place(junit)
    sources = o.names(surrogate) if surrogate is not None else ["white-box"]
    is_outside = any(source not in ("white-box", "square") for source in sources)
    if victim is None and surrogate:
        raise InputError("--surrogate needs a --victim; give one, such as --victim model.py:build.")
    if victim is not None and arch is not None and not victim.endswith(".safetensors"):
        raise InputError(
            "--arch names the kernel machine that is attacked without a --victim; leave one of the two out."
        )
    if not is_outside and time is not None:
        raise InputError("--time needs a --surrogate; give one, such as --surrogate fc3, or leave --time out.")
    if victim is None and (method != "pgd" or momentum or diversity or translation):
        raise InputError("--method, --momentum, --diversity and --translation need a --victim; give one.")
    threat: dict[str, Any] = {
        "eps": radius,
        "norm": norm,
        "steps": steps,
        "loss": loss if loss is not None else "margin" if is_outside else "cross-entropy",
    }
    values: dict[str, Any] = {
        "kind": "attack",
        "seed": seed,
        "device": device,
        "data": o.data_part(data, data_dir, classes, train, test, size, grey, rgb, outputs),
        "kernel": o.kernel_part(w_std, b_std, ridge, kernel)
        | ({} if arch is None else {"architecture": arch})
        | {"weights": weights if victim is None else None},
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
                "surrogates": sources,
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
    from ntklens.cli.attack_result import attacks_of, gate_of
    from ntklens.cli.experiment import execute
    from ntklens.report import write_images, write_sheet
    from ntklens.study import Spec

    record = execute(
        Spec.parse(values),
        out,
        overwrite=overwrite,
        resume=resume,
        json=json,
        tables=tables,
        only_in_json=() if victim is None else ("victim_effect", "victim_sources", "victim_meta", "victim_notes"),
        further=lambda record: {"attacks": (rows := attacks_of(record)), "gate": gate_of(rows, least).values()},
    )
    said = console.say if not json else console.note
    if victim is not None:
        sheet = write_sheet(record, record.folder / "adversarial.png")
        images = record.folder / "arrays" / "victim.npz"
        said(f"images: {images}" + (f", {sheet}" if sheet else ""))
        if png or (png is None and record.table("victim_meta")[0]["files"]):
            said(f"images of 8 bits: {write_images(record, record.folder / 'adversarial')}")
    gate = gate_of(attacks_of(record), least)
    checked = record.table("victim_checks")
    cases = [Case(str(row["of"]), str(row["check"]), bool(row["passed"]), str(row["seen"])) for row in checked]
    if least is not None:
        cases.append(Case("gate", "robust accuracy", bool(gate.passed), gate.sentence))
    if junit is not None:
        write_junit(junit, "ntklens attack", cases)
    failed = [f"{case.name} of the {case.of}" for case in cases if not case.passed and case.of != "gate"]
    if least is not None:
        said(gate.sentence)
    if strict and failed:
        said(f"--strict: failed checks: {', '.join(failed)}.")
    if gate.passed is False or (strict and failed):
        raise typer.Exit(1)
