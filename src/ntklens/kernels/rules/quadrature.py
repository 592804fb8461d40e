"""Quadratures over a normal variable that are fine where an integrand has kinks."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

REACH = 13.0
"""The value of |z| beyond which the normal density is below the rounding of float64."""


@functools.lru_cache(maxsize=16)
def legendre(nodes: int) -> tuple[Tensor, Tensor]:
    """Compute the nodes and the weights of Gauss-Legendre quadrature on [0, 1].

    The usual routines lose three digits of the weights of hundreds of nodes, which is more than near pairs can spare. Here
    three steps of Newton's method, and the weights 2 / ((1 - x²) P'(x)²), are in extended precision where there is one.
    """
    x: Any = np.polynomial.legendre.leggauss(nodes)[0].astype(np.longdouble)
    for _ in range(3):
        before, value = np.ones_like(x), x
        for m in range(2, nodes + 1):  # m P_m = (2 m - 1) x P_(m-1) - (m - 1) P_(m-2)
            before, value = value, ((2 * m - 1) * x * value - (m - 1) * before) / m
        slope = nodes * (before - x * value) / ((1 - x) * (1 + x))
        weights = 2 / ((1 - x) * (1 + x) * slope * slope)
        x = x - value / slope
    half = np.longdouble(0.5)
    return torch.from_numpy((half + half * x).astype(float)), torch.from_numpy((half * weights).astype(float))


@functools.lru_cache(maxsize=16)
def graded(nodes: int, power: int) -> tuple[Tensor, Tensor]:
    """Compute nodes and weights of a quadrature on [0, 1] that is fine near 0: Gauss-Legendre in y, where x = y^power."""
    y, w = legendre(nodes)
    return y**power, w * power * y ** (power - 1)


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
    x, w = (t.to(breaks) for t in graded(nodes, power))
    halves = breaks.diff(dim=-1) / 2
    # To the left and to the right of each break, up to the middle between two of them.
    left = torch.cat([breaks[..., :1] + reach, halves], -1)[..., None]
    right = torch.cat([halves, reach - breaks[..., -1:]], -1)[..., None]
    points = torch.cat([breaks[..., None] - left * x, breaks[..., None] + right * x], -1)
    return points.flatten(-2), torch.cat([left * w, right * w], -1).flatten(-2)


def normal_density(z: Tensor) -> Tensor:
    """Compute the standard normal density."""
    return torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)


@functools.lru_cache(maxsize=8)
def hermite_quadrature(degree: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Compute the nodes of the integrals a_m and the matrix that turns values of φ at the nodes into a_0, ..., a_degree.

    Each side of zero has a quadrature of its own, because the usual activations have a kink there.

    Returns:
        Nodes z (2 nodes,), and the matrix (2 nodes, degree + 1) of weight times normal density times h_m(z).
    """
    x, w = (t.numpy() for t in legendre(nodes))
    z = REACH * np.concatenate([-x[::-1], x])
    weight = np.concatenate([w[::-1], w]) * REACH * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    h = [np.ones_like(z), z]
    for m in range(2, degree + 1):  # h_m = (z h_{m-1} - sqrt(m-1) h_{m-2}) / sqrt(m)
        h.append((z * h[-1] - math.sqrt(m - 1) * h[-2]) / math.sqrt(m))
    table = np.stack(h[: degree + 1], 1) * weight[:, None]
    return torch.from_numpy(z), torch.from_numpy(table)
