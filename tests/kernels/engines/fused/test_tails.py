"""Exponentials and tails on vectors, beside torch's."""

import numpy as np
import pytest
import torch
from numba import njit

from ntklens.kernels.engines.fused import tails
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import load, pointer, store


@njit
def exponentials(out, x):
    for i in range(0, len(x), LANES):
        store(pointer(out), i, tails.exponential(load(pointer(x), i)))


@njit
def tails_of(out, z):
    for i in range(0, len(z), LANES):
        store(pointer(out), i, tails.tail(load(pointer(z), i)))


@pytest.mark.parametrize(("dtype", "lowest", "bound"), [(np.float32, -87, 1e-7), (np.float64, -708, 3e-16)])
def test_the_exponential_is_right_to_its_last_digit(dtype, lowest, bound):
    x = np.linspace(lowest, 0, 1000 * LANES).astype(dtype)
    out = np.empty_like(x)
    exponentials(out, x)
    np.testing.assert_allclose(out, np.exp(x.astype(np.float64)), rtol=bound)


def test_the_exponential_of_anything_lower_is_tiny():
    out = np.empty(LANES, np.float32)
    exponentials(out, np.linspace(-1e30, -88, LANES).astype(np.float32))
    assert (out >= 0).all()
    assert (out < 2e-38).all()


@pytest.mark.parametrize(("dtype", "absolute", "relative"), [(np.float32, 2e-7, 3e-6), (np.float64, 5e-16, 4e-15)])
def test_tails(dtype, absolute, relative):
    z = np.linspace(-9, 5, 1000 * LANES).astype(dtype)
    out, truth = np.empty_like(z), (0.5 * torch.special.erfc(torch.from_numpy(z).double() * 0.5**0.5)).numpy()
    tails_of(out, z)
    np.testing.assert_allclose(out, truth, rtol=0, atol=absolute)
    np.testing.assert_allclose(out, truth, rtol=relative)
