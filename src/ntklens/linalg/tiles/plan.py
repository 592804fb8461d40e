"""What a kernel matrix will take, told before any work: what every plan has, whatever keeps the matrix."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass

from ntklens.errors import InputError
from ntklens.linalg.tiles.base import Entries
from ntklens.linalg.tiles.layout import Layout

SMALL = 1 << 28
"""Bytes of memory below which nothing is refused."""
_TRIAL_SIDE = 16
"""Rows of the first block that is timed for it."""
_TRIAL_SECONDS = 0.2
"""Seconds of the block from which the time of all tiles is estimated."""


@dataclass(frozen=True, kw_only=True)
class Plan(ABC):
    """What a matrix takes; its text is one or more sentences for people.

    Attributes:
        n: rows.
        working_bytes: of memory beside the matrix.
        available: bytes that may still be taken where the matrix is kept; None where the system does not tell.
        matrix_seconds: of the entries that are missing; None where it was not measured.
        factor_seconds: of a decomposition; None where there is none, or where it is not known.
    """

    n: int
    working_bytes: int
    available: int | None
    matrix_seconds: float | None = None
    factor_seconds: float | None = None

    @property
    @abstractmethod
    def fits(self) -> bool:
        """Whether everything finds room."""

    @abstractmethod
    def refusal(self) -> str:
        """Return the sentences that say why it does not fit, and what to do."""

    def check(self) -> None:
        """Raise InputError, with what to do, unless it fits."""
        if not self.fits:
            raise InputError(self.refusal())


def fits_in_memory(needed: int, available: int | None) -> bool:
    """Whether so many bytes are available; what is small always is, and so is everything where the system does not tell."""
    return available is None or needed <= max(available, SMALL)


def entries_seconds(entries: Entries, layout: Layout) -> float:
    """Estimate the seconds of all tiles from a block of them, whose side is doubled until it takes a fifth of a second."""
    side = min(_TRIAL_SIDE, layout.n)
    entries(slice(0, side), slice(0, side))  # which loads and compiles code
    while True:
        start = min(side, layout.n - side)
        began = time.perf_counter()
        entries(slice(start, start + side), slice(0, side))
        seconds = time.perf_counter() - began
        if seconds > _TRIAL_SECONDS or 2 * side > min(layout.side, layout.n):
            return seconds * layout.entries / side**2
        side *= 2


def room(available: int | None) -> str:
    """Return the part of a sentence that says how much is available; nothing where it is not known."""
    return "" if available is None else f", of {size(available)} that are available"


def size(count: int) -> str:
    """Return a number of bytes in the unit that people would use."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1e3:.3g} kB"


def duration(seconds: float) -> str:
    """Return a time in the unit that people would use, short."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
