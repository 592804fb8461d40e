"""Piecewise linear activations against the closed form of one kink and against simple limits."""

import warnings

import mpmath
import pytest
import torch
from torch import nn

from ntklens.kernels import analytic_kernel
from ntklens.kernels.rules.duals import LeakyReLU
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.piecewise import PiecewiseLinear

K, Q1, Q2 = (
    torch.tensor(v, dtype=torch.float64) for v in ([-0.9, 0.0, 0.5, 1.0], [0.9, 0.7, 0.7, 1.0], [0.9, 2.0, 1.5, 1.0])
)


@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0])
def test_one_kink_at_zero_is_leaky_relu(slope):
    dual, closed = PiecewiseLinear((0.0,), (slope, 1.0)), LeakyReLU(slope)
    torch.testing.assert_close(dual.nngp(K, Q1, Q2), closed.nngp(K, Q1, Q2), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(dual.derivative(K, Q1, Q2), closed.derivative(K, Q1, Q2), rtol=1e-12, atol=1e-14)


def test_without_a_jump_it_is_a_line():
    """φ(u) = 2 u + 1, so E[φφ] = 4 k + 1 and E[φ'φ'] = 4."""
    line = PiecewiseLinear((-1.0, 0.5), (2.0, 2.0, 2.0), origin=1.0)
    torch.testing.assert_close(line.nngp(K, Q1, Q2), 4 * K + 1)
    torch.testing.assert_close(line.derivative(K, Q1, Q2), torch.full_like(K, 4.0))


def test_kinks_far_away_do_not_count():
    far = PiecewiseLinear((-60.0, 60.0), (0.0, 1.0, 0.0))
    torch.testing.assert_close(far.nngp(K, Q1, Q2), K)


def test_a_vanishing_input_has_the_value_at_zero():
    zero = torch.zeros(1, dtype=torch.float64)
    hard_sigmoid = PiecewiseLinear((-3.0, 3.0), (0.0, 1 / 6, 0.0), origin=0.5)
    torch.testing.assert_close(hard_sigmoid.nngp(zero, zero, zero), zero + 0.25)
    torch.testing.assert_close(hard_sigmoid.derivative(zero, zero, zero), zero + 1 / 36)


@pytest.mark.parametrize("layer", [nn.Hardtanh(), nn.Hardsigmoid(), nn.ReLU6(), nn.Hardtanh(-2.0, 0.5)])
@pytest.mark.parametrize("std", [1.5, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_inputs_of_one_norm_have_the_gradient_of_their_values(layer, std, kind):
    """Their distances to a kink differ by a rounding or not at all, and so may or may not their tails."""
    generator = torch.Generator().manual_seed(4)
    x, z = (torch.randn(40, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    x, z = (std * 8**0.5 * v / v.norm(dim=1, keepdim=True) for v in (x, z))
    net = nn.Sequential(nn.Linear(8, 4), layer, nn.Linear(4, 1))
    kernel = analytic_kernel(net, w_std=1.0, b_std=0.0, engine="reference")
    direction = torch.randn(40, 8, generator=generator, dtype=torch.float64)
    step = 1e-5
    ahead, behind = (kernel(x + h * direction, z, kind).diagonal() for h in (step, -step))
    gradient = kernel.gradient(x, z, torch.eye(40, dtype=torch.float64), kind)
    along, expected = (gradient * direction).sum(1), (ahead - behind) / (2 * step)
    torch.testing.assert_close(along, expected, rtol=1e-4, atol=1e-5 * float(gradient.norm(dim=1).max()))


HATS = {
    "Hardtanh": PiecewiseLinear((-1.0, 1.0), (0.0, 1.0, 0.0)),
    "hat": PiecewiseLinear((-1.0, 0.0, 1.0), (0.0, 1.0, -1.0, 0.0), origin=1.0),
    "narrow hat": PiecewiseLinear((-0.01, 0.0, 0.01), (0.0, 1.0, -1.0, 0.0), origin=0.01),
}


@pytest.mark.parametrize("name", HATS)
@pytest.mark.parametrize("std", [1.0, 30.0, 1e3, 1e5])
def test_the_error_that_is_expected_is_about_the_error(name, std):
    """By the integral in 30 digits, between the kinks, of a function that is 0 beyond them but for Hardtanh."""
    dual, q = HATS[name], torch.tensor(std**2, dtype=torch.float64)
    end = dual.kinks[-1]
    with mpmath.workdps(30):
        kink = mpmath.mpf(end) / std
        inside = (lambda z: (std * z) ** 2) if name == "Hardtanh" else (lambda z: (end - abs(std * z)) ** 2)
        truth = mpmath.quad(lambda z: inside(z) * mpmath.npdf(z), [-kink, 0, kink])
        truth += mpmath.erfc(kink / mpmath.sqrt(2)) if name == "Hardtanh" else 0
        error = abs(float((mpmath.mpf(float(dual.nngp(q, q, q))) - truth) / truth))
    assert error < 5 * dual.relative_error(std**2) + 1e-15
    assert dual.relative_error(std**2) < 1e-8 or error > 1e-12


@pytest.mark.parametrize("q", [0.0, 5e-324, 1e-4, 9e-4, 0.0049, 0.3, 10.0])
def test_nothing_cancels_at_small_variances(q):
    """Where an activation is flat at zero, its values fall as fast as their terms."""
    shrink = PiecewiseLinear((-0.5, 0.5), (1.0, 0.0, 1.0))
    relu6 = PiecewiseLinear((0.0, 6.0), (0.0, 1.0, 0.0))
    for dual in (shrink, relu6, HATS["hat"], Hardswish()):
        assert dual.relative_error(q) < 1e-9


def test_overflow_is_no_small_error():
    for dual in (HATS["Hardtanh"], Hardswish()):
        assert dual.relative_error(1e200) > 1


@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize(("layer", "right", "wrong"), [(nn.Hardtanh(), 1e4, 1e5), (nn.Hardswish(), 1e4, 1e6)])
@pytest.mark.parametrize("shape", [(4,), (1, 2, 2)])
def test_variances_at_which_digits_are_lost_are_told(layer, right, wrong, shape, engine):
    first = nn.Linear(4, 8) if len(shape) == 1 else nn.Conv2d(1, 8, 1)
    net = nn.Sequential(first, layer, nn.Flatten(), nn.LazyLinear(1))
    net(torch.zeros(1, *shape))
    kernel = analytic_kernel(net, w_std=1.0, b_std=0.0, engine=engine)
    x = torch.ones(2, *shape, dtype=torch.float64)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        kernel(right * x)
    assert not caught
    with pytest.warns(UserWarning, match=r"with a smaller variance; got about 1e\+1\d, at which terms cancel"):
        kernel(wrong * x)
    with pytest.warns(UserWarning, match="Use a smaller w_std"):
        kernel.gradient(wrong * x, x, torch.ones(2, 2, dtype=torch.float64))
