"""Scoring: what a model predicts on attacked images, counted again from the images themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks.ascent import Model
from ntklens.attacks.balls import Bounds, lengths
from ntklens.attacks.checks import check_attack, check_logits, check_perturbed
from ntklens.attacks.losses import margin
from ntklens.statistics import Estimate, proportion

BATCH = 512


@torch.no_grad()
def logits_of(model: Model, x: Tensor, batch_size: int = BATCH) -> Tensor:
    """Logits of all images, a batch at a time."""
    return torch.cat([model(x[i : i + batch_size]) for i in range(0, max(len(x), 1), batch_size)])


def correct(model: Model, x: Tensor, y: Tensor, batch_size: int = BATCH) -> Bool[Tensor, " n"]:
    """Whether each prediction is the true class."""
    logits = logits_of(model, x, batch_size)
    check_logits(logits, y)
    return logits.argmax(1) == y


def accuracy(model: Model, x: Tensor, y: Tensor, batch_size: int = BATCH) -> Estimate:
    """Share of right predictions with its 95 % Wilson interval."""
    right = correct(model, x, y, batch_size)
    return proportion(int(right.sum()), len(right))


@dataclass(frozen=True)
class Evaluation:
    """What an attack achieved.

    Attributes:
        predictions: classes on the attacked images.
        success: right before, wrong after.
        margins: logit of the true class minus the largest other, on the attacked images.
        l0: number of changed values.
        l1: sum of the changes' sizes.
        l2: Euclidean length of the change.
        linf: largest change of a value.
        clean_accuracy: before.
        robust_accuracy: after.
    """

    predictions: Int[Tensor, " n"]
    success: Bool[Tensor, " n"]
    margins: Float[Tensor, " n"]
    l0: Int[Tensor, " n"]
    l1: Float[Tensor, " n"]
    l2: Float[Tensor, " n"]
    linf: Float[Tensor, " n"]
    clean_accuracy: Estimate
    robust_accuracy: Estimate


def evaluate(
    model: Model,
    x: Tensor,
    x_adv: Tensor,
    y: Tensor,
    eps: float,
    norm: str = "linf",
    bounds: Bounds = (0, 1),
    batch_size: int = BATCH,
) -> Evaluation:
    """Score attacked images, after checking that they are what the attack was allowed.

    Raises:
        InputError: an attacked image lies outside the ball or the bounds by more than rounding.
    """
    check_attack(x, y, eps, norm, bounds)
    check_perturbed(x_adv, x, eps, norm, bounds)
    change = (x_adv - x).flatten(1).abs()
    before = correct(model, x, y, batch_size)
    logits = logits_of(model, x_adv, batch_size)
    check_logits(logits, y)
    after = logits.argmax(1) == y
    return Evaluation(
        predictions=logits.argmax(1),
        success=before & ~after,
        margins=margin(logits, y),
        l0=(change > 0).sum(1),
        l1=change.sum(1),
        l2=lengths(change),
        linf=change.amax(1),
        clean_accuracy=proportion(int(before.sum()), len(y)),
        robust_accuracy=proportion(int(after.sum()), len(y)),
    )
