"""A count of the training steps of the width study, which is what its progress is measured in."""

from __future__ import annotations

from ntklens.progress import Progress


class StepCount:
    """Reports the share of all training steps that are done.

    Args:
        total: training steps of the part.
        progress: receives the share.
    """

    def __init__(self, total: int, progress: Progress) -> None:
        self._total = total
        self._done = 0
        self._progress = progress

    def add(self, steps: int) -> None:
        """Report that this many steps more are done."""
        self._done += steps
        self._progress(min(1.0, self._done / self._total))
