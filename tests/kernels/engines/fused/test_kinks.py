"""Piecewise linear activations on a row, beside an integral in many digits and the readable formulas; their networks."""

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mpmath import mpf
from numba import njit
from torch import nn

from kernels import networks
from kernels.engines.fused import checks
from kernels.engines.fused.checks import dense
from kernels.engines.fused.kinked_rows import WIDTH, expectations, numbers_of, row, scales
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import kinks, numbers
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import pointer
from ntklens.kernels.rules.piecewise import PiecewiseLinear

ACTIVATIONS = {
    "line": PiecewiseLinear((), (0.7,), 0.3),
    "ReLU6": PiecewiseLinear((0.0, 6.0), (0.0, 1.0, 0.0)),
    "Hardtanh": PiecewiseLinear((-1.0, 1.0), (0.0, 1.0, 0.0)),
    "Hardsigmoid": PiecewiseLinear((-3.0, 3.0), (0.0, 1 / 6, 0.0), 0.5),
    "three kinks": PiecewiseLinear((-1.0, 0.0, 2.0), (0.3, 1.0, 0.5, -0.2), 0.7),
    "flat at zero": PiecewiseLinear((0.2, 2.0), (0.0, 1.0, 0.0), 0.2),
}


@njit
def forward(nngp, ntk, of_x, of_z, origin, slope, line, scratch):
    kinks.kinks_row(
        pointer(nngp), pointer(ntk), pointer(of_x), pointer(of_z), WIDTH, 1, WIDTH, WIDTH * LANES,
        origin, slope, pointer(line), pointer(scratch),
    )  # fmt: skip


@njit
def backward(nngp_bar, ntk_bar, nngp, ntk, of_x, of_z, origin, slope, line, log_std_bar, scratch):
    kinks.kinks_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(of_x), pointer(of_z), WIDTH, 1,
        WIDTH, WIDTH * LANES, origin, slope, pointer(line), pointer(log_std_bar), pointer(scratch),
    )  # fmt: skip


def run_forward(dual, k, theta, std_x, std_z, dtype):
    k, theta = k.reshape(-1).copy(), theta.reshape(-1).astype(dtype)
    of_x, of_z, line = numbers_of(dual, std_x), numbers_of(dual, std_z), np.array(numbers.factors(dual))
    forward(k, theta, of_x, of_z, dual.origin, dual.hinges.slope, line, np.zeros(LANES * WIDTH, dtype))
    return k.reshape(WIDTH, LANES), theta.reshape(WIDTH, LANES)


def many_digits(dual, k, std_x, std_z):
    """E[φφ] and E[φ'φ'] by the integral over the angle from independence on (Drezner & Wesolowsky 1990)."""
    s, r = mpf(float(std_x)), mpf(float(std_z))
    jumps = [(mpf(t), mpf(b) - mpf(a)) for t, a, b in zip(dual.kinks, dual.slopes, dual.slopes[1:], strict=False)]
    start = dual.origin - sum(jump * max(-t, 0) for t, jump in jumps)
    end = mpmath.asin(mpf(float(k)) / (s * r))

    def above(t, std):
        return mpmath.erfc(t / std / mpmath.sqrt(2)) / 2

    def mean(std):
        densities = [std * mpmath.npdf(t / std) - t * above(t, std) for t, _ in jumps]
        return start + sum(jump * v for (_, jump), v in zip(jumps, densities, strict=True))

    def mean_slope(std):
        return dual.slopes[0] + sum(jump * above(t, std) for t, jump in jumps)

    def density(u):
        sine, cosine = mpmath.sin(end * u), mpmath.cos(end * u)
        return sum(
            jump * other * mpmath.exp(-((t / s) ** 2 - 2 * t * v * sine / (s * r) + (v / r) ** 2) / (2 * cosine**2))
            for t, jump in jumps
            for v, other in jumps
        )

    places = [0, *(1 - mpf(2) ** -i for i in range(1, 30)), 1]
    growth = end / (2 * mpmath.pi) * mpmath.quad(density, places)
    moment = end / (2 * mpmath.pi) * mpmath.quad(lambda u: density(u) * mpmath.sin(end * u) * s * r, places)
    derivative = mean_slope(s) * mean_slope(r) + growth
    return float(mean(s) * mean(r) + mpf(float(k)) * derivative - moment), float(derivative)


@pytest.mark.parametrize("name", ["ReLU6", "Hardtanh", "three kinks"])
def test_a_row_is_the_integral_in_many_digits(name):
    """The variances are up to 1000, and the gaps down to 10^-6, at which an angle has 10 of its 16 digits."""
    dual, (k, theta, std_x, std_z) = ACTIVATIONS[name], row(31.0)
    value, derivative = run_forward(dual, k, theta, std_x, std_z, np.float64)
    of_value, of_derivative = scales(dual, std_x, std_z)
    with mpmath.workdps(25):
        for p, lane in [(p, (3 * p) % LANES) for p in range(0, WIDTH, 6)]:
            truth = many_digits(dual, k[p, lane], std_x[p], std_z[p, lane])
            assert value[p, lane] == pytest.approx(truth[0], abs=1e-12 * of_value[p, lane])
            assert derivative[p, lane] / theta[p, lane] == pytest.approx(truth[1], abs=3e-10 * of_derivative[p, lane])


# The compiler gives what is flat at zero float64, in which its small tails keep their digits.
DOUBLE = [(name, np.float64, 1e-12, 3e-10) for name in ACTIVATIONS]
SINGLE = [(name, np.float32, 1e-6, 1e-6) for name in ACTIVATIONS if name != "flat at zero"]


@pytest.mark.parametrize("largest", [3.0, 31.0])
@pytest.mark.parametrize(("name", "dtype", "bound", "steep"), DOUBLE + SINGLE)
def test_a_row_is_the_expectations(name, dtype, bound, steep, largest):
    dual, (k, theta, std_x, std_z) = ACTIVATIONS[name], row(largest)
    std_x[3] = std_z[4, 5] = 0.0  # inputs of variance 0
    k[3] = k[4, 5] = 0.0
    value, derivative = run_forward(dual, k, theta, std_x, std_z, dtype)
    truth = [v.numpy() for v in expectations(dual, *map(torch.from_numpy, (k, std_x, std_z)))]
    of_value, of_derivative = scales(dual, std_x, std_z)
    if name == "flat at zero":  # far out, its tails are exact beside 1 alone
        of_derivative = np.maximum(of_derivative, 1e-12)
    assert (np.abs(value - truth[0]) <= bound * of_value).all()
    assert (np.abs(derivative / theta - truth[1]) <= steep * of_derivative).all()


def test_parallel_inputs_are_exact():
    """E[φφ] of an input with itself is its variance, to the rounding beside which a later kink takes an angle."""
    dual, (_, theta, std_x, _) = ACTIVATIONS["Hardtanh"], row(1.0)
    std_z = np.repeat(std_x[:, None], LANES, 1)
    value, derivative = run_forward(dual, std_z**2, theta, std_x, std_z, np.float32)
    q = torch.from_numpy(std_z**2)
    np.testing.assert_allclose(value, dual.nngp(q, q, q), rtol=2e-15)
    np.testing.assert_allclose(derivative / theta, dual.derivative(q, q, q), rtol=2e-7)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 1e-9), (np.float32, 1e-5)])
@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "line"])
def test_the_way_back_is_autograds(name, dtype, bound):
    dual, arrays = ACTIVATIONS[name], row(31.0)
    arrays[2][3] = arrays[3][4, 5] = 0.0
    arrays[0][3] = arrays[0][4, 5] = 0.0
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    value, derivative = expectations(dual, k, std_x, std_z)
    (value * torch.from_numpy(bars[0]) + theta * derivative * torch.from_numpy(bars[1])).sum().backward()
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).astype(dtype), np.zeros(WIDTH)
    of_x, of_z, line = numbers_of(dual, arrays[2]), numbers_of(dual, arrays[3]), np.array(numbers.factors(dual))
    backward(
        k_bar, theta_bar, arrays[0].reshape(-1).copy(), arrays[1].reshape(-1).astype(dtype), of_x, of_z,
        dual.origin, dual.hinges.slope, line, log_std_bar, np.zeros(LANES * WIDTH, dtype),
    )  # fmt: skip
    for found, truth in ((k_bar, k.grad), (theta_bar, theta.grad), (log_std_bar, std_x.grad * std_x)):
        truth = truth.detach().flatten().numpy()
        np.testing.assert_allclose(found, truth, rtol=bound, atol=bound * np.abs(truth).max())


def normalised(x16=16):
    return nn.Sequential(
        *(nn.Linear(x16, 8), nn.Hardtanh(), nn.Linear(8, 8), nn.LayerNorm(8), nn.ReLU6(), nn.Linear(8, 1))
    )


NETWORKS = {
    "ReLU6": ((16,), lambda: dense(F.relu6, F.relu6, F.relu6)),
    "ReLU6, erf, ReLU6": ((16,), lambda: dense(F.relu6, torch.erf, F.relu6)),
    "ReLU, Hardtanh, GELU": ((16,), lambda: dense(F.relu, F.hardtanh, F.gelu)),
    "flat at zero": ((16,), lambda: dense(*[lambda u: F.hardtanh(u, 0.2, 2.0)] * 2)),
    "Hardtanh, LayerNorm, ReLU6": ((16,), normalised),
    "Hardtanh, ReLU6, flattened": (
        (1, 5, 5),
        lambda: nn.Sequential(
            networks.conv(1), nn.Hardtanh(), networks.conv(6), nn.ReLU6(), nn.Flatten(), nn.Linear(150, 1)
        ),
    ),
    "ReLU6, Hardtanh, pooled": (
        (1, 3, 4),
        lambda: nn.Sequential(
            *(networks.conv(1), nn.ReLU6(), networks.conv(6), nn.Hardtanh(), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Linear(6, 1)),
        ),
    ),
    "Hardtanh, average, Hardsigmoid": (
        (1, 4, 4),
        lambda: nn.Sequential(
            *(networks.conv(1), nn.Hardtanh(), nn.AvgPool2d(2), networks.conv(6), nn.Hardsigmoid()),
            *(nn.Flatten(), nn.Linear(24, 1)),
        ),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_reference(name):
    shape, make = NETWORKS[name]
    fast, plain = (analytic_kernel(make(), engine=engine) for engine in ("auto", "reference"))
    assert "fused engine for processors runs" in fast.plan(shape)
    checks.agrees_at_special_inputs(fast, plain, shape)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_entry_is_the_same_to_the_last_bit_beside_any_other_inputs(name, dtype):
    """Few images are packed in lanes, and a large standard deviation in a lane is no matter of the others."""
    shape, make = NETWORKS[name]
    assert checks.has_the_same_bits_in_every_batch(analytic_kernel(make()), shape, 1.5, dtype=dtype)


@pytest.mark.parametrize("function", [F.relu6, F.hardtanh])
def test_near_pairs_in_float32_are_as_good_as_those_of_relu(function):
    of_relu, own = (checks.errors_in_a_near_pair(f, 1) for f in (F.relu, function))
    assert own[0] < max(3e-7, 3 * of_relu[0])
    assert own[1] < max(1e-5, 3 * of_relu[1])
