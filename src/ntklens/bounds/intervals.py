"""Interval arithmetic on tensors: every result encloses what exact arithmetic gives for any values in the operands.

A result is widened by a few units in the last place of its ends, more than the rounding of the operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

_WIDEN = 16 * torch.finfo(torch.float64).eps
"""Relative widening of each end: sums and products are right to half a unit, torch's elementary functions to four."""
_TINY = 1e-300
"""Absolute widening, for ends that underflow."""


@dataclass(frozen=True)
class Interval:
    """Numbers between two ends, one pair of ends per entry of a tensor.

    Attributes:
        low: the lower ends, in float64.
        high: the upper ends, in the shape of the lower ones.
    """

    low: Tensor
    high: Tensor

    def __add__(self, other: Interval | Tensor | float) -> Interval:
        if isinstance(other, Interval):
            return _outward(self.low + other.low, self.high + other.high)
        return _outward(self.low + other, self.high + other)

    __radd__ = __add__

    def __neg__(self) -> Interval:
        return Interval(-self.high, -self.low)

    def __sub__(self, other: Interval | Tensor | float) -> Interval:
        return self + (-other)

    def __rsub__(self, other: Tensor | float) -> Interval:
        return -self + other

    def __mul__(self, other: Interval | Tensor | float) -> Interval:
        if isinstance(other, Interval):
            corners = (
                self.low * other.low,
                self.low * other.high,
                self.high * other.low,
                self.high * other.high,
            )
            low = torch.minimum(torch.minimum(*corners[:2]), torch.minimum(*corners[2:]))
            high = torch.maximum(torch.maximum(*corners[:2]), torch.maximum(*corners[2:]))
            return _outward(low, high)
        one, two = self.low * other, self.high * other
        return _outward(torch.minimum(one, two), torch.maximum(one, two))

    __rmul__ = __mul__

    @property
    def magnitude(self) -> Tensor:
        """The largest absolute value."""
        return torch.maximum(self.low.abs(), self.high.abs())

    def increasing(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """Apply a function that increases on these intervals."""
        return _outward(function(self.low), function(self.high))

    def decreasing(self, function: Callable[[Tensor], Tensor]) -> Interval:
        """Apply a function that decreases on these intervals."""
        return _outward(function(self.high), function(self.low))


def _outward(low: Tensor, high: Tensor) -> Interval:
    return Interval(low - (_WIDEN * low.abs() + _TINY), high + (_WIDEN * high.abs() + _TINY))


Number = Interval | Tensor
"""What the recursion computes with: values in points, or intervals."""


def sqrt(x: Number) -> Number:
    """Return the square root of positive numbers."""
    return x.increasing(torch.sqrt) if isinstance(x, Interval) else x.sqrt()


def reciprocal(x: Number) -> Number:
    """Return 1 / x of positive numbers."""
    return x.decreasing(torch.reciprocal) if isinstance(x, Interval) else x.reciprocal()


def kappa0(c: Number) -> Number:
    """Return E[relu'(u) relu'(v)] = (π - θ) / 2π for the cosine c = cos θ of two Gaussians."""
    return c.increasing(_kappa0) if isinstance(c, Interval) else _kappa0(c)


def kappa1(c: Number) -> Number:
    """Return E[relu(u) relu(v)] = (sin θ + (π - θ) cos θ) / 2π for Gaussians of variance 1; its derivative is κ0."""
    return c.increasing(_kappa1) if isinstance(c, Interval) else _kappa1(c)


def kappa0_slope(c: Number) -> Number:
    """Return κ0'(c) = 1 / (2π sin θ), which falls until c = 0 and grows from there."""
    return _even(c, _kappa0_slope)


def kappa0_curvature(c: Number) -> Number:
    """Return κ0''(c) = c / (2π sin³θ), which increases."""
    return c.increasing(_kappa0_curvature) if isinstance(c, Interval) else _kappa0_curvature(c)


def kappa0_third(c: Number) -> Number:
    """Return κ0'''(c) = (1 + 2 c²) / (2π sin⁵θ), which falls until c = 0 and grows from there."""
    return _even(c, _kappa0_third)


def _even(c: Number, function: Callable[[Tensor], Tensor]) -> Number:
    """Apply an even function that grows with |c|."""
    if not isinstance(c, Interval):
        return function(c)
    nearest = torch.where(c.low > 0, c.low, torch.where(c.high < 0, -c.high, torch.zeros_like(c.low)))
    return _outward(function(nearest), function(c.magnitude))


def _sine(c: Tensor) -> Tensor:
    return ((1 - c) * (1 + c)).clamp(min=0.0).sqrt()


def _angle(c: Tensor) -> Tensor:
    # Near c = 1 the arc cosine loses half of the digits; the arc tangent of a sine that is right does not.
    return torch.atan2(_sine(c), c)


def _kappa0(c: Tensor) -> Tensor:
    return (math.pi - _angle(c)) / (2 * math.pi)


def _kappa1(c: Tensor) -> Tensor:
    return (_sine(c) + (math.pi - _angle(c)) * c) / (2 * math.pi)


def _kappa0_slope(c: Tensor) -> Tensor:
    return 1 / (2 * math.pi * _sine(c))


def _kappa0_curvature(c: Tensor) -> Tensor:
    return c / (2 * math.pi * _sine(c) ** 3)


def _kappa0_third(c: Tensor) -> Tensor:
    return (1 + 2 * c.square()) / (2 * math.pi * _sine(c) ** 5)
