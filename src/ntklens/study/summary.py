"""What a run says in a few plain sentences, for the top of its report."""

from __future__ import annotations

from typing import Any

from ntklens.record import Record
from ntklens.study.answers import attack_answer, certificates_answer, claims_answer, features_answer
from ntklens.study.claims.base import only_row, rows_of
from ntklens.study.context import Rows
from ntklens.study.transfer_answer import transfer_answer
from ntklens.vocabulary import (
    CLEAN,
    CONTROL_SOURCE,
    KERNEL_SOURCE,
    NOISE,
    TANGENT_SOURCE,
    TRAINED_SOURCE,
    WATCHED,
    WHITE_BOX_SOURCE,
)
from ntklens.wording import at_most, doubts, listed, other_outputs, percent, share

_MACHINES = (KERNEL_SOURCE, TANGENT_SOURCE, CONTROL_SOURCE)
"""Kinds of sources that are kernel machines."""


def summary(record: Record, claims: Rows) -> Rows:
    """Return the table "summary": one row per sentence, answers about the user's data first and the papers' claims last.

    Args:
        record: the run.
        claims: the table "claims".
    """
    sentences = [*attack_answer(record), *transfer_answer(record), *features_answer(record)]
    sentences += certificates_answer(record)
    sentences += [*_victim(record), *_watched(record), *_data(record)]
    judged = claims_answer(claims)
    return [{"text": text} for text in sentences] + [{"text": text, "about": "claims"} for text in judged]


def _data(record: Record) -> list[str]:
    if not rows_of(record, "data"):
        return []
    data = only_row(record, "data")
    _, height, width = str(data["shape"]).split("x")
    used = f"{data['train']} to fit on, {data['test']} to score on"
    if record.stages == ["data", "dynamics"] and _watched(record):
        used = f"{only_row(record, 'dynamics_meta')['scored']} to score on"  # nothing is fitted
    return [
        f"The images are {data['name']} ({data['classes']}): {used}, {height}x{width} pixels each.",
        *([str(data["notes"])] if data.get("notes") else []),
    ]


def _watched(record: Record) -> list[str]:
    """Return the advice on a training whose checkpoints were watched."""
    return [str(row["text"]) for row in rows_of(record, "advice") if row["training"] == WATCHED]


def _victim(record: Record) -> list[str]:
    """Return how strong the attacks on the user's network are, what they cost, and what casts doubt on the figures."""
    if not rows_of(record, "victim_meta"):
        return []
    meta = only_row(record, "victim_meta")
    rows = {str(row["source"]): row for row in rows_of(record, "victim")}
    sentences = [_strongest(meta, rows), *_best_kernel(record, rows)]
    sentences += [str(note["text"]) for note in rows_of(record, "victim_notes")]
    if trained := [source for source in rows_of(record, "victim_sources") if source["kind"] in _MACHINES]:
        times = [f"{source['source']} {_time(source)}" for source in trained]
        sentences.append(
            f"Training times of the kernel machines: {listed(times)}. A kernel and its sample, the first training images, "
            "are the same for every seed."
        )
    again = meta["repeated_queries"]
    sentences.append(
        f"The victim was asked about {meta['asked']} images in all, {meta['scoring_queries']} of them to score the attacks "
        f"and {meta['check_queries']} for the checks"
        + (f"; {again} were asked before an interruption, and again after it." if again else ".")
    )
    strongest = rows[str(meta["strongest"])]
    sentences.append(
        f"Rounded to 8 bits, as a file holds them, the images of {meta['strongest']} leave "
        f"{percent(strongest['rounded_accuracy'])} right; rounding moves a pixel by half a step of 255ths at most."
    )
    return sentences + other_outputs(meta) + doubts(rows_of(record, "victim_checks"))


def _time(source: dict[str, Any]) -> str:
    time = "∞" if source["time"] is None else f"{source['time']:.3g}"
    if source.get("loss") is not None:
        time += f" on the {source['loss']}"
    return f"ηt = {time} ({source['queries']} queries of the victim)"


def _strongest(meta: dict[str, Any], rows: dict[str, dict[str, Any]]) -> str:
    """Return which attack is the strongest, and what that says of the network."""
    name = str(meta["strongest"])
    count = len(rows) - 2
    who = (
        f"The strongest of {count} attacks on {meta['victim']} is {name}"
        if count > 1
        else f"{meta['victim']} under {name}"
    )
    together = f" Under all {count} together it is {share(meta, 'worst_accuracy')}." if count > 1 else ""
    return (
        f"{who} ({rows[name]['kind']}): {at_most(rows[name])}, after {percent(rows[CLEAN]['accuracy'])} on clean images "
        f"and {percent(rows[NOISE]['accuracy'])} under noise of the same size.{together} An attack gives an upper bound, "
        "never a proof of robustness."
    )


def _best_kernel(record: Record, rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return how the best kernel of an untrained network compares with noise, a trained surrogate and the white box."""
    kernels = [row for row in rows.values() if row["kind"] == KERNEL_SOURCE]
    if not kernels:
        return []
    best = min(kernels, key=lambda row: float(row["accuracy"]))["source"]
    parts = []
    for effect in rows_of(record, "victim_effect"):
        if best not in (effect["first"], effect["second"]):
            continue
        # Noise stands first in its pair, the kernel in the others: both are turned into what the kernel takes off.
        sign = 1 if effect["second"] == best else -1
        other = effect["first"] if sign == 1 else effect["second"]
        value, low, high = sign * effect["value"], *sorted((sign * effect["low"], sign * effect["high"]))
        more = "more" if value >= 0 else "less"
        kind = {TRAINED_SOURCE: "the trained ", WHITE_BOX_SOURCE: "the "}.get(str(rows[str(other)]["kind"]), "")
        parts.append(f"{100 * abs(value):.1f} points {more} than {kind}{other} [{100 * low:+.1f}, {100 * high:+.1f}]")
    return [f"{best}, the best kernel of an untrained network, takes off {listed(parts)} (95 % intervals)."]
