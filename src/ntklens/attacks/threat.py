"""The threat model: what an attacker may do to an image."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import SupportsIndex

import torch
from torch import Tensor

from ntklens.attacks import balls
from ntklens.attacks.balls import Bounds
from ntklens.errors import InputError

NORMS = ("linf", "l2")


def default_step(eps: float, steps: int) -> float:
    """Return the length of one of several steps where none is given: 2.5 ε / steps (Madry et al. 2018).

    The steps together reach 2.5 times the radius, so that an image can cross the ball and turn on the way.
    """
    return 2.5 / steps * eps


@dataclass(frozen=True)
class Threat:
    """What an attacker may do to an image: a ball around it, and the steps of a gradient attack in this ball.

    Attributes:
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        steps: 1 for one step (FGSM), more for projected gradient ascent (PGD).
        step_size: length of a step, in units of the pixels; by default ε for one step and 2.5 ε / steps for more.
        bounds: lowest and highest pixel value.

    Raises:
        InputError: a radius, norm, number or length of steps, or bounds that no attack can have.

    Example:
        >>> Threat(0.1, steps=10).step_length
        0.025
    """

    eps: float
    norm: str = "linf"
    steps: int = 1
    step_size: float | None = None
    bounds: Bounds = (0, 1)

    def __post_init__(self) -> None:
        low, high = self.bounds
        if self.norm not in NORMS:
            raise InputError(f'expected the norm "linf" or "l2"; got "{self.norm}".')
        if not low < high:
            raise InputError(f"expected bounds as (lowest, highest) pixel value; got {self.bounds}.")
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise InputError(f"expected ε of 0 or more, in units of the pixels ({low} to {high}); got {self.eps}.")
        if not isinstance(self.steps, SupportsIndex) or operator.index(self.steps) < 1:
            raise InputError(f"expected steps as a whole number of 1 or more; got {self.steps}.")
        if self.step_size is not None and not (math.isfinite(self.step_size) and self.step_size > 0):
            raise InputError(f"expected step_size above 0, in units of the pixels; got {self.step_size}.")

    @property
    def step_length(self) -> float:
        """Length of one step, in units of the pixels."""
        if self.step_size is not None:
            return self.step_size
        return self.eps if self.steps == 1 else default_step(self.eps, self.steps)

    def ascend(self, gradient: Tensor) -> Tensor:
        """Compute the unit step of steepest ascent in the norm, in the shape of the gradient."""
        return balls.ascend(gradient, self.norm)

    def project(self, x_adv: Tensor, x: Tensor) -> Tensor:
        """Compute the nearest points to x_adv in the balls around x that lie within the bounds."""
        return balls.project(x_adv, x, self.eps, self.norm, self.bounds)

    def random_start(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Draw a point uniformly from the ball around each image, then bring it within the bounds."""
        return balls.random_start(x, self.eps, self.norm, self.bounds, generator)
