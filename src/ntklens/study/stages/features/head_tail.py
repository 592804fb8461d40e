"""The head and the tail of the spectrum, each attacked on its own (claims C3, C5 and C6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ntklens.attacks import correct
from ntklens.features import NTKFeatures, best_head
from ntklens.machine import KernelMachine
from ntklens.progress import Progress
from ntklens.statistics import paired_difference
from ntklens.study.context import Context, Rows
from ntklens.study.rows import share_right
from ntklens.study.stages.features.scores import majority, selection_half
from ntklens.vocabulary import ALL, HEAD, TAIL

_COMPARED = ((HEAD, TAIL, True), (ALL, HEAD, True), (ALL, HEAD, False))
"""Sets whose accuracies are compared on the same images, and whether under attack."""


def head_and_tail(
    context: Context, features: NTKFeatures, one_step: Mapping[int, Tensor], progress: Progress
) -> dict[str, Rows]:
    """Choose the head on one half of the test images, and score head, tail and all features on the other half.

    The head is the number of first features, out of those that are given, that is right most often under one step. On
    the scoring half each set is attacked on its own by one step and, where that fails, by PGD; an image counts as right
    under attack where it is right before and after both.

    Args:
        context: of the experiment.
        features: all features.
        one_step: by number of first features, on which test images their machine is right, clean and under one step.
        progress: receives the share done.

    Returns:
        The tables "head_tail" (one row per set), "head_tail_effect" (one row per comparison on the same images),
        "head_tail_meta" and "head_choice" (one row per number that could be chosen); none where nothing is attacked, where
        there are too few images for two halves, or where there is no number to choose.
    """
    x, y = context.test
    chosen_on = selection_half(context)
    scored_on = ~chosen_on
    rank = features.rank
    sizes = sorted(k for k in one_step if k < rank)
    if not sizes or context.threat.eps == 0 or not bool(scored_on.any()):
        return {}
    votes = torch.stack([one_step[k][chosen_on] for k in sizes])
    k = best_head(sizes, votes)
    sets = {HEAD: range(k), TAIL: range(k, rank), ALL: range(rank)}
    clean: dict[str, Tensor] = {}
    attacked: dict[str, Tensor] = {}
    rows: Rows = []
    for done, (name, places) in enumerate(sets.items(), 1):
        clean[name], attacked[name] = _outcomes(context, features.keep(places), x[scored_on], y[scored_on])
        rows.append(
            {
                "features": name,
                "first": places.start,
                "last": places.stop - 1,
                "count": len(places),
                "label_energy": float(features.label_energy[places.start : places.stop].sum()),
                **share_right(clean[name]).row("accuracy"),
                **share_right(attacked[name]).row("robust_accuracy"),
                **share_right(attacked[name][clean[name]]).row("survives"),
                "n": len(clean[name]),
            }
        )
        progress.step(done, len(sets))
    threat = context.threat
    meta: dict[str, Any] = {"k": k, "rank": rank, "n_chosen": int(chosen_on.sum()), "n": int(scored_on.sum())}
    meta |= {"majority": majority(y[scored_on]), "eps": threat.eps, "norm": threat.norm, "steps": threat.steps}
    choice = [
        {"k": size, **share_right(right).row("robust_accuracy"), "n": len(right)}
        for size, right in zip(sizes, votes, strict=True)
    ]
    effects = [_effect(first, second, attacked if hit else clean, hit) for first, second, hit in _COMPARED]
    return {"head_tail": rows, "head_tail_effect": effects, "head_tail_meta": [meta], "head_choice": choice}


def _outcomes(context: Context, machine: KernelMachine, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return on which images a machine is right, and on which it stays right under one step and under PGD."""
    clean = correct(machine, x, y)
    survives = clean.clone()
    # An image that one attack has fooled needs no other one.
    for attack in ("fgsm", "pgd"):
        left = survives.nonzero().flatten()
        if len(left):
            x_adv = context.attacked(attack, machine, x[left], y[left], context.threat.eps)
            survives[left] = correct(machine, x_adv, y[left])
    return clean, survives


def _effect(first: str, second: str, right: dict[str, Tensor], attacked: bool) -> dict[str, Any]:
    difference = paired_difference(right[first].cpu().numpy(), right[second].cpu().numpy())
    return {"first": first, "second": second, "attacked": attacked} | difference.row() | {"n": difference.n}
