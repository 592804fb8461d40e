import numpy as np
import pytest
from numba import njit

from ntklens.kernels.engines.fused import sliding
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import pointer


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("first", [-7, -1, 0, 2, 5, 9])
def test_columns_within(first, stride):
    width, in_width = 4, 6
    low, high = sliding.columns_within(first, stride, width, in_width)
    assert list(range(low, high)) == [c for c in range(width) if 0 <= first + stride * c < in_width]


@njit
def three_rows(out, source, width, height, y):
    sliding.add_rows(pointer(out), pointer(source), width, height, y)


@pytest.mark.parametrize("height", [1, 2, 4])
def test_sums_over_three_rows_have_zeros_on_either_side(height):
    source = np.random.default_rng(0).random((height, 5, LANES))
    for y in range(height):
        out = np.full((7, LANES), np.nan)
        three_rows(out.reshape(-1), source.reshape(-1), 5, height, y)
        np.testing.assert_allclose(out[1:-1], source[max(0, y - 1) : y + 2].sum(0), rtol=1e-15)
        assert not out[[0, -1]].any()
