"""Hardswish on a row beside the readable formulas, which have an integral in many digits beside them; its networks."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit
from torch import nn

from kernels import networks
from kernels.engines.fused import checks
from kernels.engines.fused.checks import dense
from kernels.engines.fused.kinked_rows import WIDTH, expectations, numbers_of, row, scales
from kernels.engines.fused.rows import worst
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.engines.fused import hardswish
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import pointer
from ntklens.kernels.rules.hardswish import Hardswish

DUAL = Hardswish()


@njit
def forward(nngp, ntk, of_x, of_z):
    hardswish.hardswish_row(
        pointer(nngp), pointer(ntk), pointer(of_x), pointer(of_z), WIDTH, 1, WIDTH, WIDTH * LANES
    )  # fmt: skip


@njit
def backward(nngp_bar, ntk_bar, nngp, ntk, of_x, of_z, log_std_bar):
    hardswish.hardswish_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(of_x), pointer(of_z), WIDTH, 1,
        WIDTH, WIDTH * LANES, pointer(log_std_bar),
    )  # fmt: skip


def run_forward(k, theta, std_x, std_z, dtype):
    k, theta = k.reshape(-1).copy(), theta.reshape(-1).astype(dtype)
    forward(k, theta, numbers_of(DUAL, std_x), numbers_of(DUAL, std_z))
    return k.reshape(WIDTH, LANES), theta.reshape(WIDTH, LANES)


def with_vanishing_inputs(arrays):
    k, _, std_x, std_z = arrays
    std_x[3] = std_z[4, 5] = k[3] = k[4, 5] = 0.0
    return arrays


@pytest.mark.parametrize("largest", [3.0, 31.0])
@pytest.mark.parametrize(("dtype", "steep"), [(np.float64, 1e-13), (np.float32, 2e-7)])
def test_a_row_is_the_expectations(dtype, steep, largest):
    k, theta, std_x, std_z = with_vanishing_inputs(row(largest))
    value, derivative = run_forward(k, theta, std_x, std_z, dtype)
    truth = [v.numpy() for v in expectations(DUAL, *map(torch.from_numpy, (k, std_x, std_z)))]
    of_value, of_derivative = scales(DUAL, std_x, std_z)
    assert (np.abs(value - truth[0]) <= 1e-13 * of_value).all()
    assert (np.abs(derivative / theta - truth[1]) <= steep * of_derivative).all()


@pytest.mark.parametrize("largest", [3.0, 31.0])
def test_parallel_inputs_are_exact(largest):
    """E[φφ] of an input with itself is its variance, to the rounding beside which a later kink takes an angle."""
    _, theta, std_x, _ = row(largest)
    std_z = np.repeat(std_x[:, None], LANES, 1)
    value, derivative = run_forward(std_z**2, theta, std_x, std_z, np.float64)
    q = torch.from_numpy(std_z**2)
    np.testing.assert_allclose(value, DUAL.nngp(q, q, q), rtol=1e-15)
    np.testing.assert_allclose(derivative / theta, DUAL.derivative(q, q, q), rtol=1e-15)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float64, 2e-12), (np.float32, 1e-6)])
def test_the_way_back_is_autograds(dtype, bound):
    arrays = with_vanishing_inputs(row(31.0))
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    value, derivative = expectations(DUAL, k, std_x, std_z)
    (value * torch.from_numpy(bars[0]) + theta * derivative * torch.from_numpy(bars[1])).sum().backward()
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).astype(dtype), np.zeros(WIDTH)
    of_theta = arrays[1].reshape(-1).astype(dtype)
    backward(
        k_bar,
        theta_bar,
        arrays[0].reshape(-1).copy(),
        of_theta,
        numbers_of(DUAL, arrays[2]),
        numbers_of(DUAL, arrays[3]),
        log_std_bar,
    )
    for found, truth in ((k_bar, k.grad), (theta_bar, theta.grad), (log_std_bar, std_x.grad * std_x)):
        truth = truth.detach().flatten().numpy()
        np.testing.assert_allclose(found, truth, rtol=bound, atol=bound * np.abs(truth).max())


def convolutional(*end):
    return nn.Sequential(networks.conv(1), nn.Hardswish(), *end)


NETWORKS = {
    "dense": ((16,), lambda: dense(F.hardswish, F.hardswish, F.hardswish)),
    "Hardswish, erf, Hardswish": ((16,), lambda: dense(F.hardswish, torch.erf, F.hardswish)),
    "SiLU, ELU, Hardswish": ((16,), lambda: dense(F.silu, F.elu, F.hardswish)),
    "ReLU, Hardswish, ReLU6": ((16,), lambda: dense(F.relu, F.hardswish, F.relu6)),
    "LayerNorm": (
        (16,),
        lambda: nn.Sequential(
            *(nn.Linear(16, 8), nn.LayerNorm(8), nn.Hardswish(), nn.Linear(8, 8), nn.Hardswish(), nn.Linear(8, 1))
        ),
    ),
    "flattened": (
        (1, 5, 5),
        lambda: convolutional(networks.conv(6), nn.Hardswish(), nn.Flatten(), nn.Linear(150, 1)),
    ),
    "pooled": (
        (1, 3, 4),
        lambda: convolutional(
            *(networks.conv(6), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1))
        ),
    ),
    "average, Hardtanh": (
        (1, 4, 4),
        lambda: convolutional(nn.AvgPool2d(2), networks.conv(6), nn.Hardtanh(), nn.Flatten(), nn.Linear(24, 1)),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_reference(name):
    shape, make = NETWORKS[name]
    fast, plain = (analytic_kernel(make(), engine=engine) for engine in ("auto", "reference"))
    assert "fused engine for processors runs" in fast.plan(shape)
    checks.agrees_at_special_inputs(fast, plain, shape)


def test_networks_agree_with_the_series_of_any_activation():
    x, w = checks.special_inputs((16,)), checks.any_weights(9, 9)
    a, b, w = x[:4], x[5:], w[:4, 5:]  # no input with itself
    own = activation(lambda u: u * (u + 3).clamp(0, 6) / 6, kinks=(-3.0, 3.0))
    fast, series = (analytic_kernel(dense(*[function] * 3)) for function in (F.hardswish, own))
    assert worst(fast(x), series(x)) < 1e-8
    assert worst(fast.gradient(a, b, w), series.gradient(a, b, w)) < 1e-7


def test_an_input_with_itself_has_half_the_gradient_of_its_own_value():
    x, kernel = checks.special_inputs((16,))[:1], analytic_kernel(dense(*[F.hardswish] * 3))
    direction = torch.randn(1, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    along = float((kernel.gradient(x, x, torch.ones(1, 1, dtype=x.dtype)) * direction).sum())
    ends = [kernel(x + step * direction).item() for step in (1e-5, -1e-5)]
    assert along == pytest.approx((ends[0] - ends[1]) / 4e-5, rel=1e-8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", NETWORKS)
def test_an_entry_is_the_same_to_the_last_bit_beside_any_other_inputs(name, dtype):
    shape, make = NETWORKS[name]
    largest = 0.5 if "SiLU" in name else 1.5  # beyond its series, SiLU is left to the plain recursion
    assert checks.has_the_same_bits_in_every_batch(analytic_kernel(make()), shape, largest, dtype=dtype)


def test_near_pairs_in_float32_are_as_good_as_those_of_relu():
    of_relu, own = (checks.errors_in_a_near_pair(f, 3) for f in (F.relu, F.hardswish))
    assert own[0] < max(3e-7, 3 * of_relu[0])
    assert own[1] < max(1e-5, 3 * of_relu[1])
