"""What a run says in a few plain sentences, for the top of its report."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.study.claims.base import only_row, rows_of
from ntklens.study.context import Rows
from ntklens.vocabulary import NOT_SEEN, SEEN
from ntklens.wording import doubts, other_outputs, pixels, share


def summary(record: Record, claims: Rows) -> Rows:
    """Return the table "summary": one row per sentence.

    Args:
        record: the run.
        claims: the table "claims".
    """
    sentences = [*_data(record), *_attack(record), *_victim(record), *_claims(claims)]
    return [{"text": sentence} for sentence in sentences]


def _data(record: Record) -> list[str]:
    if not rows_of(record, "data"):
        return []
    data = only_row(record, "data")
    _, height, width = str(data["shape"]).split("x")
    return [
        f"The images are {data['name']} ({data['classes']}): {data['train']} to fit on, "
        f"{data['test']} to score on, {height}x{width} pixels each.",
        *([str(data["notes"])] if data.get("notes") else []),
    ]


def _attack(record: Record) -> list[str]:
    curve = rows_of(record, "attack_curve")
    if not curve:
        return []
    eps = only_row(record, "attack_effect")["eps"]
    clean = next(row for row in curve if row["eps"] == 0)
    at_eps = {row["attack"]: row for row in curve if row["eps"] == eps}
    return [
        f"The kernel machine, which trains no network, is right on {share(clean)} of clean images. "
        f"Perturbations of ε = {pixels(eps)} made from the kernel alone bring that down to "
        f"{share(at_eps['fgsm'])} in one step; random signs of the same size leave "
        f"{share(at_eps['noise'])}."
    ]


def _victim(record: Record) -> list[str]:
    """Return the surrogate's training time, and what casts doubt on the figures."""
    if not rows_of(record, "victim_meta"):
        return []
    meta = only_row(record, "victim_meta")
    sentences = []
    if meta["surrogate"] and meta["kernel"]:
        time = "∞" if meta["time"] is None else f"{meta['time']:.3g}"
        sentences.append(
            f"The surrogate's training time is ηt = {time}; finding it took {meta['queries']} queries of the victim. Its "
            "kernel and its sample, the first training images, are the same for every seed."
        )
    if meta["surrogate"]:
        sentences.append(
            f"The victim was asked about {meta['asked']} images in all, {meta['scoring_queries']} of them to score the "
            f"attacks and {meta['check_queries']} for the checks."
        )
    return sentences + other_outputs(meta) + doubts(meta, rows_of(record, "victim_checks"))


def _claims(claims: Rows) -> list[str]:
    verdicts = (
        (verdict, [row["claim"] for row in claims if row["verdict"] == verdict]) for verdict in (SEEN, NOT_SEEN)
    )
    parts = [
        f"{'seen here' if verdict == SEEN else verdict}: {', '.join(names)}" for verdict, names in verdicts if names
    ]
    return [f"Of the paper's claims, {'; '.join(parts)}."] if parts else []
