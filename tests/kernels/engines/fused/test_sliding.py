import numpy as np
import pytest
from numba import njit

from ntklens.kernels.engines.fused import sliding
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import at, pointer


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("first", [-7, -1, 0, 2, 5, 9])
def test_columns_within(first, stride):
    width, in_width = 4, 6
    low, high = sliding.columns_within(first, stride, width, in_width)
    assert list(range(low, high)) == [c for c in range(width) if 0 <= first + stride * c < in_width]


@njit
def boxes(nngp, ntk, nngp_source, ntk_source, zeros, width, height):
    line = width * LANES
    for y in range(height):
        sliding.box_row(
            at(pointer(nngp), y * line), at(pointer(ntk), y * line),
            sliding.rows_around(pointer(nngp_source), pointer(zeros), width, height, y),
            sliding.rows_around(pointer(ntk_source), pointer(zeros), width, height, y),
            width, 2.0, 3.0, 5.0, 7.0,
        )  # fmt: skip


@pytest.mark.parametrize("height", [1, 2, 4])
@pytest.mark.parametrize("width", [1, 2, 5])
def test_boxes_are_sums_over_three_rows_and_columns(height, width):
    k, theta = np.random.default_rng(0).random((2, height, width, LANES))
    nngp, ntk = np.full((2, height * width * LANES), np.nan)
    boxes(nngp, ntk, k.reshape(-1), theta.reshape(-1), np.zeros(width * LANES), width, height)
    for y in range(height):
        for p in range(width):
            window = np.s_[max(0, y - 1) : y + 2, max(0, p - 1) : p + 2]
            place = (y * width + p) * LANES + np.arange(LANES)
            np.testing.assert_allclose(nngp[place], 2 * k[window].sum((0, 1)) + 3, rtol=1e-14)
            np.testing.assert_allclose(
                ntk[place], 5 * k[window].sum((0, 1)) + 7 + 2 * theta[window].sum((0, 1)), rtol=1e-14
            )
