"""Who is fooled by whom, in a sentence for each victim."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.study.claims.base import only_row, rows_of
from ntklens.vocabulary import CLEAN, NOISE, WHITE_BOX
from ntklens.wording import percent, pixels, share

_MOST_VICTIMS = 4
"""Most victims that have a sentence of their own."""


def transfer_answer(record: Record) -> list[str]:
    """Return what each victim gets right: clean, under the best surrogate, under noise, and under its own white box.

    Returns:
        One text; nothing where no images were transferred.
    """
    rows = rows_of(record, "transfer_means")
    if not rows:
        return []
    meta = only_row(record, "transfer_meta")
    victims = list(dict.fromkeys(str(row["victim"]) for row in rows))
    seeds = max(int(row["seeds"]) for row in rows)
    means = f" and as means over {seeds} trainings" if seeds > 1 else ""
    sentences = [_of_victim(victim, rows) for victim in victims[:_MOST_VICTIMS]]
    if len(victims) > _MOST_VICTIMS:
        sentences.append(f"{len(victims) - _MOST_VICTIMS} further victims are in the table.")
    if any(_says_nothing(row) for row in rows if row["victim"] in victims[:_MOST_VICTIMS]):
        sentences.append(f"{seeds} seeds are too few for an interval where none is given.")
    return [f"At ε = {pixels(meta['eps'])}{means}: {' '.join(sentences)}"]


def _of_victim(victim: str, rows: list[dict[str, Any]]) -> str:
    own = {str(row["surrogate"]): row for row in rows if row["victim"] == victim}
    made = [name for name in own if name not in (CLEAN, NOISE, WHITE_BOX)]
    parts = []
    if made:
        best = min(made, key=lambda name: float(own[name]["accuracy"]))
        parts.append(f"{_share(own[best])} of those made on {best}" + _strongest(len(made), best, own))
        untrained = [name for name in made if name.startswith("ntk:")]
        if untrained and best not in untrained:
            kernel = min(untrained, key=lambda name: float(own[name]["accuracy"]))
            which = ", the best kernel of an untrained network" if len(untrained) > 1 else ", a kernel without training"
            parts.append(f"{_share(own[kernel])} of those made on {kernel}{which}")
    if NOISE in own:
        parts.append(f"{_share(own[NOISE])} under noise of the same size")
    parts.append(f"{_share(own[WHITE_BOX])} where they are made on the victim itself")
    return f"{victim} is right on {_share(own[CLEAN])} of the clean images, {'; '.join(parts)}."


def _strongest(count: int, best: str, own: dict[str, dict[str, Any]]) -> str:
    """Return a clause that calls a surrogate the strongest of several, if there are several and it is alone."""
    lowest = float(own[best]["accuracy"])
    if count == 1 or lowest >= float(own[CLEAN]["accuracy"]):
        return ""
    return f", the strongest of {count} surrogates"


def _share(row: dict[str, Any]) -> str:
    """Return a mean with its interval; without an interval that reaches from 0 to 100 %, which says nothing."""
    return percent(row["accuracy"]) if _says_nothing(row) else share(row)


def _says_nothing(row: dict[str, Any]) -> bool:
    return row["accuracy_low"] is not None and row["accuracy_low"] <= 0 and row["accuracy_high"] >= 1
