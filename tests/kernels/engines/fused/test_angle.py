import numpy as np
import pytest
from numba import njit
from numpy.polynomial import chebyshev

from ntklens.kernels.engines.fused import angle
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import pointer


@njit
def series(out, ys, width, coefficients, n):
    angle.series_row(pointer(out), pointer(ys), width, pointer(coefficients), n)


@njit
def angles(ys, gaps, covariances, width):
    angle.angles_row(pointer(ys), pointer(gaps), pointer(covariances), width)


@pytest.mark.parametrize("n", [1, 2, 7, 20])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_a_row_of_series_is_numpys(n, dtype, tolerance):
    rng = np.random.default_rng(0)
    width = 2 * angle.TOGETHER
    ys, coefficients = rng.uniform(-1, 1, width * LANES).astype(dtype), rng.standard_normal(n)
    out = np.empty_like(ys)
    series(out, ys, width, coefficients, n)
    expected = chebyshev.chebval(ys.astype(np.float64), coefficients)
    np.testing.assert_allclose(out, expected, atol=tolerance * np.abs(coefficients).sum())


def test_angles_on_the_interval_of_the_series():
    theta = np.linspace(0, np.pi, LANES)
    ys = np.empty(LANES)
    angles(ys, 1 - np.abs(np.cos(theta)), np.cos(theta), 1)
    np.testing.assert_allclose(ys, 2 * theta / np.pi - 1, atol=1e-14)
