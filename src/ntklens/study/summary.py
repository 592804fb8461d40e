"""What a run says in a few plain sentences, for the top of its report."""

from __future__ import annotations

from ntklens.record import Record
from ntklens.study.answers import attack_answer, claims_answer, features_answer
from ntklens.study.claims.base import only_row, rows_of
from ntklens.study.context import Rows
from ntklens.vocabulary import NOT_SEEN, SEEN
from ntklens.wording import doubts, other_outputs


def summary(record: Record, claims: Rows) -> Rows:
    """Return the table "summary": one row per sentence, answers about the user's data first and the papers' claims last.

    Args:
        record: the run.
        claims: the table "claims".
    """
    sentences = [*attack_answer(record), *features_answer(record), *_victim(record), *_data(record)]
    judged = claims_answer(claims, ((SEEN, "seen here"), (NOT_SEEN, NOT_SEEN)))
    return [{"text": text} for text in sentences] + [{"text": text, "about": "claims"} for text in judged]


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
