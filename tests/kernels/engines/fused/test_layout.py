import torch

from ntklens.kernels.engines.fused import layout


def test_inputs_fill_the_lanes_with_zeros():
    x = torch.rand(18, 2, 3, generator=torch.Generator().manual_seed(5)).numpy()
    blocks = layout.in_lanes(x, 16).reshape(2, 2, 3, 16)
    assert (blocks[1, :, :, 1] == x[17]).all()
    assert not blocks[1, :, :, 2:].any()
