"""Activations on a row, beside their Gaussian expectations and in the precision of the small angle of a near pair."""

import numpy as np
import pytest
import torch
from numba import njit

from ntklens.kernels.engines.fused import relu
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import load, pointer, sqrt, store
from ntklens.kernels.rules.duals import LeakyReLU


@njit
def angles(out, gaps):
    g = load(pointer(gaps), 0)
    store(pointer(out), 0, sqrt(g) * relu.angle_over_root(g + g - 1.0))


@njit
def excesses(out, gaps):
    g = load(pointer(gaps), 0)
    store(pointer(out), 0, g * sqrt(g) * relu.excess_over_power(g + g - 1.0))


@njit
def forward(nngp, ntk, std_x, std_z, width, slope, scratch):
    relu.relu_row(pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), width, 1, slope, pointer(scratch))


@njit
def backward(nngp_bar, ntk_bar, nngp, ntk, std_x, std_z, width, slope, log_std_bar, scratch):
    relu.relu_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), width, 1,
        slope, pointer(log_std_bar), pointer(scratch),
    )  # fmt: skip


WIDTH = 3


def row():
    """Covariances at any angle, Θ, and the standard deviations of x and z."""
    rng = np.random.default_rng(0)
    std_x, std_z = rng.uniform(0.5, 2, WIDTH), rng.uniform(0.5, 2, (WIDTH, LANES))
    cosines = rng.uniform(-0.99, 0.99, (WIDTH, LANES))
    return cosines * std_x[:, None] * std_z, rng.uniform(0, 3, (WIDTH, LANES)), std_x, std_z


def expectations(k, theta, std_x, std_z, slope):
    dual, q1, q2 = LeakyReLU(slope), std_x[:, None] ** 2, std_z**2
    return dual.nngp(k, q1, q2), theta * dual.derivative(k, q1, q2)


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.0], ids=["relu", "leaky", "abs"])
def test_a_row_of_activations_is_their_gaussian_expectations(slope):
    k, theta, std_x, std_z = row()
    expected = expectations(*map(torch.from_numpy, (k, theta, std_x, std_z)), slope)
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, std_x, std_z.reshape(-1), WIDTH, slope, np.empty(2 * WIDTH * LANES))
    np.testing.assert_allclose(flat_k, expected[0].flatten(), rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(flat_theta, expected[1].flatten(), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("slope", [0.0, 0.2, -1.0], ids=["relu", "leaky", "abs"])
def test_the_way_back_is_autograds(slope):
    arrays = row()
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    new_k, new_theta = expectations(k, theta, std_x, std_z, slope)
    (new_k * torch.from_numpy(bars[0]) + new_theta * torch.from_numpy(bars[1])).sum().backward()
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).copy(), np.zeros(WIDTH)
    flat = [a.reshape(-1).copy() for a in arrays]
    backward(k_bar, theta_bar, *flat, WIDTH, slope, log_std_bar, np.empty(3 * WIDTH * LANES))
    np.testing.assert_allclose(k_bar, k.grad.flatten(), rtol=1e-11)
    np.testing.assert_allclose(theta_bar, theta.grad.flatten(), rtol=1e-11)
    np.testing.assert_allclose(log_std_bar, (std_x.grad * std_x).detach(), rtol=1e-11)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 2e-15)])
def test_polynomials_keep_the_relative_precision_of_small_angles(dtype, tolerance):
    gaps = np.concatenate([np.logspace(-14, -1, LANES - 3), [0.3, 0.7, 1.0]]).astype(dtype)
    theta, more = np.empty((2, LANES), dtype)
    angles(theta, gaps)
    excesses(more, gaps)
    g = gaps.astype(np.float64)
    truth = 2 * np.arcsin(np.sqrt(g / 2))
    np.testing.assert_allclose(theta, truth, rtol=tolerance)
    far = g > 0.05  # nearer, the formula itself cancels
    np.testing.assert_allclose(more[far], (np.sqrt(g * (2 - g)) - (1 - g) * truth)[far], rtol=10 * tolerance)
    series = g**1.5 * (2 * np.sqrt(2) / 3) * (1 + g / 20)
    np.testing.assert_allclose(more[g < 1e-4], series[g < 1e-4], rtol=tolerance + 1e-8)
