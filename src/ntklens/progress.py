"""Progress: how a computation tells what share of its work is done."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[float], None]
"""Called with the share of the work that is done, from 0 to 1."""


class Progress:
    """The progress of one piece of work, or of a part of a larger piece.

    Calling it with a share from 0 to 1 reports that share. `part` gives the progress of a part, whose shares are scaled
    into the whole, so that a function reports its own share without knowing what it belongs to.

    Args:
        report: what receives the shares; without it nothing is reported.

    Example:
        >>> progress = Progress(print)
        >>> progress.part(0.5, 0.4)(0.5)
        0.7
    """

    def __init__(self, report: Report | None = None) -> None:
        self._report = report

    def __call__(self, share: float) -> None:
        """Report the share of the work that is done."""
        if self._report is not None:
            self._report(share)

    def part(self, start: float, share: float) -> Progress:
        """Return the progress of a part that begins at `start` and is `share` of the whole."""
        return Progress(lambda done: self(start + share * done))

    def step(self, done: int, total: int) -> None:
        """Report that `done` of `total` equal steps are finished."""
        self(done / total)
