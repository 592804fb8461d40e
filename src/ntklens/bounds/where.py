"""How far products with perturbations reach in the part of a ball where another product is nearly least.

The part is { δ : <g, δ> ≤ min <g, ·> + slack }. The results enclose the ranges there; any multiplier keeps them sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

_BISECTIONS = 10
"""Halvings of the bracket of a multiplier."""


def ranges_in_box(rows: Tensor, half: Tensor, gradient: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """Bound <z, δ> for |δ_i| ≤ h_i and Σ_i |g_i| |δ_i - δ*_i| ≤ slack, where δ* = -h sign(g) is the corner of least <g, δ>.

    To move pixel i from the corner to the other side changes <z, δ> by 2 h_i |z_i| and costs 2 h_i |g_i|: a continuous
    knapsack, which is bounded by its Lagrangian min_λ λ slack + Σ_i 2 h_i (gain_i - λ |g_i|)₊. Any λ ≥ 0 gives a bound.

    Args:
        rows: z, (n, d).
        half: h, (d,).
        gradient: g, (d,).
        slack: how far <g, δ> may be above its least value.

    Returns:
        Lower and upper bounds, (n,) each.
    """
    side = torch.where(gradient > 0, -1.0, 1.0)  # of the corner; pixels with g = 0 are free, and on either side of it
    corner = rows @ (half * side)
    # Leaving the corner moves pixel i against its side.
    gains, costs = -rows * (2 * half * side), 2 * half * gradient.abs()
    return corner - _knapsack(-gains, costs, slack), corner + _knapsack(gains, costs, slack)


def _knapsack(gains: Tensor, costs: Tensor, budget: float) -> Tensor:
    """Bound the largest sum of gains whose costs sum to the budget at most, items taken in part: (n,)."""
    positive = gains.clamp(min=0.0)
    total = positive.sum(1)
    everything = float(costs.sum())
    if everything <= budget:
        return total
    # The Lagrangian is convex in λ; its slope is the budget less the costs of the items with gain > λ cost.
    low = torch.zeros(len(gains), 1, dtype=torch.float64)
    high = (total / everything).clamp(min=1e-300)[:, None]
    for _ in range(60):
        too_low = (costs * (gains > high * costs)).sum(1, keepdim=True) > budget
        if not bool(too_low.any()):
            break
        low, high = torch.where(too_low, high, low), torch.where(too_low, 4 * high, high)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_low = (costs * (gains > middle * costs)).sum(1, keepdim=True) > budget
        low, high = torch.where(too_low, middle, low), torch.where(too_low, high, middle)
    bound = high[:, 0] * budget + (gains - high * costs).clamp(min=0.0).sum(1)
    return torch.minimum(bound * (1 + 1e-12), total)


def ranges_in_ball(rows: Tensor, radius: float, gradient: Tensor, slack: float) -> tuple[Tensor, Tensor]:
    """Bound <z, δ> for |δ| ≤ R and <g, δ> ≤ -R |g| + slack: a cap of the ball.

    With δ = -a g/|g| + ⊥ the cap is a ≥ R - slack / |g|, and |⊥| ≤ √(R² - a²).

    Args:
        rows: z, (n, d).
        radius: R.
        gradient: g, (d,).
        slack: how far <g, δ> may be above its least value.

    Returns:
        Lower and upper bounds, (n,) each.
    """
    size = float(gradient.norm())
    lengths = rows.norm(dim=1)
    if not size > 0:
        return -radius * lengths, radius * lengths
    lowest = max(-radius, radius - slack / size)
    along = rows @ (gradient / size)
    aside = (lengths.square() - along.square()).clamp(min=0.0).sqrt() + 1e-7 * lengths
    span = max(0.0, radius**2 - lowest**2) ** 0.5

    def highest(parallel: Tensor) -> Tensor:
        """Return the largest a · parallel + √(R² - a²) aside over a ≥ lowest: free, or at the border of the cap."""
        best = radius * parallel / lengths.clamp(min=1e-300)
        free = radius * (parallel.square() + aside.square()).sqrt()
        return torch.where(best >= lowest, free, lowest * parallel + span * aside)

    return -highest(along), highest(-along)
