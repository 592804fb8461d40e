"""Lower bounds of kernel machines' outputs over balls, from the enclosures of their terms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.bounds.balls import Balls
from ntklens.bounds.terms import Terms, Training

_SLACK = 1e-9
"""Part of N Σ|α_j| k(c_j) that is subtracted from every bound for rounding, see docs/certificates.md."""

_ROWS = 4096
"""Training inputs whose squares are summed at once."""


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
    parts = _linear(found, training, alpha, offset, (found.value, found.chord_value), (found.slope, found.chord_slope))
    falls = parts.rise.clamp(max=0.0) * (training.scale**2 * area.square / found.least)[:, None]
    bound = parts.constant - area.reach(parts.gradient) + falls
    if parts.twist is not None and parts.pull is not None:
        away = (found.away / found.least)[:, None]
        bound = bound - away * area.reach(parts.twist) + parts.pull.clamp(max=0.0) * away * found.away[:, None]
    return torch.where((found.least > 0)[:, None], bound, -torch.inf)


def _linear(
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
    rise = summed(found.rise_low, found.rise_high)
    if found.drift is None:
        return Linear(constant, scale * gradient, rise)
    # ρ (β - 1/N) (Σ α p + Σ α p' t + (β - 1/N) Σ α p'' + error), with ρ (β - 1/N) = -<e, δ̂> / N and ρ t_j = <Z⊥_j, δ̂>.
    drift, weights = found.drift, found.drift.slope[:, None] * alpha.T
    gradient = gradient - (drift.value @ alpha / n)[..., None] * found.direction[:, None]
    constant = constant - found.away[:, None] / n * (drift.doubt @ alpha.abs())
    twist = weights @ training.units - (weights @ found.cosines[..., None]) * found.direction[:, None]
    return Linear(constant, scale * gradient, rise, -scale / n[..., None] * twist, drift.curvature @ alpha / n.square())


def quadratic_bound(found: Terms, training: Training, area: Balls, alpha: Tensor, offset: Tensor) -> Tensor:
    """Bound one output of one image over its ball by a parabola whose curvature is exact to third order.

    Args:
        found: the enclosures of the terms, of one image.
        training: the training inputs.
        area: its ball.
        alpha: coefficients times |ẑ|, (n,).
        offset: what is added to the output, a tensor without axes.

    Returns:
        The bound, a tensor without axes.
    """
    if not float(found.least) > 0:
        return torch.tensor(-torch.inf, dtype=torch.float64)
    ends = (found.value, found.value), (found.slope, found.slope)
    parts = _linear(found, training, alpha[:, None], offset[None], *ends)
    gradient, rise = parts.gradient[0, 0], float(parts.rise)
    curvature = alpha * torch.where(alpha > 0, found.curvature_low[0], found.curvature_high[0])
    # T = κ²/2 Z⊥ᵀ diag(α R) Z⊥ + P κ² (I - e eᵀ), over the pixels that can move.
    moving = slice(None) if area.half is None else (area.half[0] > 0).nonzero().flatten()
    e = found.direction[0, moving]
    scale = training.scale**2
    matrix = torch.zeros(len(e), len(e), dtype=torch.float64)
    for start in range(0, len(alpha), _ROWS):
        part = slice(start, start + _ROWS)
        across = torch.addmm(training.units[part, moving], found.cosines[0, part, None], e[None], alpha=-1.0)
        matrix.addmm_(across.T, across * (scale / 2 * curvature[part])[:, None])
    matrix.diagonal().add_(rise * scale)
    matrix = matrix - rise * scale * e[:, None] * e
    least, most = float(found.least), float(found.length + found.away)
    if parts.twist is not None and parts.pull is not None:
        v = training.scale / 2 * parts.twist[0, 0, moving]
        matrix = matrix + e[:, None] * v + v[:, None] * e + float(parts.pull) * scale * e[:, None] * e
    if area.half is not None:
        h = area.half[0, moving]
        return parts.constant[0, 0] - area.reach(gradient[None])[0] - _box_minimum(h[:, None] * matrix * h) / least
    assert area.radius is not None
    # δᵀ T δ / ρ lies between its values at the least and the largest ρ.
    return parts.constant[0, 0] + _ball_minimum(matrix, gradient, float(area.radius), (least, most))


def _box_minimum(matrix: Tensor) -> float:
    """Return t such that uᵀ T u ≥ -t for all u in [-1, 1]^d: the trace of a diagonal D with T + D ⪰ 0."""
    values, vectors = torch.linalg.eigh(matrix)
    rounding = 1e-13 * len(values) * float(values.abs().max())
    if float(values[0]) >= -rounding:
        return len(values) * (rounding - min(0.0, float(values[0])))
    below = values.clamp(max=0.0)
    shape = (-(vectors.square() @ below)).clamp(min=0.0).sqrt()
    # Where T has no negative part, D may stay near zero, but the division needs a positive number.
    shape = shape.clamp(min=1e-6 * float(shape.max()))
    scaled = matrix / (shape.sqrt()[:, None] * shape.sqrt())
    lowest = float(torch.linalg.eigvalsh(scaled)[0])
    rounding = 1e-13 * len(matrix) * float(scaled.abs().sum(1).max())
    return max(0.0, -lowest + rounding) * (1 + 1e-9) * float(shape.sum())


def _ball_minimum(matrix: Tensor, gradient: Tensor, radius: float, lengths: tuple[float, float]) -> Tensor:
    """Return a lower bound of g·δ + δᵀ T δ / ρ over |δ| ≤ R for each of two ρ."""
    values, vectors = torch.linalg.eigh(matrix)
    # Rounding moves an eigenvalue by no more than this.
    values = values - 1e-13 * len(values) * values.abs().max()
    along = vectors.T @ gradient
    return torch.minimum(*(_trust_region(values / length, along, radius) for length in lengths))


def _trust_region(values: Tensor, along: Tensor, radius: float) -> Tensor:
    """Return a lower bound of b·δ + Σ w δ² over |δ| ≤ R.

    It is the largest value of the dual, -Σ b² / 4(w + μ) - μ R² over μ > max(0, -w_min), which any μ bounds from below; the
    best one is found by bisection on the derivative, which falls.
    """
    start = max(0.0, -float(values[0]))
    squares = along.square()

    def excess(mu: float) -> float:
        return float((squares / (4 * (values + mu).square())).sum()) - radius**2

    low = start
    step = max(1e-12, 1e-9 * float(values.abs().max()), float(along.norm()) / (2 * radius))
    high = start + step
    while excess(high) > 0:
        low, high = high, start + 2 * (high - start)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return -(squares / (4 * (values + high))).sum() - high * radius**2
