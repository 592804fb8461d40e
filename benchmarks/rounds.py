"""Two sides of a row, each in processes of its own that take turns, and the ratio of their times with its spread.

A process measures one row and ends, so that no row finds the caches, the memory or the threads of another. The sides
exchange their places from round to round, so that a busy machine slows both alike.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import ROOT, peer_python
from benchmarks.works import Work

Answer = dict[str, Any]
"""What a process says of a row; see `benchmarks.ours` and `benchmarks.peer`."""


class Failed(Exception):
    """A process ended without an answer; the message is the last line that it wrote."""


@dataclass(frozen=True)
class Side:
    """How the processes of one side are started.

    Attributes:
        command: the command line.
        environment: variables beside those of this process.
    """

    command: Sequence[str]
    environment: Mapping[str, str]

    def measure(self, work: Work, threads: int) -> Answer:
        """Run one process on a row and return its answer.

        Raises:
            Failed: the process ended without one.
        """
        line = json.dumps(asdict(work) | {"threads": threads}) + "\n"
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)} | self.environment
        done = subprocess.run(self.command, input=line, env=environment, cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            raise Failed((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
        answer: Answer = json.loads(done.stdout.splitlines()[-1])
        return answer


def our_side(source: Path = ROOT / "src", **environment: str) -> Side:
    """Return the side that measures the code in a folder."""
    return Side((sys.executable, "-m", "benchmarks.ours"), {"PYTHONPATH": str(source), **environment})


def peer_side() -> Side:
    """Return the peer's side."""
    return Side((str(peer_python()), str(Path(__file__).with_name("peer.py"))), {})


def restrict_to(threads: int) -> None:
    """Keep this process, and all that it starts, to as many processors as there are threads.

    The peer has no option for its number of threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def in_turns(measures: Sequence[Callable[[], Answer]], rounds: int) -> list[list[Answer]]:
    """Return the answers of two sides, those of one side in the order of the rounds."""
    answers: list[list[Answer]] = [[] for _ in measures]
    for turn in range(rounds):
        order = range(len(measures)) if turn % 2 == 0 else reversed(range(len(measures)))
        for i in order:
            answers[i].append(measures[i]())
    return answers


def per_pair(answer: Answer) -> float:
    """Return the seconds per pair of images."""
    return float(answer["seconds"] / answer["pairs"])


@dataclass(frozen=True)
class Ratio:
    """The time of one side over that of the other.

    Attributes:
        value: the ratio of the medians over rounds.
        low: the smallest ratio of a round.
        high: the largest.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3g} ({self.low:.3g} to {self.high:.3g})"

    def verdict(self, margin: float) -> str:
        """Return "slower" or "faster" where all rounds differ from 1 by more than the margin, else ""."""
        if self.low > 1 + margin:
            return "slower"
        return "faster" if self.high < 1 / (1 + margin) else ""


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """Return the ratio of two sides' numbers, one of each per round."""
    of_rounds = [a / b for a, b in zip(numerators, denominators, strict=True)]
    return Ratio(statistics.median(numerators) / statistics.median(denominators), min(of_rounds), max(of_rounds))


def with_unit(seconds: float) -> str:
    """Format a time with the unit that suits its size."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"
