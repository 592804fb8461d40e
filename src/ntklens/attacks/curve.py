"""Accuracy against the radius of an attack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack, check_perturbed
from ntklens.attacks.evaluate import correct
from ntklens.attacks.gradient import fgsm
from ntklens.attacks.model import BATCH, Model
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, proportion


@runtime_checkable
class AttackFunction(Protocol):
    """The form of `fgsm` and `pgd`, also with options bound by `functools.partial`."""

    def __call__(
        self, model: Model, x: Tensor, y: Tensor, eps: float, norm: str, *, bounds: Bounds, batch_size: int | None
    ) -> Tensor:
        """Return images of the balls of radius eps around x."""
        ...


@dataclass(frozen=True)
class AttackPoint:
    """One radius of an accuracy curve.

    Attributes:
        eps: radius, in units of the pixels.
        accuracy: share of right predictions on the attacked images.
        correct: which predictions are right. All radii have the same images, so they can be compared in pairs.
    """

    eps: float
    accuracy: Estimate
    correct: Bool[Tensor, " n"]


def accuracy_curve(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    epsilons: Sequence[float],
    attack: AttackFunction = fgsm,
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    batch_size: int = BATCH,
    progress: Report | None = None,
) -> list[AttackPoint]:
    """Compute the accuracy under an attack at each radius, in the order given; at radius 0 it is the clean accuracy.

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes.
        epsilons: radii, in units of the pixels.
        attack: `fgsm`, `pgd`, or either with options bound: `functools.partial(pgd, steps=40)`.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time.
        progress: called with the share of the work that is done, from 0 to 1.

    Raises:
        InputError: arguments that do not fit, or attacked images outside the ball or the bounds.
    """
    threats = [Threat(eps, norm, bounds=bounds) for eps in epsilons]
    if not threats:
        raise InputError("expected at least one ε; got an empty list.")
    x, y = check_attack(x, y, threats[0].bounds)
    progress = Progress(progress)
    points = []
    for done, threat in enumerate(threats, 1):
        x_adv = x if threat.eps == 0 else attack(model, x, y, threat.eps, norm, bounds=bounds, batch_size=batch_size)
        x_adv = check_perturbed(x_adv, x, threat)
        hits = correct(model, x_adv, y, batch_size)
        points.append(AttackPoint(threat.eps, proportion(int(hits.sum()), len(hits)), hits))
        progress.step(done, len(threats))
    return points
