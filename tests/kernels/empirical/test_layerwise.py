"""Structured tangents against plain Jacobians, in networks that use their layers in odd ways."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from kernels.empirical.odd_networks import DTYPE, ODD, inputs, odd_network

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.fixture(params=ODD)
def net(request) -> nn.Module:
    return odd_network(request.param)


@pytest.mark.parametrize("outputs", ["trace", "full", "pseudo"])
@pytest.mark.parametrize("memory", [1 << 30, 2_000])
def test_layerwise_is_the_plain_kernel(net, outputs, memory):
    fast = nl.empirical_kernel(net, outputs, memory_limit=memory)
    plain = nl.empirical_kernel(net, outputs, layerwise=False)
    x, z = inputs(5), inputs(4, seed=1)
    torch.testing.assert_close(fast(x, z), plain(x, z), **CLOSE)
    torch.testing.assert_close(fast(x), plain(x), **CLOSE)


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
def test_layerwise_gradient_is_the_plain_one(net, outputs):
    x, z, w = inputs(5), inputs(4, seed=1), inputs(5, seed=2)[:, :4]
    fast = nl.empirical_kernel(net, outputs, memory_limit=2_000).gradient(x, z, w)
    torch.testing.assert_close(fast, nl.empirical_kernel(net, outputs, layerwise=False).gradient(x, z, w), **CLOSE)


@pytest.mark.parametrize("frozen", ["0.weight", "0.bias", "2.weight"])
def test_frozen_parameters_do_not_count(frozen):
    net = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2)).to(DTYPE)
    net.get_parameter(frozen).requires_grad_(False)
    x = inputs(4)
    torch.testing.assert_close(nl.empirical_kernel(net)(x), nl.empirical_kernel(net, layerwise=False)(x), **CLOSE)


class Overwriting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = x.clone()
        f = self.layer(h)
        h.zero_()
        return f


def test_a_network_that_torch_cannot_train_gets_no_silent_kernel():
    with pytest.raises(nl.InputError, match="inplace operation"):
        nl.empirical_kernel(Overwriting().to(DTYPE))(inputs(3))


def test_jacobians_of_a_wide_network_are_not_formed():
    """A thousand hidden units, ten outputs, 64 inputs: Jacobians would take five gigabytes and minutes."""
    net = nn.Sequential(nn.Linear(12, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 10))
    kernel = nl.empirical_kernel(net.to(DTYPE), "full", memory_limit=1 << 26)
    x = inputs(64)
    assert kernel(x).shape == (64, 64, 10, 10)
    assert kernel._snapshot.plan(x).rest == {}
    assert kernel._snapshot.plan(x).numbers(10) < 50_000
