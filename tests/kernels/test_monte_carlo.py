"""Drawn finite networks, whose mean kernel is the analytic one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels import networks
from ntklens.errors import InputError
from ntklens.kernels import analytic_kernel


def images(*shape: int):
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_standard_parametrisation_is_the_mean_kernel_at_the_modules_own_width():
    net = networks.dense(F.relu, 2)
    x = images(1, 4, 4)
    kernel = analytic_kernel(net, parametrisation="standard")
    drawn = kernel.monte_carlo(x, width=8, draws=300)  # 8 is the module's own width
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    wide = analytic_kernel(networks.dense(F.relu, 2))(x)
    assert truth.mean() > 5 * wide.mean()


def test_a_width_written_into_the_forward_is_said():
    net = networks.Forward(
        lambda s, x: s.b(F.relu(s.a(x.flatten(1))).view(-1, 8)), a=nn.Linear(16, 8), b=nn.Linear(8, 1)
    )
    with pytest.raises(InputError, match="a width is written into its forward"):
        analytic_kernel(net).monte_carlo(images(1, 4, 4), width=20, draws=2)


def test_a_layer_norm_is_widened_with_its_gain_and_shift():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))
    kernel, x = analytic_kernel(net), images(1, 4, 4)
    draws = kernel.monte_carlo(x, width=256, draws=40)
    assert float(((draws.mean - kernel(x)) / draws.standard_error).abs().max()) < 5
