"""The empirical kernel against a loop over single gradients, and against the analytic limit."""

import copy
from concurrent.futures import ThreadPoolExecutor

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


def test_a_parametrisation_may_be_named():
    net, x = build("fc1", (2, 5, 5), 2, width=16).to(DTYPE), images(4)
    for name in ("ntk", "standard"):
        named = nl.empirical_kernel(net, parametrisation=name)
        given = nl.empirical_kernel(net, parametrisation=nl.Parametrisation(kind=name))
        assert torch.equal(named(x), given(x))
        assert named.parametrisation == given.parametrisation
    with pytest.raises(nl.InputError, match='must be "ntk" or "standard"'):
        nl.empirical_kernel(net, parametrisation="own")


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


class Random(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(50, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(self.layer(x.flatten(1)), 0.5, self.training)


def batch_norm_without_statistics() -> nn.Module:
    norm = nn.BatchNorm2d(3, track_running_stats=False)
    return nn.Sequential(nn.Conv2d(2, 3, 5), norm, nn.Flatten()).eval()


@pytest.mark.parametrize(
    ("make", "why"), [(Random, "depend on chance"), (batch_norm_without_statistics, "depend on the rest of the batch")]
)
def test_outputs_that_depend_on_more_than_the_input_are_refused(make, why):
    net = make().to(DTYPE)
    state = torch.random.get_rng_state()
    with pytest.raises(nl.InputError, match=why):
        nl.empirical_kernel(net)(images(3))
    assert torch.equal(state, torch.random.get_rng_state())


def test_precisions_do_not_wear_each_other_out(net):
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1e-9)
    kernel, x, z = nl.empirical_kernel(net), images(4), images(3, seed=1)
    exact = kernel(x, z)
    single = kernel(x.float(), z)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-6)
    assert torch.equal(kernel(x, z), exact)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_does_not_depend_on_the_callers_gradient_mode(net, mode):
    kernel, x, z, w = nl.empirical_kernel(net), images(3), images(2, seed=1), images(3, seed=2).flatten(1)[:, :2]
    k, g = kernel(x, z), kernel.gradient(x, z, w)
    with mode():
        torch.testing.assert_close(kernel(x.clone(), z), k)
        torch.testing.assert_close(kernel.gradient(x.clone(), z, w.clone()), g)
    assert not k.requires_grad
    assert not g.requires_grad


def test_the_kernel_keeps_the_weights_of_its_moment_and_alters_nothing(net):
    x = images(3)
    before = {name: v.clone() for name, v in net.state_dict().items()}
    kernel = nl.empirical_kernel(net)
    k = kernel(x)
    assert all(torch.equal(v, before[name]) for name, v in net.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(2)
    assert torch.equal(kernel(x), k)


def test_threads_do_not_meet(net):
    kernel, batches = nl.empirical_kernel(net), [images(3, seed=i) for i in range(12)]
    alone = [kernel(b) for b in batches]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(kernel, batches))
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b)


def test_a_parametrisation_freezes_normalisation_and_refuses_what_it_has_no_rule_for():
    net = Residual().to(DTYPE).eval()
    frozen = copy.deepcopy(net)
    frozen.norm.requires_grad_(False)
    one = nl.Parametrisation(1.0, 1.0)
    torch.testing.assert_close(
        nl.empirical_kernel(net, parametrisation=one)(images(3)),
        nl.empirical_kernel(frozen, parametrisation=one)(images(3)),
    )
    standard = nl.Parametrisation(kind="standard")
    torch.testing.assert_close(
        nl.empirical_kernel(frozen, parametrisation=standard)(images(3)), nl.empirical_kernel(frozen)(images(3))
    )
    with pytest.raises(nl.UnsupportedLayer, match=r"`0` \(Bilinear\)"):
        nl.empirical_kernel(nn.Sequential(nn.Bilinear(2, 2, 2)), parametrisation=one)
    with pytest.raises(nl.UnsupportedLayer, match="plain Linear"):
        nl.empirical_kernel(nl.ntk_parametrize(build("fc1", (4,), 1)), parametrisation=one)


def test_what_does_not_fit(net):
    with pytest.raises(nl.InputError, match="outputs must be"):
        nl.empirical_kernel(net, "all")
    with pytest.raises(nl.InputError, match="one value a pair"):
        nl.empirical_kernel(net, "full").gradient(images(2), images(2), torch.ones(2, 2, dtype=DTYPE))
    with pytest.raises(nl.InputError, match="no parameter that requires"):
        nl.empirical_kernel(nn.Linear(2, 1).requires_grad_(False))
    with pytest.raises(nl.InputError, match=r"floating point were expected; torch\.int64 of shape \(2, 5\)"):
        nl.empirical_kernel(net)(torch.ones(2, 5, dtype=torch.long))
    with pytest.raises(nl.InputError, match="inputs of one shape"):
        nl.empirical_kernel(net)(images(2), images(2)[:, :1])
    with pytest.raises(nl.InputError, match=r"outputs of shape \(n, O\) was expected"):
        nl.empirical_kernel(nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))(torch.ones(2, 4))
