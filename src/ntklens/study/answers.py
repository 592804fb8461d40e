"""What a run says about the user's own data, in sentences for the head of the report, for the console and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ntklens.record import Record
from ntklens.study.claims.base import only_row, rows_of
from ntklens.study.context import Rows
from ntklens.vocabulary import (
    ALL,
    CANNOT_TELL,
    CONTRADICTED,
    FRAGILE,
    HEAD,
    PARTLY,
    ROBUST,
    SEEN,
    TAIL,
    USELESS,
)
from ntklens.wording import how_judged, pixels, share

_OWN = ("N1",)
"""Claims that are no paper's."""
_MOST_RANGES = 8
"""Most ranges of indices that a sentence lists."""


def attack_answer(record: Record) -> list[str]:
    """Return what the kernel machine gets right: clean, under attack, and under noise of the same size."""
    curve = rows_of(record, "attack_curve")
    if not curve:
        return []
    eps = only_row(record, "attack_effect")["eps"]
    clean = next(row for row in curve if row["eps"] == 0)
    at_eps = {row["attack"]: row for row in curve if row["eps"] == eps}
    sentences = [f"The kernel machine, which trains no network, is right on {share(clean)} of clean test images."]
    if eps > 0:
        attacks = {"fgsm": "in one step", "pgd": "by PGD"}
        parts = [f"{share(at_eps[name])} {words}" for name, words in attacks.items() if name in at_eps]
        sentences.append(
            f"Where perturbations of ε = {pixels(eps)} are made from the kernel alone, it is right on "
            f"{' and '.join(parts)}; random signs of the same size leave {share(at_eps['noise'])}."
        )
    return [" ".join(sentences)]


def features_answer(record: Record) -> list[str]:
    """Return which features are robust, what they carry clean and under attack, and what carries the fragile part."""
    rows = rows_of(record, "features")
    if not rows:
        return []
    meta = only_row(record, "features_meta")
    found = by_category(record)
    unshown = len(found[USELESS])
    if meta["eps"] == 0:
        useful = sorted(found[ROBUST] + found[PARTLY] + found[FRAGILE])
        return [
            f"Of {len(rows)} features, {counted(useful)} shown to be useful by the {meta['n']} test images. With ε = 0 "
            "nothing was attacked, so this run says nothing about robustness."
        ]
    named = {ROBUST: "useful and robust", PARTLY: "useful and partly robust", FRAGILE: "useful but not robust"}
    parts = [f"{counted(found[category])} {words}" for category, words in named.items()]
    ending = f"; {unshown} {'is' if unshown == 1 else 'are'} not shown to be useful alone"
    told = "none is shown to be useful alone" if unshown == len(rows) else ", ".join(parts) + ending
    sentences = [
        f"Of {len(rows)} features, each scored alone on all {meta['n']} test images at ε = {pixels(meta['eps'])}, {told}."
    ]
    if rows_of(record, "head_tail"):
        sentences[0] += " The categories judge features one by one and are a picture; the claims rest on head and tail."
        return [*_head_and_tail(record), *sentences, *_chosen(record, with_all=False)]
    return [*sentences, *_chosen(record), *_first(record, meta["majority"]), *_together(record)]


def _head_and_tail(record: Record) -> list[str]:
    """Return what the first features carry, clean and under attack, and what the rest."""
    meta = only_row(record, "head_tail_meta")
    sets = {str(row["features"]): row for row in rows_of(record, "head_tail")}
    k = meta["k"]
    which = "The first feature is" if k == 1 else f"The first {k} features, those of largest eigenvalue, are"
    parts = [
        f"{name} {share(sets[key])} clean and {share(sets[key], 'robust_accuracy')} under attack"
        for key, name in (
            (HEAD, "the head alone is right on"),
            (TAIL, "all other features alone on"),
            (ALL, "all together on"),
        )
    ]
    return [
        f"{which} the head; one half of the test images chose how many. On the other {meta['n']} images "
        f"{', '.join(parts)}; the majority class is {100 * meta['majority']:.1f} %."
    ]


def certificates_answer(record: Record) -> list[str]:
    """Return on how many images the head and all features are proved right, beside what an attack leaves."""
    rows = rows_of(record, "certified")
    if not rows:
        return []
    meta = only_row(record, "certified_meta")
    last = {str(row["machine"]): row for row in rows if row["eps"] == meta["eps"]}
    parts = [
        f"{name} {share(last[key], 'certified_accuracy')} (PGD leaves {share(last[key], 'robust_accuracy')})"
        for key, name in ((HEAD, "the head is proved right on"), (ALL, "all features together on"))
    ]
    return [
        f"Whatever the perturbation of up to ε = {pixels(meta['eps'])}, {', '.join(parts)}, of {meta['n']} test images. "
        f"{meta['about']}"
    ]


def by_category(record: Record) -> dict[str, list[int]]:
    """Return the indices of the features in each category, by all test images; 0 is the largest eigenvalue."""
    rows = rows_of(record, "features")
    return {
        category: [int(row["index"]) for row in rows if row["category"] == category]
        for category in (ROBUST, PARTLY, FRAGILE, USELESS)
    }


def _chosen(record: Record, *, with_all: bool = True) -> list[str]:
    """Return what the robust and the non-robust features carry, chosen by half of the images and scored on the others.

    Args:
        record: the run.
        with_all: tell of all features together too; without them nothing is said where no features were chosen.
    """
    sets = {row["features"]: row for row in rows_of(record, "subsets")}
    if not sets or not (with_all or ROBUST in sets or FRAGILE in sets):
        return []
    halves = {
        category: [int(row["index"]) for row in rows_of(record, "features") if row["by_half"] == category]
        for category in (ROBUST, FRAGILE)
    }
    sentence = (
        "To score sets of features fairly, they are chosen again by one half of the test images and scored on the other "
        "half, so these numbers differ from those above: "
    )
    parts = []
    for category, words in ((ROBUST, "robust"), (FRAGILE, "useful non-robust")):
        if category in sets:
            parts.append(
                f"the {words} features ({_named(halves[category])}) alone are right on {_both(sets[category])}"
            )
        else:
            parts.append(f"no feature counts as {words}")
    if with_all:
        parts.append(f"all features together on {_both(sets['all'])}")
    return [f"{sentence}{'; '.join(parts)}."]


def _first(record: Record, majority: float) -> list[str]:
    """Return the number of first features of the highest accuracy under attack, beside all of them."""
    rows = rows_of(record, "top_k")
    useful = [row for row in rows[:-1] if row["accuracy_low"] > majority]
    if not useful:
        return []
    best = max(useful, key=lambda row: row["robust_accuracy"])
    return [
        f"Of the first features, those of largest eigenvalue, {best['k']} keep most under attack: {_both(best)} of all "
        "test images, on which this number was chosen out of those tried; "
        f"all {rows[-1]['k']} features are right on {_both(rows[-1])}."
    ]


def _together(record: Record) -> list[str]:
    """Return the bands of several features that are useful together: those that hold under attack, and those that fall."""
    sentences = []
    for category, words in (
        (ROBUST, "Robust and useful together are"),
        (FRAGILE, "What falls under attack is carried, together, by"),
    ):
        bands = [row for row in rows_of(record, "bands") if row["category"] == category and row["count"] > 1]
        parts = [f"{row['first']} to {row['last']} ({_both(row)})" for row in bands]
        sentences += [f"{words} features {'; '.join(parts)}."] if parts else []
    return sentences


def _both(row: dict[str, object]) -> str:
    return f"{share(row)} clean and {share(row, 'robust_accuracy')} under one step"


def counted(indices: Sequence[int]) -> str:
    """Return how many features these are and which, with the verb that fits.

    Example:
        >>> counted([]), counted([4]), counted([0, 1, 2, 7])
        ('none is', '1 (feature 4) is', '4 (features 0 to 2, 7) are')
    """
    if not indices:
        return "none is"
    return f"{len(indices)} ({_named(indices)}) {'is' if len(indices) == 1 else 'are'}"


def _named(indices: Sequence[int]) -> str:
    return f"feature{'s' * (len(indices) != 1)} {ranges(indices)}"


def ranges(indices: Sequence[int]) -> str:
    """Return ascending indices with the neighbours among them as ranges; the first eight ranges only.

    Example:
        >>> ranges([0, 1, 2, 5, 7, 8])
        '0 to 2, 5, 7 to 8'
    """
    runs: list[list[int]] = []
    for i in indices:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_MOST_RANGES]]
    more = sum(len(run) for run in runs[_MOST_RANGES:])
    return ", ".join(texts) + (f" and {more} more" if more else "")


def claims_answer(claims: Rows) -> list[str]:
    """Return which of the claims were seen, which contradicted, and what would decide the others.

    Args:
        claims: the table "claims".
    """
    sentences = []
    for whose, own in (("the claims of the papers", False), ("the claims of ntklens", True)):
        rows = [row for row in claims if (row["claim"] in _OWN) == own]
        parts = []
        for verdict in (SEEN, CONTRADICTED, CANNOT_TELL):
            named = [f"{row['claim']} ({_clause(row)})" for row in rows if row["verdict"] == verdict]
            parts += [f"{verdict}: {', '.join(named)}"] if named else []
        sentences += [f"Of {whose}, {'; '.join(parts)}."] if parts else []
    return [" ".join([*sentences, *how_judged(claims)])] if sentences else []


def _clause(row: dict[str, Any]) -> str:
    sentence = str(row["statement"])
    clause = sentence[0].lower() + sentence[1:].removesuffix(".")
    return f"{clause}; {row['would_decide']} would decide" if row["would_decide"] else clause
