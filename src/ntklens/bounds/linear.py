"""The first bound: tangents and chords, whose sum is linear in the perturbation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.bounds.balls import Balls
from ntklens.bounds.terms import Terms, Training

_SLACK = 1e-9
"""Part of N Σ|α_j| k(c_j) that is subtracted from every bound for rounding, see docs/certificates.md."""


@dataclass(frozen=True)
class Linear:
    """A function of δ that an output is never below: constant + <gradient, δ>.

    Attributes:
        constant: (m, F), with what does not depend on δ, rounding included.
        gradient: (m, F, d).
        rise: (m, F), the sum of α_j b⁻ or α_j b⁺ that multiplies r.
        twist: (m, F, d), v of a further summand <e, δ̂> <v, δ> / ρ; None where there is none.
        pull: (m, F), q of a further summand q <e, δ̂>² / ρ; None likewise.
    """

    constant: Tensor
    gradient: Tensor
    rise: Tensor
    twist: Tensor | None = None
    pull: Tensor | None = None


def linear_bounds(found: Terms, training: Training, area: Balls, alpha: Tensor, offset: Tensor) -> Tensor:
    """Bound outputs over balls from below by tangents and chords: (m, F).

    Args:
        found: the enclosures of the terms, of m images.
        training: the training inputs.
        area: the m balls.
        alpha: coefficients times |ẑ|, (n, F).
        offset: (F,), what is added to each output.
    """
    parts = linear_parts(
        found, training, alpha, offset, (found.value, found.chord_value), (found.slope, found.chord_slope)
    )
    falls = parts.rise.clamp(max=0.0) * (training.scale**2 * area.square / found.least)[:, None]
    bound = parts.constant - area.reach(parts.gradient) + falls
    if parts.twist is not None and parts.pull is not None:
        away = (found.away / found.least)[:, None]
        bound = bound - away * area.reach(parts.twist) + parts.pull.clamp(max=0.0) * away * found.away[:, None]
    return torch.where((found.least > 0)[:, None], bound, -torch.inf)


def linear_parts(
    found: Terms,
    training: Training,
    alpha: Tensor,
    offset: Tensor,
    value: tuple[Tensor, Tensor],
    slope: tuple[Tensor, Tensor],
) -> Linear:
    """Sum the parts of all terms that are linear in δ, and those of the drift and of rounding.

    Args:
        found: the enclosures of the terms, (m, n).
        training: the training inputs.
        alpha: (n, F).
        offset: (F,).
        value: in the centre, of what bounds a term from below and from above; (m, n) each.
        slope: in y, likewise.
    """
    scale, n = training.scale, found.length[:, None]
    positive, negative = alpha.clamp(min=0.0), alpha.clamp(max=0.0)

    def summed(below: Tensor, above: Tensor) -> Tensor:
        """Compute the sum of α times the lower ends where α is positive and the upper ones where it is negative: (m, F)."""
        return below @ positive + above @ negative

    at_centre = summed(value[0] + found.low, value[1] + found.high)  # F0
    along = summed(slope[0] * found.cosines, slope[1] * found.cosines)
    # Z⊥ᵀ(α w) = Zᵀ(α w) - (Σ α w c) e, and F0 e is what ρ F0 adds. The weights α w are (m, F, n).
    weights = slope[0][:, None] * positive.T + slope[1][:, None] * negative.T
    gradient = weights @ training.units + (at_centre - along)[..., None] * found.direction[:, None]
    size = torch.maximum(value[0].abs(), value[1].abs()) + torch.maximum(found.low.abs(), found.high.abs())
    constant = n * at_centre + offset - _SLACK * n * (size @ alpha.abs())
    rise = summed(found.rise.low, found.rise.high)
    if found.drift is None:
        return Linear(constant, scale * gradient, rise)
    # ρ (β - 1/N) (Σ α p + Σ α p' t + (β - 1/N) Σ α p'' + error), with ρ (β - 1/N) = -<e, δ̂> / N and ρ t_j = <Z⊥_j, δ̂>.
    drift, weights = found.drift, found.drift.slope[:, None] * alpha.T
    gradient = gradient - (drift.value @ alpha / n)[..., None] * found.direction[:, None]
    constant = constant - found.away[:, None] / n * (drift.doubt @ alpha.abs())
    twist = weights @ training.units - (weights @ found.cosines[..., None]) * found.direction[:, None]
    return Linear(constant, scale * gradient, rise, -scale / n[..., None] * twist, drift.curvature @ alpha / n.square())
