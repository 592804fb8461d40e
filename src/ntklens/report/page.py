"""A record as one HTML page that needs no network: text, figures and tables inside it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from ntklens.errors import InputError
from ntklens.record import Record
from ntklens.report.figures.style import styled
from ntklens.report.sections import sections


def render(record: Record) -> str:
    """The page; sections whose stage was not run are left out."""
    environment = Environment(
        loader=PackageLoader("ntklens.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = number
    parts = []
    for section in sections(record):
        plates = []
        for plate in section.plates:
            with styled():
                source = _svg(plate.make())
            plates.append({"source": source, "caption": plate.caption, "alt": plate.alt})
        parts.append(
            {
                "key": section.key,
                "title": section.title,
                "text": section.text,
                "plates": plates,
                "tables": section.tables,
            }
        )
    return environment.get_template("page.html.j2").render(
        title=record.title,
        summary=[row["text"] for row in record.table("summary")],
        claims=record.table("claims"),
        data=record.table("data"),
        sections=parts,
        provenance=record.provenance,
        stages=[s for s in record.stages if s != "claims"],
    )


def write_report(record: Record, path: str | Path | None = None) -> Path:
    """Render into a file, `report.html` in the run's folder by default.

    Raises:
        InputError: the file cannot be written there.
    """
    target = record.folder / "report.html" if path is None else Path(path)
    try:
        target.write_text(render(record), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{target} cannot be written ({error.strerror}); choose another --out.") from error
    return target


def number(value: Any) -> str:
    """A table cell: four significant digits, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
