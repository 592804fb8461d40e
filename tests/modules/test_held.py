"""Modules are as they were before a public function called them: attributes, containers, tensors and hooks."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.errors import InputError

X, Y = torch.rand(6, 4, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


class Keeping(nn.Module):
    """Changes what it holds in every forward, in all ways that modules do."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
        self.calls, self.last, self.seen, self.cache, self.size = 0, None, [], {}, torch.zeros(())

    def forward(self, x):
        self.calls += 1
        self.last = h = self.a(x).relu()
        self.seen.append(h)
        self.cache[len(x)] = h
        self.size += 1
        self.fresh = h
        self.a.last = h
        self.b.register_forward_hook(lambda module, inputs, output: None)
        return self.b(h)


@pytest.mark.parametrize(
    "run",
    [
        lambda net: nl.pgd(net, X, Y, 0.05, steps=2),
        lambda net: nl.accuracy(net, X, Y),
        lambda net: nl.evaluate(net, X, X, Y, 0.05),
        lambda net: nl.diagnose(net, X, Y, 0.05, generator=torch.Generator().manual_seed(0)),
        lambda net: nl.empirical_kernel(net)(X),
        lambda net: nl.linearize(net)(X),
        lambda net: nl.KernelTracker(X, Y, top_k=2).record(net, 0),
    ],
)
def test_what_a_module_holds_stays(run):
    net = Keeping().eval()
    run(net)
    assert (net.calls, net.last, net.seen, net.cache, float(net.size)) == (0, None, [], {}, 0.0)
    assert not hasattr(net, "fresh")
    assert not hasattr(net.a, "last")
    assert not net.b._forward_hooks


class CountingTensor(nn.Module):
    """Multiplies by a tensor that it writes into, so that a further call loses the graph of the one before."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.count = nn.Linear(4, 2), torch.zeros(())

    def forward(self, x):
        self.count += 1
        return self.layer(x).tanh() * self.count


def test_the_guards_question_loses_no_graph():
    x_adv = nl.fgsm(CountingTensor().eval(), X, Y, 0.05)
    torch.testing.assert_close(x_adv, nl.fgsm(nn.Sequential(CountingTensor().layer, nn.Tanh()), X, Y, 0.05))


class Building(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        if not hasattr(self, "late"):
            self.late = nn.Linear(8, 2)
        return self.late(self.layer(x))


@pytest.mark.parametrize(
    "run",
    [lambda net: nl.pgd(net, X, Y, 0.05), lambda net: nl.empirical_kernel(net)(X), lambda net: nl.linearize(net)(X)],
)
def test_layers_built_in_the_forward_are_refused(run):
    net = Building().eval()
    with pytest.raises(InputError, match="builds layers in its forward"):
        run(net)
    assert not hasattr(net, "late")
    net(X)
    run(net)


@pytest.mark.parametrize("to", [{"dtype": torch.float64}, {"dtype": torch.bfloat16}, {"device": "meta"}])
@pytest.mark.parametrize("run", [lambda net: nl.pgd(net, X, Y, 0.05), lambda net: nl.accuracy(net, X, Y)])
def test_a_model_that_does_not_take_the_images_is_refused_in_a_sentence(run, to):
    with pytest.raises(InputError, match=r"takes images such as torch.float32 of shape \(6, 4\) on cpu"):
        run(nn.Linear(4, 2).to(**to))


def test_a_models_own_errors_pass():
    class Budget(Exception):
        pass

    def model(x):
        raise Budget("spent")

    with pytest.raises(Budget, match="spent"):
        nl.accuracy(model, X, Y)
