"""Progress of a run: moving bars on a terminal, and one line a minute elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)  # fmt: skip
from rich.text import Text

Clock = Callable[[], float]
"""Seconds."""
_LINE_SECONDS = 60.0


def _duration(seconds: float) -> str:
    """Return a time in words."""
    from ntklens.wording import duration  # which loads numpy, that a refused option does not need

    return duration(seconds)


def seconds_left(elapsed: float, share: float, estimated: float | None) -> float | None:
    """Return the seconds that a piece of work still takes; None where nothing is known of them yet.

    The estimate counts at the beginning, and what the work has really taken so far the more, the more of it is done.

    Args:
        elapsed: seconds since it began.
        share: of the work that is done, from 0 to 1.
        estimated: seconds that it was expected to take in all.

    Example:
        >>> seconds_left(0.0, 0.0, 100.0), seconds_left(100.0, 0.5, 100.0)
        (100.0, 75.0)
    """
    if share <= 0:
        return None if estimated is None else max(estimated - elapsed, 0.0)
    measured = elapsed / share
    total = measured if estimated is None else share * measured + (1 - share) * estimated
    return total * (1 - share)


class _Left(ProgressColumn):
    """The remaining time of a stage that is under way."""

    def render(self, task: Task) -> Text:
        left = seconds_left(task.elapsed or 0.0, task.completed, task.fields["estimated"]) if task.started else None
        return Text("" if left is None or task.finished else f"{_duration(left)} left")


class Bars:
    """One bar per stage, with the elapsed and the remaining time; bars appear when the first stage begins.

    Args:
        stages: names of the stages, in order.
        console: the terminal.
    """

    def __init__(self, stages: Sequence[str], console: Console) -> None:
        self._stages = stages
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            _Left(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._seconds: Mapping[str, float] = {}

    def expect(self, sentence: str, seconds: Mapping[str, float]) -> None:
        """Print the sentence above the bars."""
        self._seconds = seconds
        if sentence:
            self.say(sentence)

    def say(self, line: str) -> None:
        """Print a line above the bars."""
        self._bars.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def __call__(self, stage: str, share: float) -> None:
        """Move the bar of a stage."""
        if not self._tasks:
            self._tasks = {
                name: self._bars.add_task(name, total=1.0, start=False, estimated=self._seconds.get(name))
                for name in self._stages
            }
            self._bars.start()
        task = self._bars.tasks[self._tasks[stage]]
        if not task.started:
            self._bars.start_task(task.id)
        self._bars.update(task.id, completed=max(share, task.completed))

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()


class Lines:
    """Lines that tell when a stage starts and when it is done, and once a minute how far it is.

    A thread looks at the clock, so that the lines come also while nothing is reported.

    Args:
        print_line: takes a line.
        clock: seconds.
    """

    def __init__(self, print_line: Callable[[str], None], clock: Clock = time.monotonic) -> None:
        self._print = print_line
        self._clock = clock
        self._seconds: Mapping[str, float] = {}
        self._stage = ""
        self._share = 0.0
        self._start = self._last_line = clock()
        self._lock = threading.Lock()
        self._ended = threading.Event()

    def expect(self, sentence: str, seconds: Mapping[str, float]) -> None:
        """Print the sentence."""
        self._seconds = seconds
        if sentence:
            self._print(sentence)

    def say(self, line: str) -> None:
        """Print a line."""
        self._print(line)

    def __call__(self, stage: str, share: float) -> None:
        """Take the share of a stage that is done."""
        with self._lock:
            if stage != self._stage:
                self._stage, self._share = stage, 0.0
                self._start = self._last_line = self._clock()
                self._print(f"{stage}: started")
            # A stage may report 0 or 1 several times; each is told once.
            if share >= 1 > self._share:
                self._print(f"{stage}: done")
            self._share = max(self._share, share)
        self.tick()

    def tick(self) -> None:
        """Print a line if a stage is under way and the last line is a minute old."""
        with self._lock:
            now = self._clock()
            if not self._stage or self._share >= 1 or now - self._last_line < _LINE_SECONDS:
                return
            self._last_line = now
            left = seconds_left(now - self._start, self._share, self._seconds.get(self._stage))
            remaining = "" if left is None else f", about {_duration(left)} left"
            self._print(f"{self._stage}: {100 * self._share:.0f} % done{remaining}")

    def __enter__(self) -> Lines:
        threading.Thread(target=self._watch_the_clock, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ended.set()

    def _watch_the_clock(self) -> None:
        while not self._ended.wait(5.0):
            self.tick()


StageProgress = Bars | Lines
"""What is told of a run's stages: called with a stage's name and the share of it that is done."""
