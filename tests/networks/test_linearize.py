"""Linearised networks: value, slope, modes and frozen parameters."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import ntklens as nl

SHAPE = (1, 8, 8)


def digits(n: int = 60):
    return nl.load_dataset("digits", classes=[3, 8]).first(n, 40)


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
    with pytest.raises(nl.InputError, match="got none to expand in"):
        nl.linearize(net.requires_grad_(False))


def test_torchs_own_warnings_of_its_forward_mode_are_not_passed_on():
    code = "import torch, ntklens as nl; nl.linearize(torch.nn.Linear(3, 1))(torch.ones(2, 3))"
    command = [sys.executable, "-W", "error:`torch.jit.script` is deprecated:DeprecationWarning", "-c", code]
    process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert process.returncode == 0, process.stderr
