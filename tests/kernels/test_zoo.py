"""The empirical kernel of many kinds of networks against plain Jacobians, taken one gradient at a time."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from kernels.zoo import ZOO, Case, batch, made
from ntklens.kernels.empirical import products

DTYPE = torch.float64
ORDERS = ("gradients", "kernels", "signals")


@pytest.fixture(params=ZOO, scope="module")
def case(request) -> Case:
    return ZOO[request.param]


@pytest.fixture(scope="module")
def brute(case) -> tuple[nn.Module, Tensor, Tensor, Tensor, dict[str, Tensor]]:
    net = made(case, DTYPE)
    x, z = batch(case, 4, 0, DTYPE), batch(case, 3, 1, DTYPE)
    a, b = by_hand(net, x), by_hand(net, z)
    blocks = {name: torch.einsum("nap,mbp->nmab", a[name], b[name]) for name in a}
    return net, x, z, sum(blocks.values()), blocks


def by_hand(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Jacobians (n, O, P) by the name of a parameter."""
    names, parameters = zip(*net.named_parameters(), strict=True)
    rows = [
        [torch.autograd.grad(f, parameters, retain_graph=True, materialize_grads=True) for f in net(one[None])[0]]
        for one in x
    ]
    return {
        name: torch.stack([torch.stack([grads[i].flatten() for grads in row]) for row in rows])
        for i, name in enumerate(names)
    }


def reduced(full: Tensor, outputs: str) -> Tensor:
    o = full.shape[2]
    return {"full": full, "trace": torch.einsum("nmaa->nm", full) / o, "pseudo": full.sum((2, 3)) / o}[outputs]


def error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize("memory", [1 << 30, 1])
@pytest.mark.parametrize("outputs", ["full", "trace", "pseudo"])
def test_exact_whatever_the_memory(brute, outputs, memory):
    net, x, z, full, _ = brute
    kernel = nl.empirical_kernel(net, outputs, memory_limit=memory)
    assert error(kernel(x, z), reduced(full, outputs)) < 1e-10
    assert error(kernel(x)[:2, 2:], kernel(x[:2], x[2:])) < 1e-10


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("outputs", ["full", "trace"])
def test_every_order_of_summation_is_exact(brute, outputs, order, monkeypatch):
    net, x, z, full, _ = brute
    taken = []

    def forced(n1, n2, o, g, c, k, *positions, full, same):
        taken.append("kernels" if (k is None and order == "gradients") or (order == "signals" and not full) else order)
        return taken[-1]

    monkeypatch.setattr(products, "cheapest", forced)
    kernel = nl.empirical_kernel(net, outputs, memory_limit=8_000)
    assert error(kernel(x, z), reduced(full, outputs)) < 1e-10
    k = kernel(x)
    assert torch.equal(k, k.permute(1, 0, 3, 2) if outputs == "full" else k.T)
    assert taken


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


def test_single_precision_is_near(case, brute):
    _, x, z, full, _ = brute
    single = x if case.tokens else x.float()
    k = nl.empirical_kernel(made(case, DTYPE).float())(single, z if case.tokens else z.float())
    assert k.dtype == torch.float32
    assert error(k.double(), reduced(full, "trace")) < 1e-4


def test_gradient_is_the_slope(case, brute):
    net, x, z, *_ = brute
    kernel, w, h = nl.empirical_kernel(net, memory_limit=20_000), batch(ZOO["mlp"], 4, 5, DTYPE)[:, :3], 1e-5
    if case.tokens:
        with pytest.raises(nl.InputError, match="a gradient is in inputs of floating point"):
            kernel.gradient(x, z, w)
        return
    direction = batch(case, 4, 6, DTYPE)
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    assert abs(float(slope - (ahead - behind) / (2 * h))) < 1e-5 * float(1 + slope.abs())


@pytest.mark.parametrize("name", ["words", "transformer"])
def test_tokens(name):
    net, x = made(ZOO[name], torch.float32), batch(ZOO[name], 4, 0, DTYPE)
    kernel = nl.empirical_kernel(net)
    assert kernel(x).dtype == torch.float32
    torch.testing.assert_close(kernel(x.int()), kernel(x))
    with pytest.raises(nl.InputError, match="inputs of one shape"):
        kernel(x, x.double())
