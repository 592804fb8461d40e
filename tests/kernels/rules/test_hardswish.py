"""Hardswish beside an integral in many digits, its derivatives beside differences, and the series of any activation."""

import mpmath
import pytest
import torch
import torch.nn.functional as F
from mpmath import mpf

from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.series import Series

PAIRS = [(1.0, 1.3), (3.0, 2.0), (0.05, 2.0), (31.0, 10.0), (31.6, 31.6)]


def doubles(*values):
    return [torch.tensor([float(v)], dtype=torch.float64) for v in values]


def moments(lower, upper):
    """E[1], E[y] and E[y²] of a standard Gaussian y between two numbers."""
    tails = [mpmath.erfc(v / mpmath.sqrt(2)) / 2 for v in (lower, upper)]
    densities = [mpmath.npdf(v) for v in (lower, upper)]
    chance = tails[0] - tails[1]
    return chance, densities[0] - densities[1], chance + lower * densities[0] - upper * densities[1]


def mean(mu, omega, order):
    """E[φ(v)] for order 0, and E[φ'(v)] for order 1, of a Gaussian v with this mean and standard deviation."""
    one, y, square = moments((-3 - mu) / omega, (3 - mu) / omega)
    beyond = moments((3 - mu) / omega, mpf(200))
    if order == 1:
        return ((2 * mu + 3) * one + 2 * omega * y) / 6 + beyond[0]
    inner = (mu * mu + 3 * mu) * one + (2 * mu + 3) * omega * y + omega**2 * square
    return inner / 6 + mu * beyond[0] + omega * beyond[1]


def function(u, order):
    if order == 1:
        return mpf(0) if u < -3 else (2 * u + 3) / 6 if u < 3 else mpf(1)
    return mpf(0) if u < -3 else u * (u + 3) / 6 if u < 3 else u


def many_digits(k, s, r, order):
    """E[φφ] or E[φ'φ'], as the integral over u of φ(u) E[φ(v) | u]."""
    k, s, r = map(mpf, (k, s, r))
    slant, omega = k / s, mpmath.sqrt(r * r - (k / s) ** 2)
    places = [-3 / s, 3 / s]
    for centre in (-3 / slant, 3 / slant):
        width = omega / abs(slant)
        places += [centre + sign * n * width for n in (0, 1, 2, 4, 8, 16) for sign in (-1, 1)]
    places = sorted({mpf(n) for n in (-12, -6, -3, 0, 3, 6, 12)} | {v for v in places if abs(v) < 12})
    return mpmath.quad(lambda y: function(s * y, order) * mean(slant * y, omega, order) * mpmath.npdf(y), places)


def expectation(order):
    return Hardswish().derivative if order else Hardswish().nngp


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("order", [0, 1])
def test_values_are_the_integral_in_many_digits(order, pair):
    s, r = pair
    with mpmath.workdps(20):
        for c in (0.5, -0.9999, 1 - 5e-9):
            value = float(expectation(order)(*doubles(c * s * r, s * s, r * r)))
            truth = float(many_digits(c * s * r, mpmath.sqrt(mpf(s * s)), mpmath.sqrt(mpf(r * r)), order))
            scale = float(
                (expectation(order)(*doubles(*[s * s] * 3)) * expectation(order)(*doubles(*[r * r] * 3))).sqrt()
            )
            assert value == pytest.approx(truth, abs=1e-13 * scale)


@pytest.mark.parametrize(("pair", "c"), [((3.0, 2.0), 1 - 5e-9), ((31.6, 31.6), -0.999), ((0.5, 1.0), 0.3)])
@pytest.mark.parametrize("order", [0, 1])
def test_derivatives_are_differences_in_many_digits(order, pair, c):
    s, r = pair
    inputs = [v.requires_grad_() for v in doubles(c * s * r, s * s, r * r)]
    found = torch.autograd.grad(expectation(order)(*inputs).sum(), inputs)
    with mpmath.workdps(32):
        point = [mpf(c * s * r), mpmath.sqrt(mpf(s * s)), mpmath.sqrt(mpf(r * r))]
        pairs = [(of.item(), v.item()) for of, v in zip(found, inputs, strict=True)]
        largest = max(s * r / 4, *[abs(of * v) for of, v in pairs])
        for i, (of, v) in enumerate(pairs):
            step = mpf(10) ** -9 * (1 - abs(mpf(c))) * point[i]
            ends = [many_digits(*[p + sign * step * (i == j) for j, p in enumerate(point)], order) for sign in (1, -1)]
            truth = (ends[0] - ends[1]) / (2 * step) / (1 if i == 0 else 2 * point[i])
            assert of * v == pytest.approx(float(truth) * v, abs=1e-12 * largest)


@pytest.mark.parametrize("q", [0.01, 1.0, 30.0, 1000.0])
def test_the_series_of_any_activation_agrees(q):
    series, c = Series(F.hardswish, kinks=(-3.0, 3.0)), torch.tensor([-1.0, -0.9, 0.0, 0.5, 0.97, 0.999, 1.0]).double()
    k, q1, q2 = 1.2 * q * c, *doubles(q, 1.44 * q)
    for order, exact in enumerate((series.nngp, series.derivative)):
        values, scale = expectation(order)(k, q1, q2), (exact(q1, q1, q1) * exact(q2, q2, q2)).sqrt()
        assert float(((values - exact(k, q1, q2)).abs() / scale).max()) < 1e-6


def test_a_small_variance_leaves_a_polynomial():
    """E[φ(u)²] of φ(u) = u / 2 + u² / 6 is q / 4 + 3 q² / 36."""
    (q,) = doubles(1e-3)
    torch.testing.assert_close(Hardswish().nngp(q, q, q), q / 4 + q * q / 12, rtol=1e-15, atol=0)
    torch.testing.assert_close(Hardswish().derivative(q, q, q), 1 / 4 + q / 9, rtol=1e-15, atol=0)


def test_a_vanishing_input_has_finite_derivatives():
    inputs = [v.requires_grad_() for v in doubles(0.0, 0.0, 2.0)]
    value, slope = Hardswish().nngp(*inputs), Hardswish().derivative(*inputs)
    assert value.item() == 0
    assert slope.item() == 0.25
    assert all(torch.isfinite(v).all() for v in torch.autograd.grad((value + slope).sum(), inputs))


@pytest.mark.parametrize("order", [0, 1])
def test_an_input_given_twice_has_the_derivative_of_its_own_expectation(order):
    """All three derivatives together are that by the variance, also where the kinks' infinite part counts as zero."""
    (q,) = (v.requires_grad_() for v in doubles(5.0))
    (found,) = torch.autograd.grad(expectation(order)(q, q, q).sum(), q)
    ends = [float(expectation(order)(*[q.detach() + step] * 3)) for step in (1e-5, -1e-5)]
    assert found.item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-8)


def test_a_gradient_has_a_derivative_again():
    k, q1, q2 = (v.requires_grad_() for v in doubles(1.0, 2.0, 3.0))
    (first,) = torch.autograd.grad(Hardswish().nngp(k, q1, q2).sum(), k, create_graph=True)
    (second,) = torch.autograd.grad(Hardswish().derivative(k, q1, q2).sum(), k)
    (again,) = torch.autograd.grad(first.sum(), k)
    torch.testing.assert_close(again, second, rtol=1e-5, atol=0)
