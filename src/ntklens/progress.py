"""Progress: how a computation tells what share of its work is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

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


class Parts:
    """The parts of a piece of work by their names: each has its share of the whole, and its seconds are kept.

    Args:
        progress: of the whole.
        weights: the parts in their order, with weights in proportion to the time that they are expected to take.
        clock: seconds.

    Attributes:
        seconds: what each part has taken so far.

    Example:
        >>> parts = Parts(Progress(print), {"kernel matrix": 3.0, "attack": 1.0})
        >>> with parts("kernel matrix") as progress:
        ...     progress(0.5)
        0.375
        0.75
    """

    def __init__(
        self, progress: Progress, weights: Mapping[str, float], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress
        self._weights = dict(weights)
        self._total = sum(weights.values()) or 1.0
        self._clock = clock
        self._done = dict.fromkeys(self._weights, 0.0)
        self._turn = (0, 1)

    @contextmanager
    def __call__(self, name: str) -> Iterator[Progress]:
        """Run a part: yield its progress, and report it as done at the end.

        Args:
            name: one of the names that have weights.
        """
        number, count = self._turn
        for earlier in list(self._weights)[: list(self._weights).index(name)]:
            # What comes before a part and is not run in this turn is over too.
            self._done[earlier] = max(self._done[earlier], (number + 1) / count)

        def report(share: float) -> None:
            self._done[name] = max(self._done[name], (number + share) / count)
            self._progress(sum(self._weights[part] * done for part, done in self._done.items()) / self._total)

        part = Progress(report)
        start = self._clock()
        yield part
        self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - start
        part(1.0)

    @contextmanager
    def turn(self, number: int, count: int) -> Iterator[None]:
        """Run one of several turns, each of which runs all parts, or some of them, in their order.

        Args:
            number: of the turn, from 0.
            count: number of turns.
        """
        self._turn = (number, count)
        yield
        self._turn = (0, 1)


class FirstOfTwo:
    """Turns the share of a first piece of work that is done into the share of the time that is over, of it and a second.

    What the first piece takes is known from what is done of it.

    Args:
        report: receives the share of the time; it never goes back.
        second: seconds that the second piece is expected to take.
        clock: seconds.

    Example:
        >>> seconds = iter([0.0, 2.0])
        >>> FirstOfTwo(print, 4.0, lambda: next(seconds))(0.5)  # half of it took 2 s, so all takes 4 s
        0.25
    """

    def __init__(self, report: Report, second: float, clock: Callable[[], float] = time.perf_counter) -> None:
        self._report = report
        self._second = second
        self._clock = clock
        self._start = clock()
        self._over = 0.0

    def __call__(self, share: float) -> None:
        """Report how much of the time is over where this share of the first piece is done."""
        if share > 0:
            elapsed = self._clock() - self._start
            self._over = max(self._over, elapsed / (elapsed / share + self._second))
        self._report(self._over)
