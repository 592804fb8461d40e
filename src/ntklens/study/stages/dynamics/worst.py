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

from ntklens.attacks import correct, pgd, square
from ntklens.schema import WORST_CASE
from ntklens.study.context import Context
from ntklens.study.rows import share_right
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.study.streams import Stream

NOT_MEASURED: dict[str, Any] = dict.fromkeys(WORST_CASE)
"""The columns of `worst_columns` for a model that could not be trained or fitted."""


def worst_columns(clean: Tensor, under_pgd: Tensor, right: Tensor) -> dict[str, Any]:
    """Return the columns of a model's accuracy on clean images, under PGD and in the worst case, from `worst_outcomes`."""
    return {
        **share_right(clean).row("accuracy"),
        **share_right(right).row("robust_accuracy"),
        "pgd_accuracy": float(under_pgd.double().mean()),
        "n": len(clean),
    }


def worst_outcomes(
    context: Context,
    spec: DynamicsSpec,
    model: nn.Module,
    smooth: Sequence[nn.Module],
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return on which images a model is right: clean, under PGD, and in the worst case of several attacks, (n,) each.

    An image counts as robust when the model is right on it as it is, under PGD on the model, under PGD on related networks
    with honest gradients, and under Square, a search that asks for no gradient.

    Args:
        context: the experiment, for norm, radius and seed.
        spec: the steps of PGD and the queries of Square.
        model: images to logits.
        smooth: networks whose PGD images are shown to the model, too.
        x: test images.
        y: their classes.
    """
    threat = context.threat

    def attacked(network: nn.Module) -> Tensor:
        return pgd(network, x, y, threat.eps, threat.norm, steps=spec.attack_steps)

    clean = correct(model, x, y)
    under_pgd = correct(model, attacked(model), y)
    right = clean & under_pgd
    for network in smooth:
        right &= correct(model, attacked(network), y)
    if bool(right.any()):
        # Only the images that are still right are searched: the search takes by far the most queries.
        generator = context.generator(Stream.SQUARE)
        x_adv = square(model, x[right], y[right], threat.eps, threat.norm, queries=spec.queries, generator=generator)
        right[torch.nonzero(right)[:, 0]] = correct(model, x_adv, y[right])
    return clean, under_pgd, right
