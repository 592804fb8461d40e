"""Finite networks: named architectures, parametrisation, linearisation."""

import copy
import math

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.networks import architecture_names, build

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


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


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.Tanh(), nn.Linear(9, 2)).double()


def test_linearized_network_has_the_networks_value_and_slope(net):
    x = digits().train.x[:5].double()
    lin = nl.linearize(net)
    torch.testing.assert_close(lin(x), net(x))
    mine = torch.autograd.grad(lin(x).square().sum(), list(lin.parameters()))
    theirs = torch.autograd.grad(net(x).square().sum(), list(net.parameters()))
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
    assert torch.equal(nl.linearize(net, centred=True)(x), torch.zeros(5, 2, dtype=x.dtype))


def test_linearized_network_is_the_tangent_at_finite_steps(net):
    x = digits().train.x[:5].double()
    lin, h = nl.linearize(net), 1e-3
    with torch.no_grad():
        for i, p in enumerate(lin.parameters()):
            p.add_(h * torch.randn(p.shape, generator=torch.Generator().manual_seed(i), dtype=p.dtype))
        moved = nl.linearize(net)
        for p, q, start in zip(moved.parameters(), lin.parameters(), net.parameters(), strict=True):
            p.copy_(start + 10 * (q - start))
        torch.testing.assert_close(moved(x) - net(x), 10 * (lin(x) - net(x)), rtol=1e-8, atol=1e-10)


def test_linearized_network_is_attacked_like_any(net):
    data = digits()
    x, y = data.test.x.double(), data.test.y
    assert nl.fgsm(nl.linearize(net), x, y, 0.1).shape == x.shape


def test_a_linear_model_is_its_own_linearisation():
    """Equality at any distance, where the network is linear in its parameters."""
    model, x = nn.Linear(6, 2).double(), torch.rand(4, 6, dtype=torch.float64)
    lin = nl.linearize(model)
    with torch.no_grad():
        for p, q in zip(lin.parameters(), model.parameters(), strict=True):
            p.add_(3.0)
            q.add_(3.0)
    torch.testing.assert_close(lin(x), model(x))


def test_names_that_differ_by_a_dot_do_not_meet():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.a_weight = nn.Linear(3, 2, bias=False), nn.Parameter(torch.ones(2))

        def forward(self, x):
            return self.a(x) * self.a_weight

    net, x = Net(), torch.rand(4, 3)
    torch.testing.assert_close(nl.linearize(net)(x), net(x))


def test_linearisation_frozen_parts_and_modes(net):
    net[1].requires_grad_(False)
    lin = nl.linearize(net)
    assert [n for n, p in lin.named_parameters() if p.requires_grad] == ["network.3.weight", "network.3.bias"]
    dropped = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    with pytest.raises(nl.InputError, match=r"`1` \(Dropout\).*Call model\.eval"):
        nl.linearize(dropped)
    x = torch.rand(4, 3)
    torch.testing.assert_close(nl.linearize(dropped.eval()).train()(x), dropped(x))
    with pytest.raises(nl.InputError, match="nothing to expand in"):
        nl.linearize(net.requires_grad_(False))


@pytest.mark.parametrize("name", ["fc3", "conv2", "conv2-gap", "myrtle5", "myrtle7", "myrtle10", "small-cnn"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 8)])
def test_architectures_by_name_run_and_have_a_kernel(name, shape):
    x = torch.rand(2, *shape)
    assert build(name, shape, 3, width=8)(x).shape == (2, 3)
    assert nl.analytic_kernel(build(name, shape, 3))(x[:1]).shape == (1, 1)


@pytest.mark.parametrize(("name", "shape"), [("vgg", SHAPE), ("fc0", SHAPE), ("conv2", (64,)), ("myrtle5", (1, 6, 6))])
def test_architectures_that_do_not_fit(name, shape):
    with pytest.raises(nl.InputError, match=r"not known|needs images|divisible by 4"):
        build(name, shape, 2)
    with pytest.raises(nl.InputError, match="must be 1 or more"):
        build("fc1", SHAPE, 0)
    assert "fcN" in architecture_names()
