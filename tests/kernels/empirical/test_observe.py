"""Which layers are structured, and which parameters get plain Jacobians."""

import pytest
import torch
from torch import nn

import ntklens as nl
from kernels.empirical.odd_networks import DTYPE, ODD, inputs, odd_network
from kernels.empirical.zoo import error
from ntklens.kernels.empirical.observe import observe

CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def test_plan_and_layers(case, brute):
    net, x, z, full, blocks = brute
    kernel = nl.empirical_kernel(net, "full")
    plan = kernel.plan(x)
    assert {name for name, way in plan.items() if way == "Jacobian"} == set(case.plain)
    layers = kernel.per_layer(x, z)
    assert set(layers) == set(plan)
    assert error(sum(layers.values()), full) < 1e-10
    for name in case.plain:
        assert error(layers[name], blocks[name]) < 1e-10
    heads = [name for name in plan if plan[name] == "Linear, structured" and f"{name}.weight" in blocks]
    for name in heads:
        truth = blocks[f"{name}.weight"] + blocks.get(f"{name}.bias", 0)
        assert error(layers[name], truth) < 1e-10


@pytest.mark.parametrize("name", ODD)
def test_which_layers_are_structured(name):
    net = odd_network(name)
    scales = dict.fromkeys(dict(net.named_parameters()), 1.0)
    plan = observe(net.requires_grad_(False), scales, inputs(1), layerwise=True)
    assert list(plan.layers) == ODD[name][1]


def test_a_layer_with_a_users_hook_is_left_alone():
    net = nn.Sequential(nn.Linear(12, 3), nn.Tanh(), nn.Linear(3, 2)).to(DTYPE)
    net[0].register_forward_hook(lambda layer, args, output: 3 * output)
    x = inputs(4)
    torch.testing.assert_close(nl.empirical_kernel(net)(x), nl.empirical_kernel(net, layerwise=False)(x), **CLOSE)


def test_the_kernel_of_a_linearisation_stays_where_it_was_taken():
    """Its layers run on the weights of the start, not on the moving ones: so they get plain Jacobians."""
    net = nn.Sequential(nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 2)).to(DTYPE)
    lin, x = nl.linearize(net), inputs(4)
    with torch.no_grad():
        for p in lin.parameters():
            p.add_(1.0)
    torch.testing.assert_close(nl.empirical_kernel(lin)(x), nl.empirical_kernel(net)(x), **CLOSE)
