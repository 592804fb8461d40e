"""Networks in the NTK parametrisation: draws, scales, and what is frozen."""

import copy
import math

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.networks import build

SHAPE = (1, 8, 8)


def test_ntk_parametrize_draws_standard_normals_and_scales_them():
    """Moments of 65,536 draws; z-scores below four."""
    drawn = nl.ntk_parametrize(nn.Linear(256, 256), 1.5, 0.3, generator=torch.Generator().manual_seed(0))
    raw = drawn.parametrizations.weight.original.detach()
    assert abs(float(raw.mean())) * 256 < 4
    assert abs(float(raw.var()) - 1) * 256 / math.sqrt(2) < 4
    torch.testing.assert_close(drawn.weight, raw * 1.5 / 16)
    torch.testing.assert_close(drawn.bias, drawn.parametrizations.bias.original * 0.3)


def test_ntk_parametrize_leaves_the_module_and_the_global_generator_alone():
    net = build("fc2", SHAPE, 2)
    before, state = {k: v.clone() for k, v in net.state_dict().items()}, torch.random.get_rng_state()
    one, two = nl.ntk_parametrize(net), nl.ntk_parametrize(net)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_ntk_parametrize_refuses_what_has_no_rule():
    with pytest.raises(nl.UnsupportedLayer, match=r"`1` \(Embedding\)"):
        nl.ntk_parametrize(nn.Sequential(nn.Linear(2, 2), nn.Embedding(3, 2)))


def test_ntk_parametrize_freezes_normalisation_and_takes_one_value_a_layer():
    net = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 1))
    drawn = nl.ntk_parametrize(net, {"0": 1.0, "3": 2.0}, 0.0)
    assert [n for n, p in drawn.named_parameters() if not p.requires_grad] == ["1.weight", "1.bias"]
    torch.testing.assert_close(drawn[3].weight, drawn[3].parametrizations.weight.original * 2 / math.sqrt(6))
    assert not drawn[0].bias.any()
    with pytest.raises(nl.InputError, match="no value for the layer `3`"):
        nl.ntk_parametrize(net, {"0": 1.0})


def test_ntk_parametrized_networks_copy_save_and_train():
    drawn = nl.ntk_parametrize(build("fc1", SHAPE, 2, width=8), generator=torch.Generator().manual_seed(3))
    other = copy.deepcopy(nl.ntk_parametrize(build("fc1", SHAPE, 2, width=8)))
    x = torch.rand(3, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(other(x), drawn(x))
    other.load_state_dict(drawn.state_dict())
    assert torch.equal(other(x), drawn(x))
    w, b = 2**0.5 / math.sqrt(8), 0.1  # d f_0 / d(last weight), by hand
    hidden = drawn[2](drawn[1](drawn[0](x)))
    last = torch.autograd.grad(drawn(x)[:, 0].sum(), drawn[3].parametrizations.weight.original)[0]
    torch.testing.assert_close(last[0], w * hidden.sum(0))
    bias = torch.autograd.grad(drawn(x)[:, 0].sum(), drawn[3].parametrizations.bias.original)[0]
    torch.testing.assert_close(bias, torch.tensor([3 * b, 0.0]))
