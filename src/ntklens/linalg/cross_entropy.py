"""Gradient flow of the cross-entropy: the machine of networks that are trained on it, as most classifiers are.

With logits z = Θ α and the loss Σ_i log Σ_c exp(z_ic) - z_i,y the coefficients move by

    dα/dt = η (Y - softmax(Θ α)),    α(0) = 0,

and for two classes, whose scalar f stands for the logits (-f/2, f/2), by dα/dt = η y σ(-y f). Unlike the filters this is no
function of the spectrum, because the softmax is not linear.

The flow is stiff: its rates reach from λ_1 / 4, or λ_1 / 2 for more classes, down to nothing. It is integrated by the
second-order Runge-Kutta-Chebyshev method (Sommeijer, Shampine & Verwer 1997), whose steps are as long as the error allows:
s stages are stable for rates up to 0.65 s² per step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import NumericalFailure
from ntklens.linalg.filters import Unfiltered, checked_number
from ntklens.progress import Progress, Report

TOLERANCE = 1e-9
"""Error of a step, relative to the coefficients."""
_DAMPING = 2 / 13
_MOST_STAGES = 500
_MOST_STEPS = 20_000


@dataclass(frozen=True)
class CrossEntropy(Unfiltered):
    """Gradient flow of the cross-entropy from the zero function, stopped at `time`; it stands where a filter does.

    Attributes:
        time: t, from 0; finite, because the loss has no minimum where the classes can be told apart.
        learning_rate: η, of the sum of the images' losses.
    """

    time: float
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", checked_number(self.time, "time"))
        rate = checked_number(self.learning_rate, "learning rate", positive=True)
        object.__setattr__(self, "learning_rate", rate)

    @property
    def how(self) -> str:
        """How the coefficients are found, in words."""
        return f"on the cross-entropy for the time {self.time:g}"


def residual(outputs: Float[Tensor, "n O"], targets: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
    """Return minus the gradient of the cross-entropy in the outputs: y σ(-y f) for one column, Y - softmax for more."""
    if targets.shape[1] == 1:
        return targets * torch.sigmoid(-targets * outputs)
    return targets - torch.softmax(outputs, 1)


def cross_entropy_flow(
    multiply: Callable[[Tensor], Tensor],
    targets: Float[Tensor, "n O"],
    largest: float,
    duration: float,
    progress: Report | None = None,
) -> tuple[Float[Tensor, "n O"], float, int]:
    """Integrate the flow up to η t.

    Args:
        multiply: computes Θ α.
        targets: -1 and 1 in one column, or one-hot rows.
        largest: λ_1.
        duration: η t.
        progress: called with the share of the time that is done.

    Returns:
        The coefficients; the sum of the estimated errors of all steps, relative to them, which later steps make smaller;
        and the number of products with Θ.

    Raises:
        NumericalFailure: the steps that the error allows are too many.
    """

    def slope(a: Tensor) -> Tensor:
        return residual(multiply(a), targets)

    report = Progress(progress)
    # The steepest rate: λ_1 times the largest eigenvalue of the softmax's derivative, 1/4 for one column, 1/2 for more.
    rate = largest * (0.25 if targets.shape[1] == 1 else 0.5)
    a = torch.zeros_like(targets, dtype=torch.float64)
    time, errors, products, now = 0.0, 0.0, 1, slope(a)
    step = min(duration, 0.01 / rate if rate > 0 else duration)
    for _ in range(_MOST_STEPS):
        if time >= duration:
            report(1.0)
            return a, errors / max(float(a.norm()), torch.finfo(torch.float64).tiny), products
        # As many stages as the step needs to be stable; a step that needs too many is made shorter.
        stages = max(2, math.ceil(math.sqrt(1 + 1.54 * step * rate)))
        if stages > _MOST_STAGES:
            stages, step = _MOST_STAGES, (_MOST_STAGES**2 - 1) / (1.54 * rate)
        step = min(step, duration - time)
        after = _chebyshev_step(slope, a, now, step, stages)
        then = slope(after)
        products += stages
        # The estimate of the local error, of third order in the step.
        error = float((0.8 * (a - after) + 0.4 * step * (now + then)).norm())
        allowed = TOLERANCE * max(float(after.norm()), torch.finfo(torch.float64).tiny)
        factor = 0.8 * (allowed / error) ** (1 / 3) if error > 0 else 10.0
        if error <= allowed:
            a, now, time, errors = after, then, time + step, errors + error
            report(min(1.0, time / duration))
        step *= min(10.0, max(0.1, factor))
    raise NumericalFailure(
        f"the flow of the cross-entropy is not found in {_MOST_STEPS:,} steps: it has come to {time:.3g} of "
        f"{duration:.3g}. Take a shorter time."
    )


def _chebyshev_step(
    slope: Callable[[Tensor], Tensor], start: Tensor, first: Tensor, step: float, stages: int
) -> Tensor:
    """Take one step of the Runge-Kutta-Chebyshev method.

    Args:
        slope: the right-hand side.
        start: the coefficients.
        first: their slope.
        step: the length of the step.
        stages: s, 2 or more.
    """
    w0 = 1 + _DAMPING / stages**2
    # Chebyshev polynomials T_j and their first two derivatives at w0, by their recurrences.
    t, d, dd = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for _ in range(2, stages + 1):
        t.append(2 * w0 * t[-1] - t[-2])
        d.append(2 * w0 * d[-1] - d[-2] + 2 * t[-2])
        dd.append(2 * w0 * dd[-1] - dd[-2] + 4 * d[-2])
    w1 = d[stages] / dd[stages]
    b = [0.0, 0.0] + [dd[j] / d[j] ** 2 for j in range(2, stages + 1)]
    b[0], b[1] = b[2], 1 / w0
    before, now = start, start + b[1] * w1 * step * first
    for j in range(2, stages + 1):
        mu, nu, own = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2], 2 * b[j] * w1 / b[j - 1]
        shared = -(1 - b[j - 1] * t[j - 1]) * own
        before, now = (
            now,
            (1 - mu - nu) * start + mu * now + nu * before + step * (own * slope(now) + shared * first),
        )
    return now
