"""How large the default checks are: they ask a model for no more than the attack itself has asked it for."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_IMAGES = 200
_GRADIENT = 2
"""Values that a gradient is counted as; it takes more than two, so that the checks stay below the attack."""
_CALL = 8
"""Values that a call of the model is counted as, beside those of its images."""
_SIZES = ((50, 20, 300), (10, 10, 100), (0, 5, 30))
"""Sizes of the attacks: the images that have to be affordable, steps of PGD, and queries of Square per image."""


@dataclass(frozen=True)
class CheckPlan:
    """What the checks look at.

    Attributes:
        images: test images, the first ones, that the model is asked about.
        attacked: those of them that are attacked.
        steps: steps of PGD.
        queries: largest number of queries per image of Square.
    """

    images: int
    attacked: int
    steps: int
    queries: int


def check_plan(queries: int, gradients: int, n: int) -> CheckPlan:
    """Choose the checks by what an attack has asked a model for; one image at least is attacked.

    Args:
        queries: images that the attack showed to the model without a gradient.
        gradients: images that it showed for a gradient.
        n: number of test images.

    Example:
        >>> check_plan(0, 1000 * 10, 1000)  # ten steps of PGD on a thousand images
        CheckPlan(images=200, attacked=128, steps=10, queries=100)
    """
    images = min(n, _MOST_IMAGES)
    # The checks that attack nothing take three values and a gradient per image.
    left = queries + _GRADIENT * gradients - images * (3 + _GRADIENT)
    attacked, steps, asked = 0, 0, 0
    for enough, steps, asked in _SIZES:
        per_image = 2 * steps * _GRADIENT + asked
        attacked = min(images, (left - _CALL * (2 * steps + asked)) // per_image)
        if attacked >= min(enough, images):
            break
    return CheckPlan(images, max(1, attacked), steps, asked)
