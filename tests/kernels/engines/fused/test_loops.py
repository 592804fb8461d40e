import numpy as np
import pytest
from numba import njit

from ntklens.kernels.engines.fused import loops
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import pointer


@njit
def write(out, source, count):
    loops.write(pointer(out), pointer(source), count)


@njit
def add_positions(sums, source, n):
    loops.add_positions(pointer(sums), pointer(source), n)


@pytest.mark.parametrize("count", [1, LANES, 2 * LANES + 3])
def test_writing_stops_within_a_vector(count):
    source = np.random.default_rng(0).random(3 * LANES)
    out = np.full(3 * LANES, -1, np.float32)
    write(out, source, count)
    np.testing.assert_array_equal(out[:count], source[:count].astype(np.float32))
    assert (out[count:] == -1).all()


@pytest.mark.parametrize("n", [1, 4, 11])
def test_positions_are_added_in_float64_to_what_is_there(n):
    source = np.random.default_rng(1).random((n, LANES)).astype(np.float32)
    sums = np.ones(LANES)
    add_positions(sums, source.reshape(-1), n)
    np.testing.assert_allclose(sums, 1 + source.sum(0, dtype=np.float64), rtol=1e-15)
