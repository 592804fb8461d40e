import numpy as np
import pytest
import torch

from ntklens.kernels.engines.fused import layout
from ntklens.kernels.engines.fused.threads import own_threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("n", "channels", "positions", "lanes"), [(18, 2, 3, 16), (32, 1, 37, 16), (150, 3, 5, 16), (3, 2, 40, 1)]
)
def test_inputs_stand_side_by_side_and_zeros_fill_the_lanes(n, channels, positions, lanes, dtype):
    x = torch.rand(n, channels, positions, generator=torch.Generator().manual_seed(5), dtype=dtype).numpy()
    with own_threads():
        blocks = layout.in_lanes(x, lanes)
    assert blocks.dtype == x.dtype
    assert blocks.shape == (-(-n // lanes), channels, positions * lanes)
    assert blocks.ctypes.data % 64 == 0
    inputs = blocks.reshape(-1, channels, positions, lanes).transpose(0, 3, 1, 2).reshape(-1, channels, positions)
    assert np.array_equal(inputs[:n], x)
    assert not inputs[n:].any()


def test_a_slice_of_a_larger_batch_is_laid_out_as_it_is():
    x = torch.rand(40, 2, 6, generator=torch.Generator().manual_seed(6)).numpy()
    assert np.array_equal(layout.in_lanes(x[3:20, :, ::2], 16), layout.in_lanes(x[3:20, :, ::2].copy(), 16))
