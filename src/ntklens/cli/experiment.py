"""Run an experiment from the command line: progress, report, and the result in tables or as JSON."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntklens.cli import console

if TYPE_CHECKING:
    from ntklens.record import Record
    from ntklens.study import Spec


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

    Returns:
        The finished run.
    """
    from ntklens.report import write_report
    from ntklens.study import planned, run

    start = time.perf_counter()
    try:
        with console.progress(planned(spec)) as watch:
            record = run(spec, out, overwrite=overwrite, resume=resume, watch=watch)
    except KeyboardInterrupt:
        console.stopped(_how_to_go_on(out))
        raise
    report = write_report(record)
    if json:
        results = {name: record.table(name) for name in (*tables, *only_in_json)}
        places = {"run": str(record.folder), "report": str(report)}
        console.as_json(_origin(record) | further(record) | results | places)
        return record
    for sentence in record.table("summary"):
        console.say(str(sentence["text"]))
    for name in tables:
        left_out = _LEFT_OUT.get(name, ("model",))
        rows = [{key: value for key, value in row.items() if key not in left_out} for row in record.table(name)]
        console.table(_TITLES.get(name, name.replace("_", " ")), rows)
    console.say(f"report: {report}  (everything: {record.folder}, {time.perf_counter() - start:.0f} s)")
    return record


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
