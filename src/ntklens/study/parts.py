"""The parts of a run, what each of them is expected to take, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from ntklens.wording import duration, unit_of

WORTH_TELLING = 10.0
"""Seconds below which nothing is said before a run."""
_MOST_PARTS = 5
"""Largest number of parts that the sentence names."""


@dataclass(frozen=True)
class Option:
    """What makes a part cheaper.

    Attributes:
        flag: option of the command line.
        field: field of the experiment, for those who write a file.
        text: how it is said: the flag itself, or "a smaller --test".
    """

    flag: str
    field: str
    text: str


def fewer(flag: str, field: str) -> Option:
    """Return the option to give a smaller number."""
    return Option(flag, field, f"a smaller {flag}")


KERNEL_MATRIX, SPECTRUM = "kernel matrix", "spectrum"
"""Parts that several stages have: the first one that needs the experiment's machine fits it."""

SURROGATE, SEARCH, ATTACK, CHECKS = "surrogate", "search of its time", "attack", "checks"
"""Parts of an attack on the user's network."""

TRAIN = fewer("--train", "data.train")
TEST = fewer("--test", "data.test")
SAMPLE = fewer("--sample", "victim.sample")
EPOCHS = fewer("--epochs", "dynamics.epochs")
NO_CHECKS = Option("--no-checks", "victim.checks", "--no-checks")


@dataclass(frozen=True)
class Part:
    """A part of a stage.

    Attributes:
        name: as in "the kernel matrix".
        seconds: what it is expected to take.
        option: what makes it cheaper, if anything does.
    """

    name: str
    seconds: float
    option: Option | None = None


def of_surrogate(name: str) -> str:
    """Return the name of a surrogate's part."""
    return f"surrogate {name}"


def of_victim(architecture: str) -> str:
    """Return the name of the part of all victims of an architecture."""
    return f"victim {architecture}"


Estimate = Mapping[str, list[Part]]
"""The parts of each stage by its name; a stage that cannot be estimated is left out."""


def total(estimate: Estimate) -> float:
    """Return the seconds of all parts."""
    return sum(part.seconds for parts in estimate.values() for part in parts)


def sentence(estimate: Estimate, flags: Collection[str] | None = None, *, busy: bool = False) -> str:
    """Say how long a run takes, by its parts, and what saves most; the empty string for a run of less than ten seconds.

    Args:
        estimate: the parts of each stage.
        flags: options that the command has; None where the experiment is written in a file.
        busy: other work takes the processors, so that what was measured may be far from the truth.

    Example:
        >>> parts = [Part("kernel matrix", 180, TRAIN), Part("attack", 1500, TEST), Part("checks", 1720, NO_CHECKS)]
        >>> sentence({"victim": parts}, {"--no-checks", "--test"})
        'This takes about 57 minutes: the kernel matrix 3, the attack 25, the checks 29; --no-checks saves most.'
    """
    seconds = total(estimate)
    if seconds < WORTH_TELLING:
        return ""
    unit, _ = unit_of(seconds)
    shown = [(name, value / unit) for name, value in _shown(estimate)]
    digits = 1 if unit == 3600 else 0
    items = [f"the {name} {value:.{digits}f}" for name, value in shown if round(value, digits) > 0]
    listed = ": " + ", ".join(items) if len(items) > 1 else ""
    best = _best(estimate, flags)
    advice = "" if best is None else f"; {best.text if flags is not None else f'less of `{best.field}`'} saves most"
    if best is NO_CHECKS and flags is None:
        advice = "; `victim.checks = false` saves most"
    doubt = " Other work keeps the processors busy, so this estimate is not to be relied on." if busy else ""
    return f"This takes about {duration(seconds)}{listed}{advice}.{doubt}"


def _shown(estimate: Estimate) -> list[tuple[str, float]]:
    """Return names and seconds of what the sentence lists: the stages, or the parts of a single one."""
    named = [(part.name, part.seconds) for parts in estimate.values() for part in parts]
    if len([stage for stage, parts in estimate.items() if sum(p.seconds for p in parts) > 1]) > 1:
        return [(f"stage {stage}", sum(part.seconds for part in parts)) for stage, parts in estimate.items() if parts]
    largest = sorted(named, key=lambda item: -item[1])[:_MOST_PARTS]
    return [item for item in named if item in largest]


def _best(estimate: Estimate, flags: Collection[str] | None) -> Option | None:
    """Return the option whose parts take most, among those that can be given."""
    saved: dict[Option, float] = {}
    for parts in estimate.values():
        for part in parts:
            if part.option is not None and (flags is None or part.option.flag in flags):
                saved[part.option] = saved.get(part.option, 0.0) + part.seconds
    return max(saved, key=lambda option: saved[option], default=None)
