"""The empirical kernel against a loop over single gradients, and against the analytic limit."""

import copy

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from kernels.empirical.zoo import ZOO, Residual, images, inputs_of, network_of
from ntklens.networks import build

DTYPE = torch.float64


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


@pytest.mark.parametrize("name", ["words", "transformer"])
def test_tokens(name):
    net, x = network_of(ZOO[name], torch.float32), inputs_of(ZOO[name], 4, 0, DTYPE)
    kernel = nl.empirical_kernel(net)
    assert kernel(x).dtype == torch.float32
    torch.testing.assert_close(kernel(x.int()), kernel(x))
    with pytest.raises(nl.InputError, match="inputs of one shape"):
        kernel(x, x.double())


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
        explicit = nl.empirical_kernel(net, parametrisation=nl.Parametrisation(kind=name))
        assert torch.equal(named(x), explicit(x))
        assert named.parametrisation == explicit.parametrisation
    with pytest.raises(nl.InputError, match='expected the parametrisation "ntk" or "standard"'):
        nl.empirical_kernel(net, parametrisation="own")


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


@pytest.mark.parametrize("name", ["fc1", "conv1"])
def test_it_comes_near_the_analytic_kernel_as_width_grows(name):
    """Error of the mean over draws falls like 1/sqrt(width); fixed draws, bound at four times the observed scatter."""
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


def test_what_does_not_fit(net):
    with pytest.raises(nl.InputError, match='expected outputs "trace"'):
        nl.empirical_kernel(net, "all")
    with pytest.raises(nl.InputError, match="one value per pair"):
        nl.empirical_kernel(net, "full").gradient(images(2), images(2), torch.ones(2, 2, dtype=DTYPE))
    with pytest.raises(nl.InputError, match="parameter that requires a gradient; got none"):
        nl.empirical_kernel(nn.Linear(2, 1).requires_grad_(False))
    with pytest.raises(nl.InputError, match=r"inputs in floating point; got torch\.int64 of shape \(2, 5\)"):
        nl.empirical_kernel(net)(torch.ones(2, 5, dtype=torch.long))
    with pytest.raises(nl.InputError, match="inputs of one shape"):
        nl.empirical_kernel(net)(images(2), images(2)[:, :1])
    with pytest.raises(nl.InputError, match=r"outputs of shape \(n, O\); got"):
        nl.empirical_kernel(nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))(torch.ones(2, 4))
