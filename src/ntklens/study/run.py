"""Running an experiment: a Spec in, a Record out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ntklens.errors import InputError, NtklensError
from ntklens.progress import Progress
from ntklens.record import Record, provenance
from ntklens.schema import check_tables
from ntklens.study import stages
from ntklens.study.claims import claims
from ntklens.study.context import Context, StageResult
from ntklens.study.costs import estimate
from ntklens.study.parts import Estimate
from ntklens.study.spec import Spec
from ntklens.study.summary import summary

Stage = Callable[[Context, Any, Progress], StageResult]
"""A stage: from the context, the stage's own part of the spec, and its progress to its result."""
Watcher = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done."""

STAGES: dict[str, Stage] = {
    "data": stages.data_stage,
    "attack": stages.attack_stage,
    "victim": stages.victim_stage,
    "lazy": stages.lazy_stage,
    "transfer": stages.transfer_stage,
    "features": stages.features_stage,
    "dynamics": stages.dynamics_stage,
}


def planned(spec: Spec) -> list[str]:
    """The stages that an experiment asks for, in order."""
    asked = {name: name == "data" or getattr(spec, name) is not None for name in STAGES}
    asked["attack"] = spec.attack is not None and bool(spec.attack.curve)
    return [name for name in STAGES if asked[name]]


def run(
    spec: Spec,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    watch: Watcher = lambda stage, share: None,
    tell: Callable[[Estimate], None] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Record:
    """Run every stage of an experiment that is not done yet, keeping each as it finishes.

    Args:
        spec: the experiment.
        out: folder of the run.
        overwrite: replace an existing run in that folder, which stays until this one is done.
        resume: go on with an interrupted run in that folder, of the same experiment.
        watch: told how far each stage is.
        tell: told, before the stages begin, what each of their parts is expected to take. The estimate takes up to two
            seconds; without a receiver none is made.
        say: takes the lines that a stage tells while it works, such as one per checkpoint.

    Raises:
        InputError: the folder exists, or holds another experiment than is to be resumed.
    """
    context = Context(spec, Path(out) / "scratch", say)
    existed_before = Path(out).exists()
    plain: dict[str, Any] = spec.model_dump(mode="json")
    victim = None if spec.victim is None else stages.victim_fingerprint(context, spec.victim)
    if resume:
        record = Record.open(out)
        if record.spec != plain:
            raise InputError(f"{out} holds another experiment; resume with the same options, or choose another --out.")
        if record.provenance.get("victim") != victim:
            raise InputError(
                f"{spec.victim.path if spec.victim else 'the victim'} or its weights have changed since the run in {out} "
                "began; start again with --overwrite, or choose another --out."
            )
    else:
        data = context.data.fingerprint()
        stages.check(context)
        record = Record.create(
            out, spec.kind, spec.title, plain, provenance(seed=spec.seed, data=data, victim=victim), overwrite=overwrite
        )
    try:
        if tell is not None:
            context.estimate = estimate(context, [name for name in planned(spec) if not record.done(name)])
            tell(context.estimate)
        _work(context, record, watch)
    except NtklensError as error:
        failed_folder = record.restore_backup()
        if failed_folder is None:
            if not existed_before and not _begun(context, record):
                shutil.rmtree(record.folder, ignore_errors=True)
            raise
        raise type(error)(
            f"{error} The earlier run is back in {out}; what this one had done is in {failed_folder}, and --resume "
            f"--out {failed_folder} "
            "goes on from there."
        ) from error
    record.discard_backup()
    return record


def _begun(context: Context, record: Record) -> bool:
    """Whether there is work to go on from: a stage beyond the data, or a part of one."""
    return any(record.done(name) for name in planned(context.spec)[1:]) or (
        context.scratch.exists() and any(context.scratch.rglob("*"))
    )


def _work(context: Context, record: Record, watch: Watcher) -> None:
    """The stages that are not done yet, and what the claims say of them."""
    for name in planned(context.spec):
        if record.done(name):
            continue
        start = time.perf_counter()
        watch(name, 0.0)
        result = STAGES[name](context, getattr(context.spec, name), Progress(partial(watch, name)))
        check_tables(name, result.tables)
        seconds = time.perf_counter() - start
        record.add_stage(name, tables=result.tables, arrays=result.arrays, seconds=seconds, cost=context.cost(name))
        shutil.rmtree(context.scratch, ignore_errors=True)
        watch(name, 1.0)
    judged = claims(record)
    tables = judged | {"summary": summary(record, judged["claims"])}
    check_tables("claims", tables)
    record.add_stage("claims", tables=tables)
