"""Jacobians where torch's batched passes are wrong, fail, or miss a parameter; and what the plan says of them."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import ntklens as nl
from kernels.empirical.zoo import error, jacobians_by_hand
from ntklens.kernels.empirical.jacobians import is_jacobian, weighted_gradients

DTYPE = torch.float64
BY_ONE = "Jacobian, one image and output at a time"


class Own(nn.Module):
    """A parameter, and a function of it and the features, before a dense layer."""

    def __init__(self, function, *shape: int) -> None:
        super().__init__()
        self.w, self.last, self.function = nn.Parameter(torch.rand(shape)), nn.Linear(4, 3), function

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.w, x))


class Listed(nn.Module):
    """A parameter that the forward reaches by a list, where torch.func does not look for it."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.last = nn.Parameter(torch.rand(4, 4)), nn.Linear(4, 3)
        self.weights = [self.w]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.tanh(x @ self.weights[0]))


class Auxiliary(nn.Module):
    """A head that is not used, and one whose result is detached."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.unused, self.detached = (nn.Linear(4, n) for n in (4, 3, 7, 3))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.body(x))
        return self.head(h) + self.detached(h).detach()


class Backbone(nn.Module):
    """A backbone that runs without a graph."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            h = torch.tanh(self.body(x))
        return self.head(h)


class StillBeside(nn.Module):
    """A layer that is called without a graph, and whose weight is used once more with one."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            still = self.body(x)
        return self.head(torch.tanh(F.linear(x, self.body.weight)) + still)


class Doubling(nn.Conv1d):
    """A convolution that doubles its weight in a method that torch's own forward calls."""

    def _conv_forward(self, h: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(h, 2 * weight, bias)


class Sorting(nn.Module):
    """A layer that runs on the inputs in the order of their first feature."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        order = x[:, 0].argsort(stable=True)
        return self.head(torch.tanh(self.body(x[order]))[order.argsort()])


class Checkpointed(nn.Module):
    def __init__(self, use_reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.inner, self.use_reentrant = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)), use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, torch.tanh(self.first(x)), use_reentrant=self.use_reentrant)


class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        positive = x[:, 0] > 0
        h = torch.zeros_like(x)
        h[positive] = self.first(x[positive])
        h[~positive] = self.second(x[~positive])
        return self.head(torch.tanh(h))


def patched() -> nn.Module:
    """Return a network with a layer whose forward is replaced on the object itself."""
    net = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    layer = net[0]
    layer.forward = lambda h: F.linear(h, 3 * layer.weight, layer.bias)
    return net


NETWORKS = {
    "solve": lambda: Own(lambda w, x: torch.linalg.solve(w + 2 * torch.eye(4).to(w), x.T).T, 4, 4),
    "solve for each input": lambda: Own(lambda w, x: torch.linalg.solve(torch.diag_embed(x.exp()) + w, x), 4, 4),
    "cholesky": lambda: Own(lambda w, x: x @ torch.linalg.cholesky(w @ w.T + torch.eye(4).to(w)), 4, 4),
    "prelu": lambda: nn.Sequential(
        nn.Linear(4, 6), nn.Unflatten(1, (3, 2)), nn.PReLU(3), nn.Flatten(), nn.Linear(6, 3)
    ),
    "cayley": lambda: nn.Sequential(
        nn.utils.parametrizations.orthogonal(nn.Linear(4, 4), orthogonal_map="cayley"), nn.Tanh(), nn.Linear(4, 3)
    ),
    "old weight norm": lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 4)), nn.Tanh(), nn.Linear(4, 3)),
    "listed": Listed,
    "auxiliary": Auxiliary,
    "backbone": Backbone,
    "still beside": StillBeside,
    "doubling": lambda: nn.Sequential(nn.Unflatten(1, (2, 2)), Doubling(2, 2, 2), nn.Flatten(), nn.Linear(2, 3)),
    "sorting": Sorting,
    "checkpointed": lambda: Checkpointed(False),
}


def built(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return NETWORKS[name]().to(DTYPE).eval()


def drawn(n: int) -> Tensor:
    return torch.randn(n, 4, dtype=DTYPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("n", [3, 4])
def test_kernels_are_those_of_plain_gradients(name, n):
    """With as many images as outputs, and with one more."""
    net, x = built(name), drawn(n)
    blocks = jacobians_by_hand(net, x)
    j = torch.cat(list(blocks.values()), 2)
    full = torch.einsum("iap,jbp->ijab", j, j)
    assert error(nl.empirical_kernel(net, "full")(x), full) < 1e-10
    assert error(nl.empirical_kernel(net)(x), torch.einsum("ijaa->ij", full) / 3) < 1e-10
    assert error(nl.empirical_kernel(net, layerwise=False)(x), torch.einsum("ijaa->ij", full) / 3) < 1e-10
    layers = nl.empirical_kernel(net, "full").per_layer(x)
    assert error(sum(layers.values()), full) < 1e-10
    for parameter in blocks.keys() & layers.keys():
        block = torch.einsum("iap,jbp->ijab", blocks[parameter], blocks[parameter])
        torch.testing.assert_close(layers[parameter], block, rtol=1e-8, atol=1e-10)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"backbone", "still beside"}))
def test_gradients_in_the_inputs_are_the_slope(name):
    """Except where the network itself cuts the graph to its inputs."""
    net, x, z = built(name), drawn(4)[:3], drawn(5)[3:]
    kernel, h = nl.empirical_kernel(net), 1e-6
    w, direction = drawn(3)[:, :2], drawn(7)[4:]
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("name", NETWORKS)
def test_projections_are_of_plain_gradients(name):
    """Averaged over many directions; the values of single directions are in the random networks."""
    net, x = built(name), drawn(3)
    exact, estimate = nl.empirical_kernel(net)(x), nl.empirical_kernel(net, projections=300)(x)
    assert error(estimate, exact) < 0.35


def test_a_patched_forward_is_not_taken_for_torchs():
    net, x = patched().to(DTYPE), drawn(3)
    j = torch.cat(list(jacobians_by_hand(net, x).values()), 2)
    kernel = nl.empirical_kernel(net, "full")
    assert error(kernel(x), torch.einsum("iap,jbp->ijab", j, j)) < 1e-10
    assert kernel.plan(x)["2"] == "Linear, structured"
    assert "0" not in kernel.plan(x)


def test_the_plan_names_what_is_not_batched():
    assert nl.empirical_kernel(built("prelu")).plan(drawn(2)) == {
        "0": "Linear, structured",
        "4": "Linear, structured",
        "2.weight": BY_ONE,
    }
    assert nl.empirical_kernel(built("listed")).plan(drawn(2))["w"] == BY_ONE
    assert nl.empirical_kernel(built("solve")).plan(drawn(2))["w"] == "Jacobian"
    plan = nl.empirical_kernel(built("auxiliary")).plan(drawn(2))
    assert {name for name, way in plan.items() if way == "unused, zero"} == {
        "unused.weight",
        "unused.bias",
        "detached.weight",
        "detached.bias",
    }


def test_an_unused_layer_takes_no_memory():
    """A replaced classifier of 4096 x 4096, under a limit that one image's Jacobian of it would exceed a thousand times."""
    net = Auxiliary().to(DTYPE)
    net.unused = nn.Linear(4096, 4096, bias=False).to(DTYPE)
    kernel, x = nl.empirical_kernel(net, memory_limit=1 << 20), drawn(20)
    assert kernel._snapshot.plan(x).per_output < 100
    torch.testing.assert_close(kernel(x), nl.empirical_kernel(net)(x))


def test_the_check_finds_torchs_wrong_jacobians():
    """The faults that the check is for are there in torch, and it finds them; without them it could go."""
    net, x = built("prelu"), drawn(3)
    net.requires_grad_(False)
    values = {"2.weight": net[2].weight}
    v, sums = weighted_gradients(net, values, x, lambda f: f)
    batched = vmap(jacrev(lambda p, one: functional_call(net, p, (one[None],))[0]), (None, 0), out_dims=1)(values, x)
    right = jacobians_by_hand(net.requires_grad_(), x)["2.weight"].transpose(0, 1)
    assert is_jacobian(right, v, sums["2.weight"])
    assert is_jacobian(batched["2.weight"], v, sums["2.weight"]) == (error(batched["2.weight"], right) < 1e-8)
    assert not is_jacobian(1.001 * right, v, sums["2.weight"])
    wrong = right.clone()
    wrong[1, 2, 0] *= 1.001
    assert not is_jacobian(wrong, v, sums["2.weight"])


def test_what_cannot_be_differentiated_is_refused():
    x = drawn(4)
    with pytest.raises(nl.InputError, match="use_reentrant=True"):
        nl.empirical_kernel(Checkpointed(True).to(DTYPE))(x)
    kernel = nl.empirical_kernel(Own(lambda w, h: torch.cdist(h[:, None], w)[:, 0], 4, 4).to(DTYPE))
    with pytest.raises(nl.InputError, match="derivative for '_cdist_backward' is not implemented"):
        kernel.gradient(x, x, torch.ones(4, 4, dtype=DTYPE))


def test_layers_that_are_chosen_by_the_inputs():
    """Right where the first input shows it, and refused with the way out where only a later one does."""
    net, x = Experts().to(DTYPE), drawn(4)
    for sign in (1, -1):
        x[:, 0] = sign * torch.tensor([0.5, 0.5, -0.5, -0.5], dtype=DTYPE)
        j = torch.cat(list(jacobians_by_hand(net, x).values()), 2)
        trace = torch.einsum("iop,jop->ij", j, j) / 3
        assert error(nl.empirical_kernel(net, layerwise=False)(x), trace) < 1e-10
        if sign == 1:
            assert error(nl.empirical_kernel(net)(x), trace) < 1e-10
    with pytest.raises(nl.InputError, match=r"runs on 2 of 4 of them. Use empirical_kernel\(..., layerwise=False\)"):
        nl.empirical_kernel(net)(x)


def test_a_network_that_writes_into_its_inputs():
    class Shifting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.slope = nn.Linear(4, 3), nn.PReLU()

        def forward(self, x: Tensor) -> Tensor:
            x -= 0.5
            return self.slope(self.layer(x))

    net, x = Shifting().to(DTYPE), drawn(4)
    keep, w = x.clone(), torch.ones(4, 4, dtype=DTYPE)
    plain = nn.Sequential(net.layer, net.slope)
    for outputs in ("trace", "full"):
        kernel, expected = nl.empirical_kernel(net, outputs), nl.empirical_kernel(plain, outputs)
        torch.testing.assert_close(kernel(x), expected(x - 0.5))
    kernel, expected = nl.empirical_kernel(net), nl.empirical_kernel(plain)
    torch.testing.assert_close(kernel.gradient(x, x, w), expected.gradient(x - 0.5, x - 0.5, w))
    torch.testing.assert_close(
        nl.empirical_kernel(net, projections=5)(x), nl.empirical_kernel(plain, projections=5)(x - 0.5)
    )
    torch.testing.assert_close(nl.linearize(net)(x), plain(x - 0.5))
    tracker = nl.KernelTracker(x, torch.arange(4) % 3, top_k=1)
    assert torch.equal(tracker.record(net, 0), tracker.record(net, 1))
    assert torch.equal(tracker.probe_x, keep)
    assert torch.equal(x, keep)
