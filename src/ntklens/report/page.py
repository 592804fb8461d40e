"""A record as one HTML page that needs no network: text, figures and tables inside it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.report.figures.style import styled
from ntklens.report.sections import Plate, opening_plate, sections
from ntklens.report.tables import number
from ntklens.vocabulary import NOT_MEASURED
from ntklens.wording import capitalised, decided_by, how_judged

_PIXELS_PER_INCH = 112


def render(record: Record) -> str:
    """The page as text; sections whose stage was not run are left out."""
    environment = Environment(
        loader=PackageLoader("ntklens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    environment.filters["decided_by"] = lambda row: capitalised(decided_by(row))
    environment.filters["image"] = _image
    parts = list(sections(record))
    return environment.get_template("page.html.j2").render(
        title=record.title,
        summary=[row["text"] for row in record.table("summary") if row.get("about") != "claims"],
        opening=opening_plate(record),
        claims=_claims(record, whole=len(set(record.stages) - {"data", "claims"}) > 1),
        claim_parts=record.table("claim_parts"),
        how_judged=how_judged(record.table("claims")),
        data=record.table("data"),
        sections=parts,
        provenance=record.provenance,
        stages=[s for s in record.stages if s != "claims"],
    )


def write_report(record: Record, path: str | Path | None = None) -> Path:
    """Render into a file, `report.html` in the run's folder by default, and say where it is.

    Raises:
        InputError: the file cannot be written there.
    """
    target = record.folder / "report.html" if path is None else Path(path)
    try:
        target.write_text(render(record), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another --out.") from error
    return target


def _claims(record: Record, *, whole: bool) -> list[dict[str, Any]]:
    """All claims for a whole study; for a single stage, those that it can measure."""
    # Runs of earlier versions have verdicts without estimates.
    rows: list[dict[str, Any]] = [{"measure": None, "would_decide": "", **row} for row in record.table("claims")]
    return rows if whole else [r for r in rows if r["verdict"] != NOT_MEASURED]


@dataclass(frozen=True)
class _Image:
    """A figure as the page holds it: an address that carries its own content, and its size in CSS pixels."""

    source: str
    width: int
    height: int


def _image(plate: Plate) -> _Image:
    """A plate's figure as SVG, the same bytes each time; letters have one size in all figures."""
    buffer = io.BytesIO()
    with styled():
        figure = plate.make()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    width, height = (round(_PIXELS_PER_INCH * inches) for inches in figure.get_size_inches())
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return _Image(f"data:image/svg+xml;base64,{content}", width, height)
