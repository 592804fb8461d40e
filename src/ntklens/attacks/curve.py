"""Accuracy against the radius of an attack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.attacks.ascent import Model
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack, check_perturbed
from ntklens.attacks.evaluate import BATCH, correct
from ntklens.attacks.gradient import fgsm
from ntklens.statistics import Estimate, proportion


@runtime_checkable
class Attack(Protocol):
    """What `fgsm` and `pgd` are, also with options bound by `functools.partial`."""

    def __call__(
        self, model: Model, x: Tensor, y: Tensor, eps: float, norm: str, *, bounds: Bounds, batch_size: int | None
    ) -> Tensor:
        """Images of the ball of radius eps around x."""
        ...


@dataclass(frozen=True)
class AttackPoint:
    """One radius of an accuracy curve.

    Attributes:
        eps: radius, in units of the pixels.
        accuracy: share of right predictions on the attacked images.
        correct: which predictions are right; the same images at every radius, so that radii can be compared in pairs.
    """

    eps: float
    accuracy: Estimate
    correct: Bool[Tensor, " n"]


def accuracy_curve(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    epsilons: Sequence[float],
    attack: Attack = fgsm,
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    batch_size: int = BATCH,
    progress: Callable[[float], None] | None = None,
) -> list[AttackPoint]:
    """Accuracy under the attack at each radius, in the order given; a radius of 0 is the clean accuracy.

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes.
        epsilons: radii, in units of the pixels.
        attack: `fgsm`, `pgd`, or either with options bound: `functools.partial(pgd, steps=40)`.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time.
        progress: called with the share of the work that is done.

    Raises:
        InputError: arguments that do not fit, or attacked images outside the ball or the bounds.
    """
    points = []
    for done, eps in enumerate(epsilons, 1):
        check_attack(x, y, eps, norm, bounds)
        found = x if eps == 0 else attack(model, x, y, eps, norm, bounds=bounds, batch_size=batch_size)
        check_perturbed(found, x, eps, norm, bounds)
        right = correct(model, found, y, batch_size)
        points.append(AttackPoint(eps, proportion(int(right.sum()), len(right)), right))
        if progress is not None:
            progress(done / len(epsilons))
    return points
