"""Scoring: what a model predicts on attacked images, counted again from the images themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks.balls import Bounds, check_norm, lengths
from ntklens.attacks.checks import check_images, check_logits
from ntklens.attacks.gradient import Model
from ntklens.attacks.losses import margin
from ntklens.errors import InputError
from ntklens.statistics import Estimate, proportion

BATCH = 512


@torch.no_grad()
def logits_of(model: Model, x: Tensor, batch_size: int = BATCH) -> Tensor:
    """Logits of all images, a batch at a time."""
    return torch.cat([model(x[i : i + batch_size]) for i in range(0, len(x), batch_size)])


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
        linf: largest change of a pixel.
        l2: Euclidean length of the change.
        clean_accuracy: before.
        robust_accuracy: after.
    """

    predictions: Int[Tensor, " n"]
    success: Bool[Tensor, " n"]
    margins: Float[Tensor, " n"]
    linf: Float[Tensor, " n"]
    l2: Float[Tensor, " n"]
    clean_accuracy: Estimate
    robust_accuracy: Estimate


def evaluate(
    model: Model, x: Tensor, x_adv: Tensor, y: Tensor, eps: float, norm: str = "linf", bounds: Bounds = (0, 1)
) -> Evaluation:
    """Score attacked images, after checking that they are what the attack was allowed.

    Raises:
        InputError: an attacked image lies outside the ball or the bounds by more than rounding.
    """
    check_norm(norm)
    check_images(x_adv, bounds)
    delta = x_adv - x
    linf, l2 = delta.flatten(1).abs().max(1).values, lengths(delta)
    size = float((linf if norm == "linf" else l2).max())
    if size > eps * (1 + 1e-5) + 1e-6:
        raise InputError(f"an attacked image is {size:g} away in {norm}, outside the radius {eps:g}; project it first.")
    before = correct(model, x, y)
    logits = logits_of(model, x_adv)
    check_logits(logits, y)
    after = logits.argmax(1) == y
    return Evaluation(
        predictions=logits.argmax(1),
        success=before & ~after,
        margins=margin(logits, y),
        linf=linf,
        l2=l2,
        clean_accuracy=proportion(int(before.sum()), len(y)),
        robust_accuracy=proportion(int(after.sum()), len(y)),
    )
