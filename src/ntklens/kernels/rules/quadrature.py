"""Quadratures over a normal variable that are fine where an integrand has kinks."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


@functools.lru_cache(maxsize=16)
def _graded(nodes: int, power: int) -> tuple[Tensor, Tensor]:
    """Compute nodes and weights of a quadrature on [0, 1] that is fine near 0: Gauss-Legendre in y, where x = y^power."""
    from scipy.special import roots_legendre  # scipy is loaded at the first kernel that needs it

    x, w = roots_legendre(nodes)
    y = (x + 1) / 2
    return torch.from_numpy(y**power), torch.from_numpy(w / 2 * power * y ** (power - 1))


def panels(breaks: Tensor, nodes: int, power: int, reach: float) -> tuple[Tensor, Tensor]:
    """Compute nodes and weights on [-reach, reach] that are fine on both sides of each break.

    Args:
        breaks: (..., K), ascending.
        nodes: number on each side of a break.
        power: how fast they thin out away from a break.
        reach: end of the outer panels.

    Returns:
        Nodes and weights, (..., 2 K nodes); autograd follows the breaks.
    """
    breaks = breaks.clamp(-reach, reach)
    x, w = (t.to(breaks) for t in _graded(nodes, power))
    halves = breaks.diff(dim=-1) / 2
    # To the left and to the right of each break, up to the middle between two of them.
    left = torch.cat([breaks[..., :1] + reach, halves], -1)[..., None]
    right = torch.cat([halves, reach - breaks[..., -1:]], -1)[..., None]
    points = torch.cat([breaks[..., None] - left * x, breaks[..., None] + right * x], -1)
    return points.flatten(-2), torch.cat([left * w, right * w], -1).flatten(-2)


def normal_density(z: Tensor) -> Tensor:
    """Compute the standard normal density."""
    return torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
