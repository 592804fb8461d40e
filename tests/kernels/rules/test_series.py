"""Hermite series, and the integrals that complete them, against closed forms."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels import networks
from ntklens.errors import InputError
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.rules.duals import GELU, Erf, Gaussian, LeakyReLU
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series

K, Q1, Q2 = (torch.tensor(v, dtype=torch.float64) for v in ([-0.5, 0.2, 0.8], [0.7, 1.0, 0.9], [1.5, 1.0, 0.9]))


def test_a_square_has_three_terms():
    """E[u² v²] = q1 q2 + 2 k² and E[2u 2v] = 4 k."""
    square = Series(lambda u: u * u, degree=2, nodes=100)
    torch.testing.assert_close(square.nngp(K, Q1, Q2), Q1 * Q2 + 2 * K**2, rtol=1e-12, atol=0)
    torch.testing.assert_close(square.derivative(K, Q1, Q2), 4 * K, rtol=1e-12, atol=0)
    assert square.rest(torch.tensor(1.3, dtype=torch.float64)) < 1e-12


def test_a_smooth_function_has_the_digits_of_its_closed_form():
    series = Series(lambda u: torch.exp(-u * u), degree=200)
    torch.testing.assert_close(series.nngp(K, Q1, Q2), Gaussian().nngp(K, Q1, Q2), rtol=1e-11, atol=0)
    torch.testing.assert_close(series.derivative(K, Q1, Q2), Gaussian().derivative(K, Q1, Q2), rtol=1e-9, atol=0)


CLOSED = {"erf": (torch.erf, Erf()), "GELU": (F.gelu, GELU()), "ReLU": (torch.relu, LeakyReLU())}
CORRELATIONS = (-0.9999, -0.9, 0.0, 0.5, 0.9, 0.97, 0.985, 0.999, 0.999999, 1 - 1e-9, 1.0, -1.0)


@pytest.mark.parametrize("q", [0.2, 4.0, 170.0])
@pytest.mark.parametrize("name", CLOSED)
def test_every_variance_and_correlation_has_the_digits_of_the_closed_form(name, q):
    function, closed = CLOSED[name]
    c = torch.tensor(CORRELATIONS, dtype=torch.float64)
    k, q1, q2 = c * q * 1.2, torch.tensor([q]).double(), torch.tensor([1.44 * q]).double()
    for method in ("nngp", "derivative"):
        values, exact = (getattr(dual, method)(k, q1, q2) for dual in (Series(function), closed))
        scale = (getattr(closed, method)(q1, q1, q1) * getattr(closed, method)(q2, q2, q2)).sqrt()
        # The closed form of GELU itself cancels at large variances.
        assert float(((values - exact).abs() / scale).max()) < (3e-6 if name == "ReLU" else 1e-8), method


@pytest.mark.parametrize("q", [0.2, 4.0, 150.0])
def test_derivatives_are_those_of_the_closed_form(q):
    c = torch.tensor((-0.9, 0.5, 0.9, 0.97, 0.99, 0.9999), dtype=torch.float64)
    for method in ("nngp", "derivative"):
        slopes = []
        for dual in (Series(torch.erf), Erf()):
            k = (1.2 * q * c).requires_grad_()
            q1, q2 = (torch.full_like(c, v).requires_grad_() for v in (q, 1.44 * q))
            slopes.append(torch.autograd.grad(getattr(dual, method)(k, q1, q2).sum(), (k, q1, q2)))
        for made, exact in zip(*slopes, strict=True):
            torch.testing.assert_close(made, exact, rtol=1e-5, atol=1e-9 * float(exact.abs().max()))


def test_an_input_given_twice_has_half_of_the_derivative_on_each_side():
    q = torch.tensor([150.0], dtype=torch.float64, requires_grad=True)
    other = q.detach().clone().requires_grad_()
    value = Series(torch.tanh).nngp(q.detach(), q, other)
    first, second = torch.autograd.grad(value.sum(), (q, other))
    assert first.item() == pytest.approx(second.item())
    assert first.item() > 0


def test_a_pair_has_the_same_value_in_every_batch():
    generator = torch.Generator().manual_seed(0)
    q1, q2 = (80 * torch.rand(shape, generator=generator, dtype=torch.float64) for shape in ((6, 1), (1, 7)))
    c = 1 - 0.3 * torch.rand(6, 7, generator=generator, dtype=torch.float64) ** 3
    k = c * (q1 * q2).sqrt()
    for method in (Series(F.elu).nngp, Series(F.elu).derivative):
        together = method(k, q1, q2)
        one = method(k[2:3, 3:4], q1[2:3], q2[:, 3:4])
        torch.testing.assert_close(one, together[2:3, 3:4], rtol=1e-13, atol=0)


def test_a_variance_beyond_those_that_are_right_is_told():
    q = torch.tensor([2e4], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"variance of 2\.05e\+03 at most, .* got 2e\+04, where it may be wrong"):
        value = Series(torch.tanh).nngp(0.9 * q, q, q)
    assert 0 < float(value) < 1


@pytest.mark.parametrize(
    "function",
    [
        lambda u: torch.relu(u - 0.5),
        torch.sign,
        F.hardswish,
        lambda u: (u - 1).abs() + (u + 1).abs(),
        torch.Tensor.detach,
    ],
)
def test_functions_with_other_kinks_or_jumps_are_refused(function):
    with pytest.raises(InputError, match="smooth but for kinks at 0, "):
        Series(function).check()


@pytest.mark.parametrize("q", [0.01, 1.0, 30.0, 1000.0])
def test_kinks_anywhere_have_the_digits_of_the_smooth_integral(q):
    """Hardtanh, beside the integral over the angle that `PiecewiseLinear` computes."""
    series, closed = Series(F.hardtanh, kinks=(-1.0, 1.0)), PiecewiseLinear((-1.0, 1.0), (0.0, 1.0, 0.0))
    series.check()
    c = torch.tensor(CORRELATIONS, dtype=torch.float64)
    k, q1, q2 = c * q * 1.2, torch.tensor([q]).double(), torch.tensor([1.44 * q]).double()
    for method in ("nngp", "derivative"):
        values, exact = (getattr(dual, method)(k, q1, q2) for dual in (series, closed))
        scale = (getattr(closed, method)(q1, q1, q1) * getattr(closed, method)(q2, q2, q2)).sqrt()
        assert float(((values - exact).abs() / scale).max()) < 1e-6, method


@pytest.mark.parametrize("function", [torch.relu, torch.sin, F.elu, lambda u: u**5, torch.ones_like, torch.exp])
def test_functions_with_a_kink_at_zero_at_most_are_taken(function):
    assert Series(function).check() is None


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="finite values"):
        Series(lambda u: torch.exp(u * u)).check()


def test_coefficients_of_the_identity_and_their_shape():
    a = Series(lambda u: u, degree=5, nodes=50).coefficients(torch.tensor([[4.0], [9.0]], dtype=torch.float64))
    assert a.shape == (2, 1, 6)
    torch.testing.assert_close(a[:, 0, 1], torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert a[:, 0, [0, 2, 3, 4, 5]].abs().max() < 1e-12


def test_a_vanishing_input_has_the_value_at_zero_and_no_derivative():
    zero = torch.zeros(1, dtype=torch.float64)
    assert Series(torch.cos).nngp(zero, zero, zero).item() == pytest.approx(math.cos(0) ** 2)
    assert Series(torch.cos).derivative(zero, zero, zero).item() == 0


def test_a_variance_that_is_no_number_gives_none():
    nan = torch.tensor([[math.nan]], dtype=torch.float64)
    assert Series(torch.tanh).nngp(nan, nan, nan).isnan().all()


def test_a_function_that_changes_fast_is_told_at_ordinary_variances():
    q = torch.tensor([0.9], dtype=torch.float64)
    with pytest.warns(UserWarning, match=r"variance of 0\.5 at most, .* got 0\.9, where it may be wrong"):
        value = Series(lambda u: torch.sin(9 * u)).nngp(0.5 * q, q, q)
    assert abs(float(value)) < 1


@pytest.mark.parametrize("kinks", [(-3.0, 3.0), (0.0, 6.0)])
def test_the_gradient_of_an_input_beside_itself_is_half_that_of_its_own_kernel(kinks):
    """Kinks away from zero part where variances do, and the derivative by one of them jumps."""
    function = F.hardswish if kinks[0] < 0 else F.relu6
    kernel, exact = (
        analytic_kernel(networks.dense(f, 2)) for f in (activation(lambda u: function(u), kinks=kinks), function)
    )
    x = 3 * torch.randn(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    gradient = kernel.gradient(x, x, torch.eye(2, dtype=torch.float64))
    step = torch.zeros_like(x)
    step[:, 5] = 1e-4
    difference = (exact.diagonal(x + step) - exact.diagonal(x - step)) / (4 * 1e-4)
    torch.testing.assert_close(gradient[:, 5], difference, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kink", [0.5, 1.0])
def test_a_function_that_is_constant_about_zero_is_known_at_usual_variances(kink):
    """Its moments at tiny variances are tails, of which a wrong digit is told to nobody."""
    ramp = activation(lambda u: torch.relu(u - kink), kinks=(kink,))

    class Ramp(nn.Module):
        def forward(self, u):
            return ramp(u)

    own = nn.Sequential(nn.Linear(5, 8), Ramp(), nn.Linear(8, 1))
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = torch.cat([x, 0.02 * x, 0.2 * x])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = analytic_kernel(own, b_std=0.0)(x)
    dual = PiecewiseLinear((kink,), (0.0, 1.0), 0.0)
    k = 2 * x @ x.T / 5
    q = k.diagonal()
    truth = 2 * dual.nngp(k, q[:, None], q[None]) + 2 * k * dual.derivative(k, q[:, None], q[None])
    torch.testing.assert_close(result, truth, rtol=1e-8, atol=1e-12)
