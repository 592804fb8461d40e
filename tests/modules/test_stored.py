"""Networks whose forward reads what was computed before it, or what earlier calls have left, are refused."""

import functools

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import ntklens as nl
from ntklens.errors import InputError
from ntklens.networks import train

X, Y = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 2


class Masked(nn.Module):
    def __init__(self, hold, read):
        super().__init__()
        self.weight, self.head, self.read = nn.Parameter(torch.randn(8, 4)), nn.Linear(8, 2), read
        hold(self, torch.tanh(self.weight))

    def forward(self, x):
        return self.head(self.read(self, x).tanh())


HOLD = {
    "m": (lambda net, m: setattr(net, "m", m), lambda net, x: F.linear(x, net.m)),
    "m[0]": (lambda net, m: setattr(net, "m", [m]), lambda net, x: F.linear(x, net.m[0])),
    "m['k']": (lambda net, m: setattr(net, "m", {"k": m}), lambda net, x: F.linear(x, net.m["k"])),
    "f": (lambda net, m: setattr(net, "f", lambda x: F.linear(x, m)), lambda net, x: net.f(x)),
    "g": (lambda net, m: setattr(net, "g", functools.partial(F.linear, weight=m)), lambda net, x: net.g(x)),
    "buffer": (lambda net, m: net.register_buffer("buffer", m), lambda net, x: F.linear(x, net.buffer)),
    "head.m": (lambda net, m: setattr(net.head, "m", m), lambda net, x: F.linear(x, net.head.m)),
}
USES = [
    lambda net: nl.empirical_kernel(net)(X),
    lambda net: nl.linearize(net)(X),
    lambda net: nl.KernelTracker(X, Y, top_k=2).record(net, 0),
    lambda net: train(net, X, Y, epochs=1, batch_size=5, learning_rate=0.1, generator=torch.Generator()),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("name", HOLD)
def test_tensors_computed_from_parameters_before_the_forward_are_refused(use, name):
    with pytest.raises(InputError) as refused:
        use(Masked(*HOLD[name]).eval())
    assert f"got `{name}`, a tensor that was computed from parameters before. Compute it in forward" in str(
        refused.value
    )


@pytest.mark.parametrize("use", USES)
def test_detached_constants_are_taken(use):
    assert use(Masked(lambda net, m: setattr(net, "m", m.detach()), HOLD["m"][1]).eval()) is not None


class Stateful(nn.Module):
    def __init__(self, way):
        super().__init__()
        self.a, self.u, self.way = nn.Linear(4, 2), nn.Linear(2, 2), way
        self.h, self.count, self.drawn = None, 0, torch.Generator().manual_seed(0)

    def forward(self, x):
        z = self.a(x)
        if self.way == "state":
            z = z if self.h is None or len(self.h) != len(x) else z + self.u(self.h)
            self.h = z = z.tanh()
        if self.way == "counter":
            self.count += 1
            z = z * self.count
        if self.way == "own generator":
            z = z * torch.rand(2, generator=self.drawn)
        if self.way == "dropout":
            z = F.dropout(z, 0.5)
        return z


@pytest.mark.parametrize("way", ["state", "counter", "own generator", "dropout"])
@pytest.mark.parametrize("use", USES[:2])
def test_answers_that_change_between_calls_are_refused(use, way):
    with pytest.raises(InputError, match=r"depend on (chance|the inputs and the weights alone)"):
        use(Stateful(way).eval())


def compiled_forward():
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    net.forward = torch.compile(net.forward, backend="eager")
    return net


def test_a_compiled_method_refers_to_the_copys_parameters():
    net = compiled_forward()
    plain = nn.Sequential(*net)
    torch.testing.assert_close(nl.empirical_kernel(net)(X), nl.empirical_kernel(plain)(X))
