"""Functions with their first and second derivatives, over values in points or over intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import torch
from torch import Tensor

from ntklens.bounds import intervals
from ntklens.bounds.intervals import Interval, Number

_ROUNDING = 1e-12
"""Relative to a value in a point, more than its rounding."""


Slope = Number | None
"""A derivative; None where it is zero everywhere, so that nothing is computed with it."""


@dataclass(frozen=True)
class Jet:
    """A function of a few variables in a point, or over a box: its value, gradient and second derivatives.

    Attributes:
        value: in points, or an interval that encloses all values in a box.
        first: the derivative in each variable.
        second: those in each pair of variables (a, b), a ≤ b, in the order of `pairs`.
    """

    value: Number
    first: tuple[Slope, ...]
    second: tuple[Slope, ...]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The pairs of variables of the second derivatives."""
        return list(combinations_with_replacement(range(len(self.first)), 2))

    def __add__(self, other: Jet) -> Jet:
        return Jet(
            self.value + other.value,
            tuple(_sum(a, b) for a, b in zip(self.first, other.first, strict=True)),
            tuple(_sum(a, b) for a, b in zip(self.second, other.second, strict=True)),
        )

    def plus(self, constant: Tensor | float) -> Jet:
        """Add a constant."""
        return Jet(self.value + constant, self.first, self.second)

    def times(self, constant: Tensor | float) -> Jet:
        """Multiply by a constant."""
        return Jet(
            self.value * constant,
            tuple(None if a is None else a * constant for a in self.first),
            tuple(None if a is None else a * constant for a in self.second),
        )

    def __mul__(self, other: Jet) -> Jet:
        first = tuple(
            _sum(_product(a, other.value), _product(b, self.value))
            for a, b in zip(self.first, other.first, strict=True)
        )
        second = tuple(
            _sum(
                _sum(_product(ab, other.value), _product(ab_other, self.value)),
                _sum(_product(self.first[a], other.first[b]), _product(self.first[b], other.first[a])),
            )
            for (a, b), ab, ab_other in zip(self.pairs, self.second, other.second, strict=True)
        )
        return Jet(self.value * other.value, first, second)

    def composed(self, f: Number, slope: Number, curvature: Number) -> Jet:
        """Apply a function of one variable, given by its value and derivatives where this one has its value."""
        first = tuple(_product(a, slope) for a in self.first)
        second = tuple(
            _sum(_product(_product(self.first[a], self.first[b]), curvature), _product(ab, slope))
            for (a, b), ab in zip(self.pairs, self.second, strict=True)
        )
        return Jet(f, first, second)

    def filled(self) -> Jet:
        """Return this with numbers of the value's shape for all derivatives."""
        zero = _like(self.value, 0.0)
        return Jet(
            self.value,
            tuple(zero if a is None else a + zero for a in self.first),
            tuple(zero if a is None else a + zero for a in self.second),
        )

    def tightened(self, centre: Jet, reach: Sequence[Tensor]) -> Jet:
        """Return this enclosure over a box, cut down by the mean-value form about a point of it.

        Args:
            centre: the function in the point.
            reach: how far the box goes from there at most, in each variable.
        """
        value = _near(self.value, centre.value, self.first, reach)
        assert value is not None
        first = tuple(
            _near(self.first[a], centre.first[a], [self.derivative(a, b) for b in range(len(self.first))], reach)
            for a in range(len(self.first))
        )
        return Jet(value, first, self.second)

    def derivative(self, a: int, b: int) -> Slope:
        """Return the second derivative in two variables."""
        return self.second[self.pairs.index((min(a, b), max(a, b)))]

    def sqrt(self) -> Jet:
        """Return the square root of a positive function."""
        root = intervals.sqrt(self.value)
        inverse = intervals.reciprocal(root)
        return self.composed(root, inverse * 0.5, inverse * inverse * inverse * -0.25)

    def reciprocal(self) -> Jet:
        """Return 1 / f of a positive function."""
        inverse = intervals.reciprocal(self.value)
        square = inverse * inverse
        return self.composed(inverse, -square, square * inverse * 2.0)

    def kappa0(self) -> Jet:
        """Return κ0 of a cosine."""
        c = self.value
        return self.composed(intervals.kappa0(c), intervals.kappa0_slope(c), intervals.kappa0_curvature(c))

    def kappa0_slope(self) -> Jet:
        """Return κ0' of a cosine, 1 / 2π√(1 - c²)."""
        c = self.value
        return self.composed(intervals.kappa0_slope(c), intervals.kappa0_curvature(c), intervals.kappa0_third(c))

    def kappa1(self) -> Jet:
        """Return κ1 of a cosine, whose derivative is κ0."""
        c = self.value
        return self.composed(intervals.kappa1(c), intervals.kappa0(c), intervals.kappa0_slope(c))


def _sum(a: Slope, b: Slope) -> Slope:
    if a is None or b is None:
        return b if a is None else a
    return a + b


def _product(a: Slope, b: Slope) -> Slope:
    return None if a is None or b is None else a * b


def _near(natural: Slope, centre: Slope, slopes: Sequence[Slope], reach: Sequence[Tensor]) -> Interval | None:
    """Return the part of an enclosure that is no further from the centre than its derivatives let it come."""
    if natural is None or centre is None:
        return None
    assert isinstance(natural, Interval)
    assert isinstance(centre, Tensor)
    change = _ROUNDING * centre.abs()
    for slope, distance in zip(slopes, reach, strict=True):
        if slope is None:
            continue
        assert isinstance(slope, Interval)
        change = change + slope.magnitude * distance
    # A derivative that is not bounded leaves what intervals alone give.
    change = torch.where(change.isfinite(), change, torch.inf)
    return Interval(torch.maximum(natural.low, centre - change), torch.minimum(natural.high, centre + change))


def variable(value: Number, index: int, count: int) -> Jet:
    """Return one of `count` variables as a function of them; with a count of 0 no derivatives are kept."""
    first = tuple(_like(value, 1.0) if i == index else None for i in range(count))
    return Jet(value, first, (None,) * (count * (count + 1) // 2))


def constant(value: Tensor, like: Jet) -> Jet:
    """Return a constant as a function of the same variables as another one, in its kind of numbers."""
    number = Interval(value, value) if isinstance(like.value, Interval) else value
    return Jet(number, (None,) * len(like.first), (None,) * len(like.second))


def _like(value: Number, content: float) -> Number:
    if isinstance(value, Interval):
        full = torch.full_like(value.low, content)
        return Interval(full, full)
    return torch.full_like(value, content)
