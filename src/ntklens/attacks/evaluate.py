"""Scoring: what a model predicts on attacked images, measured from the images themselves, whichever attack made them."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_tensor, check_finite
from ntklens.attacks.balls import Bounds, lengths
from ntklens.attacks.checks import check_attack, check_logits, check_perturbed
from ntklens.attacks.losses import margin
from ntklens.attacks.model import BATCH, Model, logits_of
from ntklens.attacks.threat import Threat
from ntklens.modules import guarded
from ntklens.statistics import Estimate, proportion


def correct(model: Model, x: Tensor, y: Tensor, batch_size: int = BATCH) -> Bool[Tensor, " n"]:
    """Return whether each prediction is the true class: (n,).

    Raises:
        InputError: images with values that are not finite, or labels that are not one class index per image.
    """
    x = as_tensor(x, "x")
    check_finite(x, "x")
    y = as_classes(y, len(x), device=x.device)
    with guarded(model, x, y) as (model, x, y):
        logits = logits_of(model, x, batch_size)
        check_logits(logits, y)
        return logits.argmax(1) == y


def accuracy(model: Model, x: Tensor, y: Tensor, batch_size: int = BATCH) -> Estimate:
    """Compute the share of right predictions with its 95 % Wilson interval."""
    right = correct(model, x, y, batch_size)
    return proportion(int(right.sum()), len(right))


@dataclass(frozen=True)
class Evaluation:
    """What an attack achieved.

    Attributes:
        predictions: predicted classes on the attacked images.
        success: which images are predicted right when clean and wrong when attacked.
        margins: logit of the true class minus the largest other logit, on the attacked images.
        l0: number of changed pixel values of each image.
        l1: sum of the absolute changes.
        l2: Euclidean length of the change.
        linf: largest absolute change.
        clean_accuracy: share of right predictions on the clean images.
        robust_accuracy: share of right predictions on the attacked images.
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

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.success)} images: {self._accuracies()})"

    def _accuracies(self) -> str:
        clean, robust = (100 * e.value for e in (self.clean_accuracy, self.robust_accuracy))
        return f"{clean:.1f} % right clean, {robust:.1f} % attacked"


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
    """Score attacked images, after a check that they lie within the threat model.

    Args:
        model: images to logits.
        x: the clean images, within the bounds.
        x_adv: the attacked images.
        y: true classes.
        eps: radius that the attack was allowed, in units of the pixels.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time.

    Raises:
        InputError: an attacked image lies outside the ball or the bounds by more than rounding.
    """
    threat = Threat(eps, norm, bounds=bounds)
    x, y = check_attack(x, y, threat.bounds)
    return score(model, x, x_adv, y, threat, batch_size)


def score(model: Model, x: Tensor, x_adv: Tensor, y: Tensor, threat: Threat, batch_size: int = BATCH) -> Evaluation:
    """Score attacked images as `evaluate` does, where x and y have been checked before.

    Raises:
        InputError: an attacked image lies outside the ball or the bounds by more than rounding.
    """
    x_adv = check_perturbed(x_adv, x, threat)
    with guarded(model, x, x_adv, y) as (model, x, x_adv, y):
        change = (x_adv - x).flatten(1).abs()
        clean_correct = correct(model, x, y, batch_size)
        logits = logits_of(model, x_adv, batch_size)
        check_logits(logits, y)
        predictions = logits.argmax(1)
        robust_correct = predictions == y
        return Evaluation(
            predictions=predictions,
            success=clean_correct & ~robust_correct,
            margins=margin(logits, y),
            l0=(change > 0).sum(1),
            l1=change.sum(1),
            l2=lengths(change),
            linf=change.amax(1),
            clean_accuracy=proportion(int(clean_correct.sum()), len(y)),
            robust_accuracy=proportion(int(robust_correct.sum()), len(y)),
        )
