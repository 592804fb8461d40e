"""The empirical kernel against a loop over single gradients, and against the analytic limit."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from ntklens.networks import build

DTYPE = torch.float64


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.relu(x + self.norm(self.b(torch.relu(x))))
        return self.out(x.mean((2, 3)))


NETS = {
    "mlp": lambda: nn.Sequential(nn.Flatten(), nn.Linear(50, 7), nn.Tanh(), nn.Linear(7, 3)),
    "strided": lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)),
    "residual": Residual,
}


@pytest.fixture(params=NETS)
def net(request) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETS[request.param]().to(DTYPE).eval()


def images(n: int, seed: int = 0) -> Tensor:
    return torch.rand(n, 2, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def brute_force(net: nn.Module, x: Tensor) -> Tensor:
    """Jacobian (n, O, P), a gradient at a time."""
    rows = []
    for one in x:
        out = net(one[None])[0]
        grads = [torch.autograd.grad(f, list(net.parameters()), retain_graph=True) for f in out]
        rows.append(torch.stack([torch.cat([g.flatten() for g in g_]) for g_ in grads]))
    return torch.stack(rows)


def test_full_trace_and_pseudo_against_brute_force(net):
    x, z = images(4), images(3, seed=1)
    a, b = brute_force(net, x), brute_force(net, z)
    full = torch.einsum("nap,mbp->nmab", a, b)
    close = {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(nl.empirical_kernel(net, "full")(x, z), full, **close)
    torch.testing.assert_close(nl.empirical_kernel(net)(x, z), torch.einsum("nmaa->nm", full) / 3, **close)
    torch.testing.assert_close(nl.empirical_kernel(net, "pseudo")(x, z), full.sum((2, 3)) / 3, **close)


@pytest.mark.parametrize("outputs", ["trace", "full", "pseudo"])
def test_a_batch_with_itself_is_exactly_symmetric_whatever_the_blocks(net, outputs):
    x = images(5)
    k = nl.empirical_kernel(net, outputs)(x)
    other = k.permute(1, 0, 3, 2) if outputs == "full" else k.T
    assert torch.equal(k, other)
    blocks = nl.empirical_kernel(net, outputs, memory_limit=20_000)
    torch.testing.assert_close(blocks(x), k, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(blocks(x, x), k, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("outputs", ["trace", "pseudo"])
def test_gradient_against_finite_differences(net, outputs):
    kernel, x, z = nl.empirical_kernel(net, outputs, memory_limit=20_000), images(3), images(4, seed=1)
    w, direction = images(3, seed=2).flatten(1)[:, :4] - 0.5, images(3, seed=3) - 0.5
    h = 1e-6
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


def test_parametrisation_of_a_plain_network_is_that_of_the_ntk_network():
    drawn = nl.ntk_parametrize(build("fc2", (2, 5, 5), 2, width=16), 1.3, 0.2).to(DTYPE)
    plain = build("fc2", (2, 5, 5), 2, width=16).to(DTYPE)
    layers = [(a, b) for a, b in zip(plain, drawn, strict=True) if isinstance(a, nn.Linear)]
    with torch.no_grad():
        for a, b in layers:
            a.weight.copy_(b.weight)
            a.bias.copy_(b.bias)
    x = images(4)
    scaled = nl.empirical_kernel(plain, parametrisation=nl.Parametrisation(1.3, 0.2))
    torch.testing.assert_close(scaled(x), nl.empirical_kernel(drawn)(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["fc1", "conv1"])
def test_it_comes_near_the_analytic_kernel_as_width_grows(name):
    """Error of the mean over draws falls like 1/sqrt(width); fixed draws, bound at four times the seen scatter."""
    x = images(3)
    limit = nl.analytic_kernel(build(name, (2, 5, 5), 1))(x)
    errors = {}
    for width in (32, 512):
        draws = []
        for seed in range(8):
            net = build(name, (2, 5, 5), 1, width=width)
            drawn = nl.ntk_parametrize(net, generator=torch.Generator().manual_seed(seed)).to(DTYPE)
            draws.append(nl.empirical_kernel(drawn)(x))
        errors[width] = float((torch.stack(draws).mean(0) - limit).norm() / limit.norm())
    assert errors[512] < 0.05
    assert errors[512] < errors[32]


def test_training_mode_is_refused_where_it_matters():
    with pytest.raises(nl.InputError, match=r"call model\.eval\(\) first"):
        nl.empirical_kernel(Residual())
    with pytest.raises(nl.InputError, match="training mode"):
        nl.empirical_kernel(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)))


def test_what_does_not_fit(net):
    with pytest.raises(nl.InputError, match="outputs must be"):
        nl.empirical_kernel(net, "all")
    with pytest.raises(nl.InputError, match="one value a pair"):
        nl.empirical_kernel(net, "full").gradient(images(2), images(2), torch.ones(2, 2, dtype=DTYPE))
    with pytest.raises(nl.InputError, match="no parameter that requires"):
        nl.empirical_kernel(nn.Linear(2, 1).requires_grad_(False))
