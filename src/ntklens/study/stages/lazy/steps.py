"""A count of the training steps of the width study, which is what its progress is measured in."""

from __future__ import annotations

from ntklens.progress import Progress
from ntklens.study.spec import LazySpec


class StepCount:
    """Reports the share of all training steps of the stage that are done.

    Args:
        spec: the width study.
        progress: receives the share.
    """

    def __init__(self, spec: LazySpec, progress: Progress) -> None:
        # One network more than there are seeds is trained per width: the last one is a surrogate only.
        by_width = len(spec.widths) * (spec.seeds + 1)
        others = spec.seeds * (len(spec.checkpoints) + len(spec.regimes))
        self._total = (by_width + others) * spec.steps
        self._done = 0
        self._progress = progress

    def add(self, steps: int) -> None:
        """Report that this many steps more are done."""
        self._done += steps
        self._progress(min(1.0, self._done / self._total))
