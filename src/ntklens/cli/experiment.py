"""Running an experiment from the command line: progress, result, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ntklens.cli import console
from ntklens.record import Record
from ntklens.report import write_report
from ntklens.study import Spec, planned, run


def execute(spec: Spec, out: Path, *, overwrite: bool, resume: bool, json: bool, tables: tuple[str, ...]) -> Record:
    """Run, write the report, and show the tables named."""
    start = time.perf_counter()
    with console.progress(planned(spec)) as watch:
        record = run(spec, out, overwrite=overwrite, resume=resume, watch=watch)
    report = write_report(record)
    if json:
        shown: dict[str, Any] = {name: record.table(name) for name in tables}
        console.as_json(shown | {"run": str(record.folder), "report": str(report)})
        return record
    for sentence in record.table("summary"):
        console.say(str(sentence["text"]))
    for name in tables:
        console.table(
            name.replace("_", " "), [{k: v for k, v in r.items() if k != "model"} for r in record.table(name)]
        )
    console.say(f"report: {report}  (everything: {record.folder}, {time.perf_counter() - start:.0f} s)")
    return record
