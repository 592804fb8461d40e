"""Run an audit from the command line: progress, and what is written in the end."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntklens.cli import console
from ntklens.cli.audited import ABOUT, tell
from ntklens.cli.fitting import collected_warnings
from ntklens.cli.folders import csv_text, folder_of, write_together
from ntklens.errors import InputError
from ntklens.files import first_line, written_whole

if TYPE_CHECKING:
    from ntklens.study import Spec
    from ntklens.study.audit import Audit, Audited

RESULT = "audit.json"
"""Name of the file that makes a folder the folder of a finished run; it is written last."""
ROWS = "audit.csv"
NETWORKS = "networks.csv"
_STAGES = ("machine", "audit", "networks")
_OURS = {ROWS, NETWORKS, *(f"{name}.part" for name in (ROWS, NETWORKS, RESULT))}


@dataclass(frozen=True)
class Settings:
    """What is audited, and where the result goes.

    Attributes:
        spec: the data, the kernel, the ridge and the radius.
        time: of gradient flow; None for the ridge.
        plan: the parts of the audit's plan that are plain values.
        patch: the options of the patch that were given.
        export: file of the perturbed images; None to write none.
        out: folder of the run.
        overwrite: replace an earlier run in that folder, and an earlier export.
        json: print the result as JSON.
    """

    spec: Spec
    time: float | None
    plan: dict[str, Any]
    patch: dict[str, Any]
    export: Path | None
    out: Path
    overwrite: bool
    json: bool


def run_audit(settings: Settings) -> None:
    """Fit the machine, audit it, train the networks, and write and print what was found.

    Raises:
        InputError: something does not fit, or the folder is taken.
        UnsupportedLayer: the network has no kernel.
        NumericalFailure: the machine's matrix is singular, or a training has diverged.
    """
    from ntklens.audits import Patch
    from ntklens.linalg import GradientFlow, Ridge
    from ntklens.study.audit import Audit, Plan
    from ntklens.study.context import Context

    spec = settings.spec
    g = Ridge(spec.kernel.ridge) if settings.time is None else GradientFlow(settings.time)
    plan = Plan(**settings.plan, filter=g, patch=Patch(**settings.patch))
    with folder_of(settings.out, RESULT, _OURS, "audit", overwrite=settings.overwrite):
        # All training images, of which the first are trained on and the next held out.
        whole = spec.model_copy(update={"data": spec.data.model_copy(update={"train": None})})
        audit = Audit(Context(whole), plan)
        stages = ["machine", "audit", *(["networks"] if plan.networks else [])]
        start = time.perf_counter()
        with console.progress(stages) as watch, collected_warnings() as heard:
            found = audit.run(*(partial(watch, stage) if stage in stages else _ignored for stage in _STAGES))
        warned = list(dict.fromkeys(heard))
        for text in warned:
            console.note(f"warning: {text}")
        taken = round(time.perf_counter() - start, 3)
        facts = _facts(settings, audit, found) | {"warnings": warned, "seconds": taken}
        failure = None
        if settings.export is not None:
            failure = _export(settings.export, audit, found)
            facts["export"] = None if failure else str(settings.export.with_suffix(".npz"))
        texts = {ROWS: csv_text(found.rows), NETWORKS: csv_text(found.network_rows)}
        texts = {name: text for name, text in texts.items() if text}
        texts[RESULT] = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        write_together(settings.out, texts, RESULT, (ROWS, NETWORKS))
    if settings.json:
        console.as_json(facts | {"run": str(settings.out)})
    else:
        tell(facts)
        console.say(f"figures: {settings.out / RESULT}, rows: {settings.out / ROWS}")
    if failure:
        raise InputError(f"{failure} The figures are in {settings.out}.")


def _ignored(share: float) -> None:
    """Take the progress of a stage that is not run."""


def _export(path: Path, audit: Audit, found: Audited) -> str | None:
    """Write the perturbed training images with an unchanged test set; return what went wrong, if anything."""
    import numpy as np

    assert found.images is not None
    assert found.labels is not None
    target = path.with_suffix(".npz")
    arrays = {
        "x_train": found.images,
        "y_train": found.labels,
        "x_test": audit.x_test,
        "y_test": audit.y_test,
    }
    named: dict[str, Any] = {name: array.cpu().numpy() for name, array in arrays.items()}
    named["classes"] = np.array(audit.context.data.classes)
    try:
        with written_whole(target) as part, part.open("wb") as file:
            np.savez_compressed(file, **named)
    except OSError as error:
        with suppress(OSError):
            target.with_name(f"{target.name}.part").unlink()
        return f"{target} cannot be written: {first_line(error)}."
    return None


def _facts(settings: Settings, audit: Audit, found: Audited) -> dict[str, Any]:
    """Return what was audited, on what, with which figures, and by which versions."""
    from ntklens.record import provenance

    data, plan = audit.context.data, audit.plan
    fingerprint = data.fingerprint()
    patch = {}
    if plan.kind != "unlearnable":
        patch = {
            "target": audit.target_name,
            "patch": plan.patch.size,
            "brightness": plan.patch.brightness,
            "corner": plan.patch.corner,
        }
    trained = {"seeds": plan.seeds, "epochs": plan.epochs, "width": plan.width} if plan.networks else {}
    return {
        "kind": plan.kind,
        "network": audit.context.network.label,
        "filter": repr(plan.filter),
        "top": plan.top,
        "data": data.name,
        "data_fingerprint": fingerprint,
        "classes": list(data.classes),
        **patch,
        **found.facts,
        **trained,
        "rows": found.rows,
        "networks": found.network_rows,
        "about": ABOUT,
        "provenance": provenance(seed=settings.spec.seed, data=fingerprint),
    }
