"""The Gaussian expectations of activations: by quadrature, by Price's theorem, and at the edges of their domain."""

import math

import mpmath
import pytest
import torch
from torch import Tensor

from ntklens.kernels.rules import duals
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series


def _normal_cdf(u: Tensor) -> Tensor:
    return (1 + torch.erf(u / math.sqrt(2))) / 2


CLOSED = {
    "relu": (duals.LeakyReLU(0.0), torch.relu),
    "leaky relu": (duals.LeakyReLU(0.3), lambda u: torch.where(u > 0, u, 0.3 * u)),
    "abs": (duals.LeakyReLU(-1.0), torch.abs),
    "erf": (duals.Erf(), torch.erf),
    "gelu": (duals.GELU(), lambda u: u * _normal_cdf(u)),
    "sin": (duals.Sin(0.4), lambda u: torch.sin(u + 0.4)),
    "exp": (duals.Exp(), torch.exp),
    "gaussian": (duals.Gaussian(), lambda u: torch.exp(-u * u)),
}
ALL = {
    **{name: dual for name, (dual, _) in CLOSED.items()},
    "hardtanh": PiecewiseLinear((-1.0, 1.0), (0.0, 1.0, 0.0)),
    "tanh": Series(torch.tanh),
}
K, Q1, Q2 = (torch.tensor(v, dtype=torch.float64) for v in ([-0.6, 0.0, 0.3, 0.9], [0.7] * 4, [1.5] * 4))


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms_by_two_dimensional_quadrature(name):
    """On a grid of 1601² points up to nine standard deviations; kinks cost the grid its last digits."""
    dual, function = CLOSED[name]
    z = torch.linspace(-9, 9, 1601, dtype=torch.float64)
    w = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    values = dual.nngp(K, Q1, Q2)
    for k, q1, q2, value in zip(K, Q1, Q2, values, strict=True):
        c = k / (q1 * q2).sqrt()
        u, v = q1.sqrt() * z, q2.sqrt() * (c * z[:, None] + (1 - c * c).sqrt() * z)
        expected = (w[:, None] * w * function(u)[:, None] * function(v)).sum()
        assert value.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_the_second_expectation_is_the_derivative_of_the_first_in_the_covariance(name):
    """Price's theorem, which the NTK's rule rests on."""
    k = K.clone().requires_grad_()
    (slope,) = torch.autograd.grad(ALL[name].nngp(k, Q1, Q2).sum(), k)
    torch.testing.assert_close(slope, ALL[name].derivative(K, Q1, Q2), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [*CLOSED, "hardtanh"])
@pytest.mark.parametrize("expectation", ["nngp", "derivative"])
def test_the_last_bit_does_not_depend_on_where_in_a_tensor_a_pair_stands(name, expectation):
    """Some functions of torch compute the last numbers of a tensor in another way than those before."""
    generator = torch.Generator().manual_seed(0)
    q1, q2, c = (torch.rand(101, generator=generator, dtype=torch.float64) for _ in range(3))
    k = (2 * c - 1) * (q1 * q2).sqrt()
    function = getattr(ALL[name], expectation)
    together = function(k, q1, q2)
    apart = torch.cat([function(*(t[i : i + 1] for t in (k, q1, q2))) for i in range(101)])
    assert torch.equal(together, apart)


@pytest.mark.parametrize("name", ALL)
def test_independent_inputs_have_the_product_of_the_means(name):
    """At k = 0, E[φ(u) φ(v)] = E[φ(u)] E[φ(v)], whose square is the product of the two squared means."""
    zero = torch.zeros(1, dtype=torch.float64)
    one, two = torch.tensor([0.7], dtype=torch.float64), torch.tensor([1.5], dtype=torch.float64)
    mixed = ALL[name].nngp(zero, one, two)
    squares = ALL[name].nngp(zero, one, one) * ALL[name].nngp(zero, two, two)
    torch.testing.assert_close(mixed**2, squares, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", ALL)
def test_values_and_gradients_are_finite_for_equal_and_for_vanishing_inputs(name):
    q1, q2, k = (
        torch.tensor(v, dtype=torch.float64, requires_grad=True)
        for v in ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 2.0], [1.0, -1.0, 0.0, 0.0])
    )
    if name == "gaussian" or name == "exp":
        k.data[1] = -0.5  # nothing special happens at parallel inputs; keep away from the far tail
    total = (ALL[name].nngp(k, q1, q2) + ALL[name].derivative(k, q1, q2)).sum()
    gradients = torch.autograd.grad(total, (k, q1, q2))
    assert torch.isfinite(total)
    assert all(torch.isfinite(g).all() for g in gradients)


def test_an_input_with_itself_takes_the_short_way_to_the_same_value():
    q = torch.tensor([0.3, 2.0], dtype=torch.float64)
    for slope in (0.0, 0.2, -1.0):
        dual = duals.LeakyReLU(slope)
        torch.testing.assert_close(dual.nngp(q, q, q), dual.nngp(q.clone(), q, q), rtol=1e-14, atol=0)


def _exact_gelu(k, q1, q2):
    a, b = 1 + q1, 1 + q2
    gap = a * b - k * k
    level = mpmath.mpf(1) / 4 + mpmath.atan2(k, mpmath.sqrt(gap)) / (2 * mpmath.pi)
    density = 1 / (2 * mpmath.pi * mpmath.sqrt(gap))
    return k * level + density * (q1 * q2 + (1 / a + 1 / b - 1) * k * k), level + k * density * (
        1 / a + 1 / b + 1 / gap
    )


def _exact_erf(k, q1, q2):
    gap = (1 + 2 * q1) * (1 + 2 * q2) - 4 * k * k
    return 2 / mpmath.pi * mpmath.atan2(2 * k, mpmath.sqrt(gap)), 4 / mpmath.pi / mpmath.sqrt(gap)


@pytest.mark.parametrize("q", [1e2, 1e4, 1e6, 1e9, 1e13, 1e16])
@pytest.mark.parametrize(("dual", "exact"), [(duals.GELU(), _exact_gelu), (duals.Erf(), _exact_erf)])
def test_coincident_inputs_of_large_variance(dual, exact, q):
    """The gap of coincident inputs is far below the rounding of k²."""
    variance = torch.tensor(q, dtype=torch.float64)
    with mpmath.workdps(60):
        value, slope = (float(x) for x in exact(*[mpmath.mpf(q)] * 3))
    torch.testing.assert_close(
        float(dual.nngp(variance, variance, variance)), value, rtol=1e-14 + 1e-15 * q**0.5, atol=0
    )
    torch.testing.assert_close(
        float(dual.derivative(variance, variance, variance)), slope, rtol=1e-14 + 1e-15 * q**0.5, atol=0
    )


@pytest.mark.parametrize("q", [1e2, 1e4, 1e6, 1e9])
def test_near_inputs_of_large_variance_in_gelu(q):
    k, q1, q2 = (torch.tensor(number, dtype=torch.float64) for number in (q * (1 - 3e-4), q, q * (1 + 2e-4)))
    with mpmath.workdps(60):
        value, slope = (float(x) for x in _exact_gelu(*(mpmath.mpf(float(t)) for t in (k, q1, q2))))
    torch.testing.assert_close(float(duals.GELU().nngp(k, q1, q2)), value, rtol=1e-13, atol=0)
    torch.testing.assert_close(float(duals.GELU().derivative(k, q1, q2)), slope, rtol=1e-13, atol=0)


@pytest.mark.parametrize(("dual", "exact"), [(duals.Erf(), _exact_erf), (duals.GELU(), _exact_gelu)])
def test_activations_tell_how_far_they_are_off(dual, exact):
    """Beside mpmath, on near pairs, where the rounding of k is a large part of the gap."""
    generator = torch.Generator().manual_seed(0)
    for q in (1e4, 1e6, 1e8):
        worst = 0.0
        for share in torch.rand(50, generator=generator, dtype=torch.float64):
            q1 = torch.tensor(q, dtype=torch.float64)
            k = q1 * (1 - share / q)
            with mpmath.workdps(60):
                truth = [float(number) for number in exact(*(mpmath.mpf(float(t)) for t in (k, q1, q1)))]
            found = float(dual.nngp(k, q1, q1)), float(dual.derivative(k, q1, q1))
            worst = max(worst, *(abs(a / b - 1) for a, b in zip(found, truth, strict=True)))
        assert worst / 10 < dual.relative_error(q) < 20 * worst
