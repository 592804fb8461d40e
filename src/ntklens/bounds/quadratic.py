"""The second bound: parabolas, whose curvatures cancel in the sum, over the part of the ball where the output can be small.

With T the sum of the curvatures, an output is at least F(δ) = C + <g, δ> + δᵀ T δ / ρ on the ball, and δᵀ T δ / ρ at least
-q. Let v > 0 be a level below C - max <g, ·>. Wherever the output is below v, <g, δ> is below v - C + q: a small part of
the ball, near the perturbation that lowers the first order most, and the smaller the less a first bound lacks. There

- every t_j has a shorter range than in the whole ball, so that its secant curvatures, and with them T, are known better;
- in linf, F is compared with its value in a corner: with d = δ - corner, dᵀ T d = Σ d_i (T d)_i, and the range of each
  (T d)_i there is known, so that F is at least a linear function of |d|.

What is proved on that part holds on the ball up to the level v. This is repeated while it helps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ntklens.bounds.balls import Balls
from ntklens.bounds.linear import linear_parts
from ntklens.bounds.profile import Profile
from ntklens.bounds.terms import Terms, Training, secant_curvatures
from ntklens.bounds.where import ranges_in_ball, ranges_in_box

_ROWS = 1024
"""Training inputs that are worked on at once, where numbers for each of their pixels are needed."""
_PASSES = 4
"""Bounds that are computed at most, the first one included."""
_HELPS = 0.95
"""A further pass is worth its time while the last one has left less than this part of the slack of the one before."""
_LEVEL = 0.02
"""The level v that is asked for, over C - max <g, ·>: a smaller one leaves a smaller part of the ball."""
_SWEEPS = 20
"""Corners that are tried for the least value of a parabola."""


@dataclass(frozen=True)
class _Parabola:
    """constant + <gradient, δ> + δᵀ T δ / ρ, over the pixels that can move.

    Attributes:
        constant: C.
        gradient: g.
        matrix: T.
    """

    constant: float
    gradient: Tensor
    matrix: Tensor


def quadratic_bound(
    profile: Profile, found: Terms, training: Training, area: Balls, alpha: Tensor, offset: Tensor
) -> Tensor:
    """Bound one output of one image over its ball by parabolas whose curvatures are exact to third order.

    Args:
        profile: of the kernel.
        found: the enclosures of the terms, of one image.
        training: the training inputs.
        area: its ball.
        alpha: coefficients times |ẑ|, (n,).
        offset: what is added to the output, a tensor without axes.

    Returns:
        The bound, a tensor without axes. Passes after the first one are made while it is not positive.
    """
    if not float(found.least) > 0:
        return torch.tensor(-torch.inf, dtype=torch.float64)
    moving = torch.arange(training.units.shape[1]) if area.half is None else (area.half[0] > 0).nonzero().flatten()
    best, asked, last, passes = -torch.inf, torch.inf, torch.inf, 0
    while True:
        parabola = _parabola(found, training, area, alpha, offset, moving)
        bound, level, curved = _least(parabola, found, area, moving)
        # On the part that this pass looked at, which is the whole ball at first. Elsewhere the output is at least `asked`.
        best = max(best, min(bound, asked))
        passes += 1
        asked = min(asked, _LEVEL * level if level > 0 else level)
        slack = (curved - (level - asked)) * (1 + 1e-9)
        if best <= 0 < slack and passes > 1 and area.half is not None:
            corner = _near_a_corner(parabola, found, area.half[0, moving], min(last, slack))
            best = max(best, min(corner, asked))
        if best > 0 or passes == _PASSES or slack >= _HELPS * last or not level > 0:
            return torch.tensor(best, dtype=torch.float64)
        last = slack
        found = _narrowed(profile, found, training, area, parabola, slack, moving)


def _rise(found: Terms, training: Training, area: Balls, alpha: Tensor) -> float:
    """Bound the factor P of ρ r in the output from below: Σ α (b + b' t + error), in which the b' t cancel."""
    rise = found.rise
    weights = alpha * rise.slope[0]
    # Σ α b' t = κ <u, δ> / ρ with u = Σ α b' Z⊥.
    u = weights @ training.units - (weights @ found.cosines[0]) * found.direction[0]
    tilt = training.scale * float(area.reach(u[None])) / float(found.least)
    errors = alpha.clamp(min=0.0) @ rise.error_low[0] + alpha.clamp(max=0.0) @ rise.error_high[0]
    return float(alpha @ rise.value[0]) - tilt * (1 + 1e-12) + float(errors)


def _parabola(
    found: Terms, training: Training, area: Balls, alpha: Tensor, offset: Tensor, moving: Tensor
) -> _Parabola:
    ends = (found.value, found.value), (found.slope, found.slope)
    parts = linear_parts(found, training, alpha[:, None], offset[None], *ends)
    rise = max(float(parts.rise), _rise(found, training, area, alpha))
    curvature = alpha * torch.where(alpha > 0, found.curvature_low[0], found.curvature_high[0])
    # T = κ²/2 Z⊥ᵀ diag(α R) Z⊥ + P κ² (I - e eᵀ).
    e, scale = found.direction[0, moving], training.scale**2
    matrix = torch.zeros(len(e), len(e), dtype=torch.float64)
    for start in range(0, len(alpha), _ROWS):
        part = slice(start, start + _ROWS)
        across = torch.addmm(training.units[part][:, moving], found.cosines[0, part, None], e[None], alpha=-1.0)
        matrix.addmm_(across.T, across * (scale / 2 * curvature[part])[:, None])
    matrix.diagonal().add_(rise * scale)
    matrix = matrix - rise * scale * e[:, None] * e
    if parts.twist is not None and parts.pull is not None:
        v = training.scale / 2 * parts.twist[0, 0, moving]
        matrix = matrix + e[:, None] * v + v[:, None] * e + float(parts.pull) * scale * e[:, None] * e
    return _Parabola(float(parts.constant), parts.gradient[0, 0, moving], matrix)


def _least(parabola: _Parabola, found: Terms, area: Balls, moving: Tensor) -> tuple[float, float, float]:
    """Return a lower bound of a parabola, its least value without T, and q."""
    if not float(area.square) > 0:  # a ball of one point
        return parabola.constant, parabola.constant, 0.0
    least, most = float(found.least), float(found.length + found.away)
    if area.half is not None:
        h = area.half[0, moving]
        level = parabola.constant - float((h * parabola.gradient.abs()).sum())
        curved = _box_minimum(h[:, None] * parabola.matrix * h) / least
        return level - curved, level, curved
    assert area.radius is not None
    radius = float(area.radius)
    level = parabola.constant - radius * float(parabola.gradient.norm())
    values, vectors = torch.linalg.eigh(parabola.matrix)
    # Rounding moves an eigenvalue by no more than this.
    values = values - 1e-13 * len(values) * values.abs().max()
    along = vectors.T @ parabola.gradient
    # δᵀ T δ / ρ lies between its values at the least and the largest ρ.
    lowest = min(float(_trust_region(values / length, along, radius)) for length in (least, most))
    return parabola.constant + lowest, level, radius**2 * max(0.0, -float(values[0])) / least


def _near_a_corner(parabola: _Parabola, found: Terms, half: Tensor, slack: float) -> float:
    """Return a lower bound of a parabola over a part of a box, from its value in a corner.

    Args:
        parabola: C, g and T.
        found: the enclosures of the terms, for the range of ρ.
        half: the half-widths of the box, (d,).
        slack: how far <g, δ> may be above its least value.
    """
    bounds = []
    # F is linear in 1/ρ, so that its least value for each δ is at an end of the range.
    for rho in (float(found.least), float(found.length + found.away)):
        g, matrix = parabola.gradient, parabola.matrix / rho
        corner = least = -half * torch.where(g > 0, 1.0, -1.0)
        lowest = torch.inf
        for _ in range(_SWEEPS):
            image = matrix @ corner
            value = float(corner @ (g + image))
            if value >= lowest:
                break
            lowest, least = value, corner
            corner = -half * torch.where(g + 2 * image > 0, 1.0, -1.0)
        image = matrix @ least
        low, high = ranges_in_box(matrix, half, g, slack)
        side = torch.where(least > 0, -1.0, 1.0)  # where a pixel can go from the corner
        slopes = side * (g + 2 * image) + torch.minimum(side * (low - image), side * (high - image))
        bounds.append(parabola.constant + lowest - float((2 * half * slopes.clamp(max=0.0).abs()).sum()))
    return min(bounds)


def _narrowed(
    profile: Profile,
    found: Terms,
    training: Training,
    area: Balls,
    parabola: _Parabola,
    slack: float,
    moving: Tensor,
) -> Terms:
    """Return the terms with curvatures over the part of the ball where <g, δ> is within a slack of its least value."""
    e, g = found.direction[0, moving], parabola.gradient
    low, high = torch.empty_like(found.cosines[0]), torch.empty_like(found.cosines[0])
    for start in range(0, len(low), _ROWS):
        rows = slice(start, start + _ROWS)
        across = torch.addmm(training.units[rows][:, moving], found.cosines[0, rows, None], e[None], alpha=-1.0)
        if area.half is not None:
            low[rows], high[rows] = ranges_in_box(across, area.half[0, moving], g, slack)
        else:
            assert area.radius is not None
            low[rows], high[rows] = ranges_in_ball(across, float(area.radius), g, slack)
    # t = κ <Z⊥, δ> / ρ, with ρ anywhere in the ball.
    low, high = (torch.minimum(low / found.least, low / (found.length + found.away)),
                 torch.maximum(high / found.least, high / (found.length + found.away)))  # fmt: skip
    low, high = (training.scale * end[None] for end in (low, high))
    reach = found.reach
    low, high = torch.maximum(low - 1e-12, -reach), torch.minimum(high + 1e-12, reach)
    new_low, new_high = secant_curvatures(profile, found, training, low, high)
    # The earlier curvatures hold too.
    return replace(
        found,
        curvature_low=torch.maximum(found.curvature_low, new_low),
        curvature_high=torch.minimum(found.curvature_high, new_high),
    )


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
