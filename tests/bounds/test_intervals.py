"""Interval arithmetic: every sample lies inside."""

import math

import pytest
import torch

from ntklens.bounds import intervals
from ntklens.bounds.intervals import Interval

G = torch.Generator().manual_seed(0)


def drawn(low, high, n=200):
    ends = torch.rand(2, n, generator=G, dtype=torch.float64).sort(0).values * (high - low) + low
    return Interval(ends[0], ends[1])


def sampled(interval):
    share = torch.rand(50, *interval.low.shape, generator=G, dtype=torch.float64)
    return interval.low + share * (interval.high - interval.low)


def inside(values, interval):
    return bool((values >= interval.low).all() and (values <= interval.high).all())


@pytest.mark.parametrize(
    "operation",
    [lambda a, b: a + b, lambda a, b: a - b, lambda a, b: a * b, lambda a, b: 2.5 - a * -3.0 + b * 0.5],
)
def test_arithmetic_encloses(operation):
    a, b = drawn(-2, 2), drawn(-1, 3)
    assert inside(operation(sampled(a), sampled(b)), operation(a, b))


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("sqrt", 0.1, 3),
        ("reciprocal", 0.1, 3),
        ("kappa0", -1, 1),
        ("kappa1", -1, 1),
        ("kappa0_slope", -0.99, 0.99),
        ("kappa0_curvature", -0.99, 0.99),
    ],
)
def test_functions_enclose(name, low, high):
    function, a = getattr(intervals, name), drawn(low, high)
    assert inside(function(sampled(a)), function(a))


def test_functions_are_those_of_the_network():
    c = torch.tensor([0.3], dtype=torch.float64)
    theta = math.acos(0.3)
    assert float(intervals.kappa0(c)) == pytest.approx((math.pi - theta) / (2 * math.pi), rel=1e-15)
    assert float(intervals.kappa1(c)) == pytest.approx(
        (math.sin(theta) + (math.pi - theta) * 0.3) / (2 * math.pi), rel=1e-15
    )
    step = 1e-6
    slope = (intervals.kappa0(c + step) - intervals.kappa0(c - step)) / (2 * step)
    assert float(intervals.kappa0_slope(c)) == pytest.approx(float(slope), rel=1e-8)
    curve = (intervals.kappa0_slope(c + step) - intervals.kappa0_slope(c - step)) / (2 * step)
    assert float(intervals.kappa0_curvature(c)) == pytest.approx(float(curve), rel=1e-8)


def test_results_are_widened_past_rounding():
    third = torch.tensor([1 / 3], dtype=torch.float64)
    found = Interval(third, third) + Interval(third, third)
    assert found.low < 2 / 3 < found.high
    assert float(found.high - found.low) < 1e-14
