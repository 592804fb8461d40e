"""The threat model: what an attacker may do to an image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ntklens.arguments import as_count, as_number
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
        if self.norm not in NORMS:
            raise InputError(f'expected the norm "linf" or "l2"; got "{self.norm}".')
        low, high = bounds = _bounds(self.bounds)
        eps = _length(self.eps)
        if eps is None or eps < 0:
            raise InputError(f"expected ε of 0 or more, in units of the pixels ({low} to {high}); got {self.eps}.")
        # A little more than the range is the range after rounding.
        if self.norm == "linf" and eps > (high - low) * (1 + 1e-6):
            steps_of_255 = f"; did you mean {eps:g}/255?" if high - low == 1 and eps <= 255 else "."
            raise InputError(
                f"expected ε of at most {high - low:g} in linf, the range of the pixels ({low} to {high}); got "
                f"{eps:g}{steps_of_255}"
            )
        step_size = None if self.step_size is None else _length(self.step_size)
        if self.step_size is not None and (step_size is None or step_size <= 0):
            raise InputError(f"expected step_size above 0, in units of the pixels; got {self.step_size}.")
        # Plain numbers, whatever kind of number was given: a tensor would keep its graph and its device.
        for name, value in (
            ("bounds", bounds),
            ("eps", eps),
            ("step_size", step_size),
            ("steps", as_count(self.steps, "steps")),
        ):
            object.__setattr__(self, name, value)

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


def _bounds(bounds: Any) -> Bounds:
    """Return the lowest and the highest pixel value as plain numbers."""
    try:
        low, high = (as_number(end, "bounds") for end in bounds)
        ordered = low < high
    except (TypeError, ValueError):  # not two of them, or no numbers; an InputError is a ValueError too
        ordered = False
    if not ordered:
        raise InputError(f"expected bounds as (lowest, highest) pixel value; got {bounds}.")
    return low, high


def _length(value: Any) -> float | None:
    """Return a finite number as a plain one; None for anything else."""
    try:
        plain = as_number(value, "ε")
    except InputError:
        return None
    return plain if math.isfinite(plain) else None
