"""Certify a kernel machine from the command line: progress, and what is written in the end."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntklens.cli import console
from ntklens.cli.fitting import RESULT as FIT
from ntklens.cli.folders import csv_text, folder_of, write_together
from ntklens.errors import InputError

if TYPE_CHECKING:
    from ntklens.certificates import Certificates
    from ntklens.machine import KernelMachine
    from ntklens.study import Spec
    from ntklens.study.context import Context

RESULT = "certificates.json"
"""Name of the file that makes a folder the folder of a finished run; it is written last."""
IMAGES = "images.csv"
_OURS = {IMAGES, f"{IMAGES}.part", f"{RESULT}.part"}


@dataclass(frozen=True)
class Settings:
    """What is certified, and where the result goes.

    Attributes:
        spec: the data, the kernel and the attack.
        ridge: of the machine.
        time: of gradient flow; None for infinite time.
        top: number of leading features; None for all.
        out: folder of the run.
        quick: take the first bound alone.
        radius: find radii, too.
        overwrite: replace an earlier run in that folder.
        json: print the result as JSON.
    """

    spec: Spec
    ridge: float
    time: float | None
    top: int | None
    out: Path
    quick: bool
    radius: bool
    overwrite: bool
    json: bool


def run_certify(settings: Settings) -> None:
    """Fit or load the machine, certify it on the test images, and write and print what was found.

    Raises:
        InputError: something does not fit, or the folder is taken.
        UnsupportedLayer: no bound is known for the network.
    """
    from ntklens.attacks import Threat
    from ntklens.certificates import certify
    from ntklens.study.context import Context

    context = Context(settings.spec)
    if len(context.data.classes) < 2:
        raise InputError(
            "expected data with images of two or more classes; got one class, which leaves nothing to predict."
        )
    x, y = context.test
    if not len(x):
        raise InputError("expected data with test images to certify; got none.")
    attack = context.threat
    threat = Threat(attack.eps, attack.norm, attack.steps)
    seconds: dict[str, float] = {}
    with folder_of(settings.out, RESULT, _OURS, "certification", overwrite=settings.overwrite):
        with console.progress(["machine", "certificates"]) as watch:
            start = time.perf_counter()
            watch("machine", 0.0)
            machine = _machine(context, settings)
            watch("machine", 1.0)
            seconds["machine"] = time.perf_counter() - start
            start = time.perf_counter()
            watch("certificates", 0.0)
            found = certify(
                machine,
                x,
                y,
                threat.eps,
                threat.norm,
                tiers="linear" if settings.quick else "both",
                attack=threat,
                radius=settings.radius,
                progress=partial(watch, "certificates"),
            )
            seconds["certificates"] = time.perf_counter() - start
        facts = _facts(context, settings, machine, found, seconds)
        texts = {
            IMAGES: csv_text(_image_rows(found, y.tolist(), machine.predict(x).tolist())),
            RESULT: json.dumps(facts, indent=1, ensure_ascii=False) + "\n",
        }
        write_together(settings.out, texts, RESULT, (IMAGES,))
    _tell(settings, found, facts)


def _machine(context: Context, settings: Settings) -> KernelMachine:
    """Return the machine that the settings describe, fitted or loaded."""
    from ntklens.features.eigenfeatures import eigenfeatures
    from ntklens.linalg import GradientFlow, Ridge
    from ntklens.machine import KernelMachine

    classes = len(context.data.classes)
    if context.network.kind == "machine":
        machine = KernelMachine.load(settings.spec.kernel.architecture)
        outputs = machine.targets.shape[1]
        if max(2, outputs) != classes:
            raise InputError(
                f"expected a machine of {classes} classes, as the data has; got one of {max(2, outputs)}. Give "
                "--classes that the machine was fitted on, or leave the option out."
            )
        machine.checked(context.test[0])
        _note_other_classes(Path(settings.spec.kernel.architecture), context.data.classes)
        return machine
    x, y = context.train
    # The kernel is refused before the work of a fit, if it cannot be certified.
    from ntklens.bounds import KernelBounds

    kernel = context.kernel()
    KernelBounds(kernel, x[:8])
    if settings.top is None:
        g = Ridge(settings.ridge) if settings.time is None else GradientFlow(settings.time)
        return KernelMachine(kernel, g).fit(x, y)
    machine = KernelMachine(kernel, GradientFlow(0.0)).fit(x, y)
    if not 1 <= settings.top <= len(x):
        raise InputError(f"--top: expected 1 to {len(x)} features, one per training image; got {settings.top}.")
    return eigenfeatures(machine, settings.top).keep(range(settings.top))


def _note_other_classes(path: Path, classes: Sequence[str]) -> None:
    """Say so where the machine's `fit.json` beside it names other classes than the data has."""
    try:
        fitted = json.loads(path.with_name(FIT).read_text(encoding="utf-8"))["classes"]
    except (OSError, ValueError, KeyError, TypeError):
        return
    if list(fitted) != list(classes):
        console.note(
            f"warning: the machine was fitted on the classes {', '.join(map(str, fitted))}, and the data has "
            f"{', '.join(map(str, classes))}."
        )


def _facts(
    context: Context, settings: Settings, machine: KernelMachine, found: Certificates, seconds: dict[str, float]
) -> dict[str, Any]:
    """Return what was certified, on what, with which figures, and by which versions."""
    from ntklens.record import provenance

    data = context.data
    fingerprint = data.fingerprint()
    return {
        "network": context.network.label,
        "kernel": machine.kernel.identity(),
        "filter": repr(machine.filter),
        "data": data.name,
        "data_fingerprint": fingerprint,
        "classes": list(data.classes),
        "n": len(machine.train_inputs),
        **found.row(),
        "tiers": "linear" if settings.quick else "both",
        "steps": context.threat.steps,
        "about": found.about,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "provenance": provenance(seed=settings.spec.seed, data=fingerprint),
    }


def _image_rows(found: Certificates, labels: list[int], predictions: list[int]) -> list[dict[str, Any]]:
    """Return the figures of each image."""
    radii = [None] * len(labels) if found.radius is None else found.radius.tolist()
    names = ("class", "prediction", "tier", "bound", "attacked_margin", "radius")
    columns = zip(
        labels,
        predictions,
        found.tier.tolist(),
        found.bound.tolist(),
        found.attacked_margin.tolist(),
        radii,
        strict=True,
    )
    return [{"image": i} | dict(zip(names, row, strict=True)) for i, row in enumerate(columns)]


def _tell(settings: Settings, found: Certificates, facts: dict[str, Any]) -> None:
    """Print the result, as JSON or as sentences."""
    from ntklens.wording import duration, norm_sign, pixels, share

    if settings.json:
        console.as_json(facts | {"run": str(settings.out)})
        return
    ball = f"ε = {pixels(found.eps)} in {norm_sign(found.norm)}"
    console.say(f"{len(found.clean):,} test images, {ball}:")
    console.say(f"  right on the clean image   {share(facts, 'clean_accuracy')}")
    console.say(f"  right under the attack     {share(facts, 'attacked_accuracy')}")
    console.say(f"  proved right in the ball   {share(facts, 'certified_accuracy')}")
    undecided = facts["undecided"]
    if undecided:
        images = "1 image is" if undecided == 1 else f"{undecided:,} images are"
        console.say(f"{images} neither fooled nor proved: the robust accuracy lies between the last two lines.")
    if "median_radius" in facts:
        console.say(f"median radius that is proved, of the images that are right: {pixels(facts['median_radius'])}")
    console.say(found.about)
    console.say(f"took {', '.join(f'{name} {duration(value)}' for name, value in facts['seconds'].items())}")
    console.say(f"figures: {settings.out / RESULT}, of each image: {settings.out / IMAGES}")
