"""Run an experiment from the command line: progress, report, and the result in tables or as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from ntklens.cli import console

if TYPE_CHECKING:
    from ntklens.record import Record
    from ntklens.study import Spec
    from ntklens.study.parts import Estimate


_TITLES = {
    "victim": "attacks on the victim",
    "victim_effect": "accuracy under the first minus accuracy under the second",
    "victim_checks": "checks",
}
"""Titles of tables whose names would say something else: the checks may be those of a surrogate."""

_LEFT_OUT = {"victim": ("attack", "norm", "eps", "rounded_accuracy", "fitting_seconds", "attack_seconds")}
"""Columns that are left out in a terminal, where they have no room: of most tables `model`, a long one with one value."""


def execute(
    spec: Spec,
    out: Path,
    *,
    overwrite: bool,
    resume: bool,
    json: bool,
    tables: tuple[str, ...],
    only_in_json: tuple[str, ...] = (),
    further: Callable[[Record], dict[str, Any]] = lambda record: {},
    show: Callable[[dict[str, Any]], None] = console.as_json,
) -> Record:
    """Run an experiment, write its report, and print its result.

    Args:
        spec: the experiment.
        out: folder of the run.
        overwrite: replace an earlier run in that folder.
        resume: continue the interrupted run in that folder.
        json: print the tables as JSON instead of text.
        tables: names of the record's tables to print.
        only_in_json: names of further tables that are printed as JSON; their contents are among the sentences.
        further: further values of a finished run for programs.
        show: takes what is printed as JSON, where `json` asks for it.

    Returns:
        The finished run.
    """
    from ntklens.report import write_report
    from ntklens.study import planned, run
    from ntklens.study.answers import by_category
    from ntklens.study.costs.timing import is_busy
    from ntklens.study.parts import sentence as cost_sentence

    start = time.perf_counter()
    try:
        with console.progress(planned(spec)) as watch:

            def tell(estimate: Estimate) -> None:
                by_stage = {stage: sum(part.seconds for part in parts) for stage, parts in estimate.items()}
                watch.expect(cost_sentence(estimate, _flags(spec.kind), busy=is_busy()), by_stage)

            record = run(spec, out, overwrite=overwrite, resume=resume, watch=watch, tell=tell, say=watch.say)
    except KeyboardInterrupt:
        console.note(_how_to_go_on(out))
        raise
    report = write_report(record)
    if json:
        parts = ("claim_parts",) if "claims" in tables else ()
        results = {name: record.table(name) for name in (*tables, *parts, *only_in_json)}
        answers: dict[str, Any] = {"summary": [row["text"] for row in record.table("summary")]}
        if record.table("features"):
            answers["features_by_category"] = by_category(record)
        places = {
            "cost": record.provenance.get("cost", []),
            "run": str(record.folder),
            "report": str(report),
        }
        show(_origin(record) | answers | further(record) | results | places)
        return record
    sentences = record.table("summary")
    for sentence in sentences:
        if sentence.get("about") != "claims":
            console.say(str(sentence["text"]))
    for name in tables:
        left_out = _LEFT_OUT.get(name, ("model",))
        told = _told(record.table(name)) if name == "claims" else record.table(name)
        rows = [{key: value for key, value in row.items() if key not in left_out} for row in told]
        console.table(_TITLES.get(name, name.replace("_", " ")), rows)
    if "claims" not in tables:  # that table has the statements and the verdicts
        for sentence in sentences:
            if sentence.get("about") == "claims":
                console.say(str(sentence["text"]))
    console.say(f"report: {report}  (everything: {record.folder}, {time.perf_counter() - start:.0f} s)")
    return record


def _told(claims: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the table "claims" with the estimate, interval and margin of each claim as one sentence, for a terminal.

    The figures behind it are told in the report.
    """
    from ntklens.wording import capitalised, decided_by

    return [
        {key: row[key] for key in ("claim", "statement", "verdict")}
        | {"decided_by": capitalised(decided_by(row)), "would_decide": row["would_decide"]}
        for row in claims
    ]


def _flags(kind: str) -> set[str] | None:
    """Return the options of the command that makes experiments of a kind; None for others, which are files."""
    from ntklens.cli.attack import attack
    from ntklens.cli.dynamics import dynamics
    from ntklens.cli.features import features
    from ntklens.cli.transfer import transfer

    commands = {"attack": attack, "transfer": transfer, "features": features, "dynamics": dynamics}
    if kind == "demo":
        return set()
    if kind not in commands:
        return None
    hints = get_type_hints(commands[kind], include_extras=True).values()
    declared = [argument for hint in hints for argument in getattr(hint, "__metadata__", ())]
    return {flag for option in declared for text in getattr(option, "param_decls", ()) for flag in text.split("/")}


def _origin(record: Record) -> dict[str, Any]:
    """Return what a program needs to tell one result from another: seed, version, images, and the network attacked."""
    provenance = record.provenance
    data = next(iter(record.table("data")), {})
    return {
        "seed": provenance["seed"],
        "version": provenance["versions"]["ntklens"],
        "n": data.get("test"),
        "data_fingerprint": provenance["data"],
        "data_notes": data.get("notes"),
        "victim_fingerprint": provenance.get("victim"),
    }


def _how_to_go_on(out: Path) -> str:
    """Return what to do after an interruption."""
    from ntklens.backup import Backup
    from ntklens.record import FILE

    if not (out / FILE).is_file():
        return "interrupted before the run began; give the command again."
    backup = Backup(out)
    if backup.exists:
        return (
            f"interrupted; the same command with --resume in place of --overwrite goes on in {out}. The earlier run is in "
            f"{backup.path} until then."
        )
    return f"interrupted; the same command with --resume goes on in {out}."
