"""What the report says of each stage."""

from __future__ import annotations

from collections.abc import Iterator

from ntklens.record import Record
from ntklens.report.sections.attack import attack_section
from ntklens.report.sections.base import Plate, Section
from ntklens.report.sections.dynamics import dynamics_section
from ntklens.report.sections.features import features_section
from ntklens.report.sections.lazy import lazy_section
from ntklens.report.sections.transfer import transfer_section
from ntklens.report.sections.victim import victim_section

__all__ = ["Plate", "Section", "sections"]

_MAKERS = {
    "attack_curve": attack_section,
    "victim": victim_section,
    "lazy": lazy_section,
    "transfer": transfer_section,
    "features": features_section,
    "dynamics": dynamics_section,
}
"""Each section by the table that it cannot do without."""


def sections(record: Record) -> Iterator[Section]:
    """The sections whose stage is in the record."""
    for needed, make in _MAKERS.items():
        if record.table(needed):
            yield make(record)
