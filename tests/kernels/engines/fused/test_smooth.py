"""erf and GELU on a row, beside their Gaussian expectations, and in float32."""

import numpy as np
import pytest
import torch
from numba import njit

from kernels.engines.fused.rows import WIDTH, expectations, row
from ntklens.kernels.engines.fused import numbers, smooth
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import load, pointer, store
from ntklens.kernels.rules.duals import GELU, Erf


@njit
def arctangents(out, ts):
    t = load(pointer(ts), 0)
    store(pointer(out), 0, t * smooth.arctan_over_t(2.0 * (t * t) - 1.0))


@njit
def erf_forward(nngp, ntk, std_x, std_z, scratch):
    smooth.erf_row(
        pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1, WIDTH, WIDTH * LANES, pointer(scratch)
    )


@njit
def gelu_forward(nngp, ntk, std_x, std_z, scratch):
    smooth.gelu_row(
        pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1, WIDTH, WIDTH * LANES, pointer(scratch)
    )


@njit
def erf_backward(nngp_bar, ntk_bar, nngp, ntk, std_x, std_z, log_std_bar, scratch):
    smooth.erf_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1,
        WIDTH, WIDTH * LANES, pointer(log_std_bar), pointer(scratch),
    )  # fmt: skip


@njit
def gelu_backward(nngp_bar, ntk_bar, nngp, ntk, std_x, std_z, log_std_bar, scratch):
    smooth.gelu_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1,
        WIDTH, WIDTH * LANES, pointer(log_std_bar), pointer(scratch),
    )  # fmt: skip


ROWS = {"erf": (Erf(), erf_forward, erf_backward), "GELU": (GELU(), gelu_forward, gelu_backward)}


def read_by(dual, *deviations):
    """What a row reads of x and of z: the standard deviations, then the numbers beside them."""
    stds = [torch.from_numpy(std.reshape(-1).copy()) for std in deviations]
    return [torch.cat([std, *numbers.beside(dual, std)]).numpy() for std in stds]


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-7), (np.float64, 4e-15)])
def test_the_arc_tangent(dtype, tolerance):
    t = np.linspace(-1, 1, LANES).astype(dtype)
    out = np.empty(LANES, dtype)
    arctangents(out, t)
    np.testing.assert_allclose(out, np.arctan(t.astype(float)), rtol=tolerance)


@pytest.mark.parametrize("largest", [2.0, 30.0])
@pytest.mark.parametrize("name", ROWS)
def test_a_row_of_activations_is_their_gaussian_expectations(name, largest):
    dual, forward, _ = ROWS[name]
    k, theta, std_x, std_z = row(largest)
    expected = expectations(dual, *map(torch.from_numpy, (k, theta, std_x, std_z)))
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, *read_by(dual, std_x, std_z), np.empty(LANES))
    np.testing.assert_allclose(flat_k, expected[0].flatten(), rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(flat_theta, expected[1].flatten(), rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_in_float32_is_as_precise(name):
    dual, forward, _ = ROWS[name]
    k, theta, std_x, std_z = row(2.0)
    expected = expectations(dual, *map(torch.from_numpy, (k, theta, std_x, std_z)))
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).astype(np.float32)
    forward(flat_k, flat_theta, *read_by(dual, std_x, std_z), np.empty(LANES, np.float32))
    for found, truth in zip((flat_k, flat_theta), expected, strict=True):
        np.testing.assert_allclose(found, truth.flatten(), rtol=2e-6, atol=3e-7 * float(truth.abs().max()))


@pytest.mark.parametrize("largest", [2.0, 10.0])
@pytest.mark.parametrize("name", ROWS)
def test_the_way_back_is_autograds(name, largest):
    dual, _, backward = ROWS[name]
    arrays = row(largest)
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    new_k, new_theta = expectations(dual, k, theta, std_x, std_z)
    (new_k * torch.from_numpy(bars[0]) + new_theta * torch.from_numpy(bars[1])).sum().backward()
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).copy(), np.zeros(WIDTH)
    values = [a.reshape(-1).copy() for a in arrays[:2]]
    backward(k_bar, theta_bar, *values, *read_by(dual, *arrays[2:]), log_std_bar, np.empty(LANES * WIDTH))
    np.testing.assert_allclose(k_bar, k.grad.flatten(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(theta_bar, theta.grad.flatten(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(log_std_bar, (std_x.grad * std_x).detach(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("deviation", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("name", ROWS)
def test_coincident_inputs_of_large_variance(name, deviation):
    """The gap, one over the variance, is rounded, and never zero or below."""
    dual, forward, _ = ROWS[name]
    std_x = deviation * np.linspace(1, 2, WIDTH)
    std_z = np.repeat(std_x[:, None], LANES, 1) * np.linspace(0.9, 1, LANES)
    k, theta = std_x[:, None] * std_z, np.ones((WIDTH, LANES))
    expected = expectations(dual, *map(torch.from_numpy, (k, theta, std_x, std_z)))
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, *read_by(dual, std_x, std_z), np.empty(LANES))
    # The rounding of K and of the gap is multiplied by the variance in erf, and by its root in GELU.
    amplified = deviation**2 if name == "erf" else deviation
    np.testing.assert_allclose(flat_k, expected[0].flatten(), rtol=1e-15 * deviation)
    np.testing.assert_allclose(flat_theta, expected[1].flatten(), rtol=2e-15 * amplified)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-10)])
@pytest.mark.parametrize("name", ROWS)
def test_gradients_at_the_variances_of_8_bit_pixels(name, dtype, tolerance):
    """In float32, too, no terms cancel that grow with the variance."""
    dual, _, backward = ROWS[name]
    arrays = row(300.0)
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES)).astype(dtype).astype(float)
    arrays[1][:] = arrays[1].astype(dtype)
    new_k, new_theta = expectations(dual, k, theta, std_x, std_z)
    (new_k * torch.from_numpy(bars[0]) + new_theta * torch.from_numpy(bars[1])).sum().backward()
    k_bar, theta_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).astype(dtype)
    value, tangent, log_std_bar = arrays[0].reshape(-1).copy(), arrays[1].reshape(-1).astype(dtype), np.zeros(WIDTH)
    backward(k_bar, theta_bar, value, tangent, *read_by(dual, *arrays[2:]), log_std_bar, np.empty(LANES * WIDTH, dtype))
    # Each entry by itself, those of near pairs and of far ones.
    np.testing.assert_allclose(k_bar, k.grad.flatten(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(theta_bar, theta.grad.flatten(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(log_std_bar, (std_x.grad * std_x).detach(), rtol=tolerance, atol=30 * tolerance)
