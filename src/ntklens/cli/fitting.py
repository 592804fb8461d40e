"""Fit a kernel machine from the command line: plan, progress, and what is written in the end."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntklens.cli import console
from ntklens.cli.folders import folder_of
from ntklens.cli.homes import how_to_go_on, opened, rescaled
from ntklens.cli.planned import PlannedHome
from ntklens.errors import InputError
from ntklens.files import first_line, written_whole

if TYPE_CHECKING:
    from ntklens.cli.bars import StageProgress
    from ntklens.cli.homes import AnyHome
    from ntklens.linalg import Filter
    from ntklens.linalg.tiles import Plan
    from ntklens.machine import KernelMachine
    from ntklens.study import Spec
    from ntklens.study.context import Context

RESULT = "fit.json"
"""Name of the file that makes a folder the folder of a finished fit; it is written last."""
MACHINE = "machine.safetensors"
_NEXT = "machine.next.safetensors"
"""The new machine, until the earlier one's results are gone."""
_OURS = {MACHINE, _NEXT, f"{_NEXT}.part", f"{RESULT}.part"}
"""What a fit that was killed may leave."""
_SCORED = 1000
"""Test images that are scored between two reports."""


@dataclass(frozen=True)
class Settings:
    """What is fitted, and where to.

    Attributes:
        spec: the data and the kernel.
        filter: g.
        home: where the matrix is kept; None where the library chooses.
        store: the folder of --store.
        out: folder of the run.
        overwrite: replace an earlier fit in that folder.
        json: print the result as JSON.
    """

    spec: Spec
    filter: Filter
    home: AnyHome | None
    store: Path | None
    out: Path
    overwrite: bool
    json: bool


def run_fit(settings: Settings) -> None:
    """Fit, score and save a machine, and print how that went.

    Raises:
        InputError: something does not fit, there is no room, or the folder is taken.
    """
    from ntklens.linalg import MemoryHome
    from ntklens.linalg.tiles.blas import faster_blas_advice
    from ntklens.machine.matrix import DENSE
    from ntklens.study.context import Context

    context = Context(settings.spec)
    if len(context.data.classes) < 2:
        raise InputError(
            "expected data with images of two or more classes; got one class, which leaves nothing to predict."
        )
    is_whole = settings.home is None and (len(context.data.train) <= DENSE or settings.spec.device != "cpu")
    stages = [
        *(["fit"] if is_whole else ["kernel matrix", "solution"]),
        *(["accuracy"] if len(context.data.test) else []),
    ]
    with folder_of(settings.out, RESULT, _OURS, "fit", overwrite=settings.overwrite):
        is_factored = not is_whole and isinstance(settings.home, MemoryHome | None)
        advice = faster_blas_advice() if is_factored else None
        if advice:
            console.note(f"advice: {advice}")
        try:
            with console.progress(stages) as watch, opened(settings.home), collected_warnings() as heard:
                machine, facts = _fitted(context, settings, is_whole, watch)
                scored_from = time.perf_counter()
                facts |= _scored(context, machine, watch)
                facts["seconds"]["accuracy"] = time.perf_counter() - scored_from
        except KeyboardInterrupt:
            console.note(how_to_go_on(settings.store))
            raise
        for text in dict.fromkeys(heard):
            console.note(f"warning: {text}")
        start = time.perf_counter()
        facts = _described(context, settings, machine) | facts | {"warnings": list(dict.fromkeys(heard))}
        _save(settings.out, machine, facts, start)
    _tell(settings, machine, facts)


def _fitted(
    context: Context, settings: Settings, is_whole: bool, watch: StageProgress
) -> tuple[KernelMachine, dict[str, Any]]:
    """Fit the machine; return it with the plan, the method and the seconds."""
    from ntklens.kernels.entries import KernelEntries
    from ntklens.linalg import MemoryHome, Ridge, equal_rows, factor_seconds, inverts
    from ntklens.linalg.tiles import TiledFactorisation
    from ntklens.linalg.whole_plan import whole_plan
    from ntklens.machine import KernelMachine
    from ntklens.machine.matrix import MATRICES

    g, (x, y) = settings.filter, context.train
    unfitted = KernelMachine(context.kernel(), g)
    seconds: dict[str, float] = {}
    if is_whole:
        by_cholesky = isinstance(g, Ridge) or inverts(g)
        plan = whole_plan(
            len(x),
            MATRICES[isinstance(g, Ridge)],
            entries=KernelEntries(unfitted.kernel, x),
            factor_seconds=factor_seconds(len(x), by_cholesky=by_cholesky),
        )
        expected = (plan.matrix_seconds or 0.0) + (plan.factor_seconds or 0.0)
        sentence = str(plan)
        watch.expect(sentence, {"fit": expected})
        plan.check()
        start = time.perf_counter()
        watch("fit", 0.0)
        machine = unfitted.fit(x, y, progress=partial(watch, "fit"))
        seconds["fit"] = time.perf_counter() - start
    else:

        def tell(plan: Plan) -> None:
            known = {"kernel matrix": plan.matrix_seconds, "solution": plan.factor_seconds}
            watch.expect(str(plan), {name: value for name, value in known.items() if value is not None})
            watch("kernel matrix", 0.0)

        home = PlannedHome(settings.home or MemoryHome(), tell, partial(watch, "kernel matrix"))
        start = time.perf_counter()
        machine = unfitted.fit(x, y, home=home, progress=rescaled(partial(watch, "solution")))
        seconds |= {"kernel matrix": home.seconds, "solution": time.perf_counter() - start - home.seconds}
        sentence = home.told
    factors = machine.factorisation
    if isinstance(factors, TiledFactorisation):
        distinct = factors.groups.count
    else:
        distinct = int(equal_rows(x.flatten(1)).max()) + 1 if inverts(g) else len(x)
    found = {
        name: getattr(machine.solution, name) for name in ("method", "residual", "error", "smallest_pivot", "jitter")
    }
    facts = found | {
        "iterations": machine.solution.iterations,
        "solution": str(machine.solution),
        "merged_duplicates": len(x) - distinct,
        "plan": sentence,
        "seconds": seconds,
    }
    return machine, facts


def _scored(context: Context, machine: KernelMachine, watch: StageProgress) -> dict[str, Any]:
    """Return the accuracy on the test images with its 95 % interval, if there are any."""
    from ntklens.statistics import proportion

    x, y = context.test
    if not len(x):
        return {"accuracy": None, "accuracy_low": None, "accuracy_high": None, "test": 0}
    right = 0
    watch("accuracy", 0.0)
    for start in range(0, len(x), _SCORED):
        part = slice(start, start + _SCORED)
        right += int((machine.predict(x[part]) == y[part]).sum())
        watch("accuracy", min(1.0, (start + _SCORED) / len(x)))
    return proportion(right, len(x)).row("accuracy") | {"test": len(x)}


def _described(context: Context, settings: Settings, machine: KernelMachine) -> dict[str, Any]:
    """Return what was fitted, on what, and by which versions."""
    from ntklens.record import provenance

    data, k = context.data, settings.spec.kernel
    fingerprint = data.fingerprint()
    return {
        "network": context.network.label,
        "kernel": machine.kernel.identity(),
        "kernel_kind": k.kind,
        "w_std": k.w_std,
        "b_std": k.b_std,
        "filter": repr(settings.filter),
        "home": "memory" if settings.home is None else repr(settings.home),
        "data": data.name,
        "data_fingerprint": fingerprint,
        "data_notes": list(data.notes),
        "classes": list(data.classes),
        "shape": list(data.shape),
        "n": len(data.train),
        "provenance": provenance(seed=settings.spec.seed, data=fingerprint),
    }


def _save(out: Path, machine: KernelMachine, facts: dict[str, Any], start: float) -> None:
    """Write the machine and then its results; where that fails, the machine goes to a temporary folder."""
    try:
        machine.save(out / _NEXT)
    except InputError as error:
        (out / f"{_NEXT}.part").unlink(missing_ok=True)
        try:
            elsewhere = Path(tempfile.mkdtemp(prefix="ntklens-fit-")) / MACHINE
            machine.save(elsewhere)
        except (OSError, InputError):
            raise error from None
        raise InputError(f"{error} The machine is in {elsewhere} instead.") from error
    facts["seconds"]["saving"] = time.perf_counter() - start
    facts["seconds"] = {name: round(value, 3) for name, value in facts["seconds"].items()}
    facts["peak_memory_bytes"] = _peak_memory()
    facts["machine"] = str(out / MACHINE)
    try:
        (out / RESULT).unlink(missing_ok=True)
        os.replace(out / _NEXT, out / MACHINE)
        with written_whole(out / RESULT) as partial_file:
            partial_file.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{out / RESULT} cannot be written: {first_line(error)}.") from error


def _tell(settings: Settings, machine: KernelMachine, facts: dict[str, Any]) -> None:
    """Print the result, as JSON or as sentences."""
    from ntklens.machine.file import holds_its_kernel
    from ntklens.wording import duration, share

    if not holds_its_kernel(settings.out / MACHINE):
        console.note(
            "the kernel depends on weights or on code, which the file does not hold: load it by "
            "nl.KernelMachine.load(path, kernel); the other commands cannot."
        )
    if settings.json:
        console.as_json(facts | {"run": str(settings.out)})
        return
    console.say(f"{machine!r}: {facts['solution']}")
    if facts["merged_duplicates"]:
        console.say(f"{facts['merged_duplicates']:,} training images are copies of others, and were fitted with them.")
    if facts["accuracy"] is not None:
        console.say(f"accuracy on {facts['test']:,} test images: {share(facts)}")
    spent = ", ".join(f"{name} {duration(value)}" for name, value in facts["seconds"].items() if value >= 1)
    peak = facts["peak_memory_bytes"]
    console.say(
        f"took {spent or 'less than a second'}" + ("" if peak is None else f"; at most {peak / 1e9:.2f} GB of memory")
    )
    console.say(f"machine: {settings.out / MACHINE}")


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collect the warnings of this package as sentences; others are shown as always."""
    texts: list[str] = []
    show = warnings.showwarning

    def collect(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if category is UserWarning:
            texts.append(str(message))
        else:
            show(message, category, *rest, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", UserWarning)
        warnings.showwarning = collect
        yield texts


def _peak_memory() -> int | None:
    """Return the bytes of memory that this process has held at most; None where the system does not tell."""
    try:
        import resource  # Unix alone has it
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
