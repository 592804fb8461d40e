"""Robust accuracy of functions whose gradients mislead.

The Jacobian of a ReLU network in its parameters jumps wherever a unit switches on or off, and so, as functions of the
image, do its first-order expansion and the machine on its empirical kernel. Gradients do not see the jumps, and training
can hide behind them: PGD alone then flatters, at times beyond the accuracy on clean images.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.attacks import accuracy, correct, pgd, square
from ntklens.statistics import proportion
from ntklens.study.context import Context
from ntklens.study.spec import DynamicsSpec
from ntklens.study.streams import Stream


def worst_case(
    context: Context,
    spec: DynamicsSpec,
    model: nn.Module,
    smooth: Sequence[nn.Module],
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
) -> dict[str, Any]:
    """Columns of the share right on clean images, under PGD on the model, and on the image and whatever is made of it.

    An image counts as robust when it is right as it is, under PGD on the model, under PGD on related networks with honest
    gradients, and under Square, a search that asks for no gradient.

    Args:
        context: of the experiment: norm, radius and seed.
        spec: steps and queries.
        model: images to logits.
        smooth: networks whose PGD images are shown to the model, too.
        x: test images.
        y: their classes.
    """
    threat = context.threat
    clean = accuracy(model, x, y)
    right = correct(model, x, y)
    own = pgd(model, x, y, threat.eps, threat.norm, steps=spec.attack_steps)
    seen = correct(model, own, y)
    right &= seen
    for network in smooth:
        right &= correct(model, pgd(network, x, y, threat.eps, threat.norm, steps=spec.attack_steps), y)
    if bool(right.any()):
        found = square(
            model,
            x[right],
            y[right],
            threat.eps,
            threat.norm,
            queries=spec.queries,
            generator=context.generator(Stream.SQUARE),
        )
        right[torch.nonzero(right)[:, 0]] = correct(model, found, y[right])
    robust = proportion(int(right.sum()), len(y))
    return {
        "accuracy": clean.value,
        "low": clean.low,
        "high": clean.high,
        "robust_accuracy": robust.value,
        "robust_low": robust.low,
        "robust_high": robust.high,
        "pgd_accuracy": float(seen.double().mean()),
        "n": len(y),
    }
