"""The images that the experiment is about."""

from __future__ import annotations

from ntklens.progress import Progress
from ntklens.study.context import Context, StageResult
from ntklens.study.spec_data import DataSpec


def data_stage(context: Context, spec: DataSpec, progress: Progress) -> StageResult:
    """Note the name, classes, sizes, fingerprint and licence of the data, and what was left out of them or converted."""
    data = context.data
    row = {
        "name": data.name,
        "classes": ", ".join(data.classes),
        "train": len(data.train),
        "test": len(data.test),
        "shape": "x".join(map(str, data.shape)),
        "fingerprint": data.fingerprint(),
        "licence": data.licence,
        "notes": " ".join(data.notes),
    }
    progress(1.0)
    return StageResult(tables={"data": [row]})
