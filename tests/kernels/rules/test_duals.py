"""The Gaussian expectations of activations: by quadrature, by Price's theorem, and at the edges of their domain."""

import math

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
