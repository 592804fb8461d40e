"""Random projections of the tangents: unbiased, with the stated variance, and the same for every batch."""

import pytest
import torch
from torch import Tensor

import ntklens as nl
from kernels.empirical.zoo import ZOO, inputs_of, network_of

DTYPE = torch.float64
CASES = ["mlp", "residual", "temperature", "transformer"]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bound(full: Tensor) -> Tensor:
    """k times the variance of the trace, from the full kernel of x with itself."""
    diagonal = torch.stack([full[i, i] for i in range(len(full))])
    crossed = torch.einsum("nab,mab->nm", diagonal, diagonal) + torch.einsum("nmab,nmba->nm", full, full)
    return crossed / full.shape[2] ** 2


@pytest.mark.parametrize("name", CASES)
def test_unbiased_with_the_stated_error(name):
    """The mean of 4096 directions: each entry within four stated standard errors, fixed seed."""
    net, x, k = network_of(ZOO[name], DTYPE), inputs_of(ZOO[name], 3, 0, DTYPE), 4096
    exact = nl.empirical_kernel(net, "full")(x)
    trace = nl.empirical_kernel(net)(x)
    estimate = nl.empirical_kernel(net, projections=k, generator=seeded(1))(x)
    z = (estimate - trace) / (bound(exact) / k).sqrt()
    assert float(z.abs().max()) < 4


@pytest.mark.parametrize("name", ["words", "encoder"])
def test_layers_with_a_fast_path_of_their_own(name):
    net, x = network_of(ZOO[name], DTYPE), inputs_of(ZOO[name], 3, 0, DTYPE)
    exact, estimate = nl.empirical_kernel(net)(x), nl.empirical_kernel(net, projections=1000)(x)
    z = (estimate - exact) / (bound(nl.empirical_kernel(net, "full")(x)) / 1000).sqrt()
    assert float(z.abs().max()) < 4
    assert not estimate.requires_grad


def test_error_falls_as_the_root_of_the_number():
    net, x = network_of(ZOO["mlp"], DTYPE), inputs_of(ZOO["mlp"], 5, 0, DTYPE)
    exact = nl.empirical_kernel(net)(x)
    errors = {
        k: torch.stack(
            [nl.empirical_kernel(net, projections=k, generator=seeded(s))(x) - exact for s in range(30)]
        ).norm()
        for k in (8, 128)
    }
    assert 2.5 < float(errors[8] / errors[128]) < 6.4  # 4, and twice the scatter of thirty draws


@pytest.mark.parametrize("outputs", ["trace", "full", "pseudo"])
def test_the_batch_changes_nothing(outputs):
    net, x, z = (
        network_of(ZOO["residual"], DTYPE),
        inputs_of(ZOO["residual"], 5, 0, DTYPE),
        inputs_of(ZOO["residual"], 4, 1, DTYPE),
    )
    make = {"outputs": outputs, "projections": 6}
    whole = nl.empirical_kernel(net, **make)
    k = whole(x, z)
    torch.testing.assert_close(nl.empirical_kernel(net, memory_limit=1, **make)(x, z), k, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(torch.cat([whole(one[None], z) for one in x]), k, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(whole(torch.cat([x, z]))[:5, 5:], k, rtol=1e-10, atol=1e-12)
    other = nl.empirical_kernel(net, generator=seeded(7), **make)
    assert not torch.allclose(other(x, z), k)


def test_full_pseudo_and_trace_are_of_one_estimate():
    net, x = network_of(ZOO["mlp"], DTYPE), inputs_of(ZOO["mlp"], 4, 0, DTYPE)
    full, trace, pseudo = (nl.empirical_kernel(net, o, projections=5)(x) for o in ("full", "trace", "pseudo"))
    torch.testing.assert_close(torch.einsum("nmaa->nm", full) / 3, trace)
    torch.testing.assert_close(full.sum((2, 3)) / 3, pseudo)


def test_gradient_is_the_slope():
    net, x, z = (
        network_of(ZOO["layer norm"], DTYPE),
        inputs_of(ZOO["layer norm"], 3, 0, DTYPE),
        inputs_of(ZOO["mlp"], 4, 1, DTYPE),
    )
    kernel, w, h = nl.empirical_kernel(net, projections=5), inputs_of(ZOO["mlp"], 3, 2, DTYPE)[:, :4], 1e-6
    direction = inputs_of(ZOO["mlp"], 3, 3, DTYPE)
    ahead, behind = ((kernel(x + s * direction, z) * w).sum() for s in (h, -h))
    slope = (kernel.gradient(x, z, w) * direction).sum()
    torch.testing.assert_close(slope, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


def test_what_does_not_fit():
    net = network_of(ZOO["mlp"], DTYPE)
    with pytest.raises(nl.InputError, match="expected projections as a whole number of 1 or more; got 0"):
        nl.empirical_kernel(net, projections=0)
    with pytest.raises(nl.InputError, match="random projections, which mix the layers"):
        nl.empirical_kernel(net, projections=2).per_layer(inputs_of(ZOO["mlp"], 2, 0, DTYPE))
    assert "projections=3" in repr(nl.empirical_kernel(net, projections=3))
