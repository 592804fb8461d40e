"""Numbers and sentences that the claims and the report share, so that both say the same of one record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ntklens.schema import bounds
from ntklens.vocabulary import DIFFERENCE, NOT_MEASURED, NUMBER, SHARE, TRAINED_SOURCE

JUDGED_TOGETHER = (
    "C3, C5 and C6 are judged by head and tail, each taken together; the categories judge features one by one, are a "
    "picture, and decide no claim."
)
"""Why a claim on robust features can be seen where no single feature is robust and useful."""
_BY_HEAD_AND_TAIL = ("C3", "C5", "C6")

_NORMS = {"linf": "ℓ∞", "l2": "ℓ₂"}


def pixels(eps: float) -> str:
    """Write a radius in 255ths of the pixel range where it is a whole number of them.

    Example:
        >>> pixels(8 / 255), pixels(0.5), pixels(2.0)
        ('8/255', '0.5', '2')
    """
    steps = eps * 255
    return f"{round(steps)}/255" if eps < 1 and abs(steps - round(steps)) < 1e-6 else f"{eps:.3g}"


def duration(seconds: float) -> str:
    """Write a duration in the unit that people would use.

    Example:
        >>> duration(1), duration(45.4), duration(150), duration(9000)
        ('1 second', '45 seconds', '3 minutes', '2.5 hours')
    """
    unit, name = unit_of(seconds)
    number = (
        f"{seconds / unit:.1f}".removesuffix(".0") if name == "hours" else f"{max(1, round(seconds / unit + 1e-9))}"
    )
    return f"{number} {name.removesuffix('s') if number == '1' else name}"


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the seconds and the name of the unit that a duration is told in: seconds, minutes or hours."""
    if seconds < 100:
        return 1.0, "seconds"
    return (60.0, "minutes") if seconds < 7200 else (3600.0, "hours")


def norm_sign(norm: str) -> str:
    """Return the usual sign of a norm; its name where it has none."""
    return _NORMS.get(norm, norm)


def percent(value: float) -> str:
    """Write a share in per cent.

    Example:
        >>> percent(0.815)
        '81.5 %'
    """
    return f"{100 * value:.1f} %"


def share(row: Mapping[str, Any], column: str = "accuracy") -> str:
    """Write a row's share in per cent, with its 95 % interval where it has one.

    Example:
        >>> share({"accuracy": 0.815, "accuracy_low": 0.755, "accuracy_high": 0.863})
        '81.5 % [75.5, 86.3]'
    """
    low, high = (row[end] for end in bounds(column))
    text = percent(row[column])
    return text if low is None or high is None else f"{text} [{100 * low:.1f}, {100 * high:.1f}]"


def points(row: Mapping[str, Any]) -> str:
    """Write a row's difference of two shares in points of percentage, with its 95 % interval."""
    return f"{100 * row['value']:.1f} points [{100 * row['low']:.1f}, {100 * row['high']:.1f}]"


def quantity(value: float | None, unit: str, low: float | None = None, high: float | None = None) -> str:
    """Write the estimate of a claim in its unit, with its interval where it has one.

    Args:
        value: the estimate; None where it is not known.
        unit: `SHARE`, `DIFFERENCE` or `NUMBER` of the vocabulary.
        low: lower end of the interval.
        high: upper end of the interval.

    Example:
        >>> quantity(0.72, "share", 0.63, 0.798), quantity(0.021, "difference"), quantity(1.591, "number", 1.2, 2.086)
        ('72.0 % [63.0, 79.8]', '2.1 points', '1.59 [1.20, 2.09]')
    """
    if value is None:
        return "–"
    scale, digits = (1, 2) if unit == NUMBER else (100, 1)
    suffix = {SHARE: " %", DIFFERENCE: " points"}.get(unit, "")
    text = f"{scale * value:.{digits}f}{suffix}"
    if low is None or high is None:
        return text
    return f"{text} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def decided_by(row: Mapping[str, Any]) -> str:
    """Return what the verdict on a claim, or on a part of it, rests on; empty where nothing was estimated.

    Args:
        row: of the table "claims" or "claim_parts".

    Example:
        >>> numbers = {"estimate": 0.01, "low": 0.0, "high": 0.05, "margin": 0.5, "unit": "share", "side": "below"}
        >>> decided_by({"measure": "the accuracy of the tail under attack"} | numbers)
        'the accuracy of the tail under attack is 1.0 % [0.0, 5.0]; expected below 50.0 %'
    """
    if row["measure"] is None:
        return ""
    unit = str(row["unit"])
    measured = quantity(row["estimate"], unit, row["low"], row["high"])
    return f"{row['measure']} is {measured}; expected {row['side']} {quantity(row['margin'], unit)}"


def how_judged(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence on what the claims about robust features are judged by, where one of them was judged.

    Args:
        claims: rows of the table "claims".
    """
    told = any(row["claim"] in _BY_HEAD_AND_TAIL and row["verdict"] != NOT_MEASURED for row in claims)
    return [JUDGED_TOGETHER] if told else []


def capitalised(sentence: str) -> str:
    """Return a sentence with its first letter as a capital."""
    return sentence[:1].upper() + sentence[1:]


def listed(parts: Sequence[str]) -> str:
    """Write parts of a sentence as a list.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a"])
        ('a, b and c', 'a')
    """
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def doubts(checks: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return a sentence that warns of the self-checks which an attack on the user's network did not pass, if any."""
    failed: dict[str, list[str]] = {}
    for check in checks:
        if not check["passed"]:
            failed.setdefault(str(check["of"]), []).append(str(check["seen"]))
    if not failed:
        return []
    parts = [f"Failed checks of the {checked}: {' '.join(seen)}" for checked, seen in failed.items()]
    return [f"Read the figures with care. {' '.join(parts)}"]


def at_most(row: Mapping[str, Any]) -> str:
    """Return what the accuracy under an attack says of the robust accuracy: an attack is never a proof of robustness.

    Args:
        row: a row of the table "victim".
    """
    threat = f"ε = {pixels(row['eps'])} in {norm_sign(row['norm'])}"
    return f"robust accuracy at {threat} is at most {share(row)}"


def surrogate_time(source: Mapping[str, Any]) -> str:
    """Return how long a surrogate was trained, and how that time was found.

    Args:
        source: a row of the table "victim_sources".
    """
    if source["kind"] == TRAINED_SOURCE:
        return "trained"
    time = "trained for ever" if source["time"] is None else f"stopped at ηt = {source['time']:.3g}"
    if source.get("loss") is not None:
        time += f" on the {source['loss']}"
    if source.get("search_fooled") is not None:
        return (
            f"{time}, whose images fooled {100 * source['search_fooled']:.0f} % of the victim's right predictions on "
            f"images set aside ({source['queries']} queries)"
        )
    if source.get("correlation") is not None:
        return (
            f"{time}, at which its outputs are most like the victim's on {source['queries']} images (correlation "
            f"{source['correlation']:.2f})"
        )
    return time


def other_outputs(victim_meta: Mapping[str, Any]) -> list[str]:
    """Return a sentence that tells of a network which knows more classes than the data have, if it does."""
    outputs, classes = victim_meta.get("outputs"), victim_meta.get("classes")
    if outputs is None or classes is None or outputs <= classes:
        return []
    order = victim_meta.get("class_outputs")
    taken = f"its first {classes} outputs are" if order is None else f"its outputs {order} are"
    return [
        f"The network has {outputs} outputs and the data have {classes} classes: {taken} taken for them, in this order, "
        "and a prediction of another class counts as wrong."
    ]
