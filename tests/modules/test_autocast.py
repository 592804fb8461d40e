"""Kernels and machines have the same values in torch.autocast; a network that switches it on itself is refused."""

import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.errors import InputError

X = torch.rand(14, 1, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(14) % 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()


def dense() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.ReLU(), nn.Linear(8, 3))


def machine(kernel):
    fitted = nl.KernelMachine(kernel, nl.Ridge(1e-2)).fit(X, Y)
    x = X.clone().requires_grad_()
    (slope,) = torch.autograd.grad(fitted(x).square().sum(), x)
    return torch.cat([fitted(X).flatten(), slope.flatten()])


COMPUTED = {
    "empirical": lambda: nl.empirical_kernel(network())(X),
    "full": lambda: nl.empirical_kernel(network(), "full")(X),
    "gradient": lambda: nl.empirical_kernel(network()).gradient(X, X, torch.ones(14, 14)),
    "analytic": lambda: nl.analytic_kernel(dense())(X),
    "analytic gradient": lambda: nl.analytic_kernel(dense()).gradient(X, X, torch.ones(14, 14)),
    "analytic machine": lambda: machine(nl.analytic_kernel(dense())),
    "empirical machine": lambda: machine(nl.empirical_kernel(network())),
    "linear": lambda: nl.LinearKernel().gradient(X, X, torch.ones(14, 14)),
    "linear machine": lambda: machine(nl.LinearKernel()),
    "sum": lambda: (nl.RBFKernel(0.3) + nl.LinearKernel()).gradient(X, X, torch.ones(14, 14)),
    "product": lambda: (nl.analytic_kernel(dense()) * nl.RBFKernel(0.3)).gradient(X, X, torch.ones(14, 14)),
    "tracker": lambda: nl.KernelTracker(X, Y).record(network(), 0),
}


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
def test_autocast_around_a_call_changes_nothing(compute):
    plain = compute()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compute(), plain, rtol=0, atol=0)


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = network()

    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.network(x)


def test_autocast_within_a_forward_is_refused():
    for compute in (lambda: nl.empirical_kernel(Inner())(X), lambda: nl.KernelTracker(X, Y).record(Inner(), 0)):
        with pytest.raises(InputError, match=r"got torch\.autocast around its layer `network\.0`"):
            compute()
