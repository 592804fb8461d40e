"""What the report says about each stage."""

from __future__ import annotations

from collections.abc import Iterator

from ntklens.record import Record
from ntklens.report.sections.attack import attack_section
from ntklens.report.sections.base import Plate, Section
from ntklens.report.sections.certificates import certificates_section
from ntklens.report.sections.dynamics import dynamics_section
from ntklens.report.sections.features import features_section, opening_plate
from ntklens.report.sections.lazy import lazy_section
from ntklens.report.sections.transfer import transfer_section
from ntklens.report.sections.victim import victim_section

__all__ = ["Plate", "Section", "opening_plate", "sections"]

_MAKERS = (
    ("attack", attack_section),
    ("victim", victim_section),
    ("lazy", lazy_section),
    ("transfer", transfer_section),
    ("features", features_section),
    ("features", certificates_section),
    ("dynamics", dynamics_section),
)
"""The sections and the stages that they are about, in the order of the page."""


def sections(record: Record) -> Iterator[Section]:
    """Yield the sections of the stages that are in the record, as far as they have something to show."""
    for stage, make in _MAKERS:
        section = make(record) if record.done(stage) else None
        if section is not None:
            yield section
