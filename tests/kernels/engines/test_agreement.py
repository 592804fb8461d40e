"""The engines on networks of every kind: they agree, and an entry does not depend on the batch that it is in."""

import pytest
import torch
from torch import nn

from kernels import networks
from ntklens.kernels import analytic_kernel


def worst(value, truth):
    return float((value.double() - truth).abs().max() / truth.abs().max())


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", networks.DRAWN)
def test_both_engines_agree(name):
    shape, make = networks.DRAWN[name]
    x = torch.rand(21, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w = torch.randn(3, 21, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fast, plain = (analytic_kernel(make(), engine=engine) for engine in ("auto", "reference"))
    for kind in ("nngp", "ntk"):
        assert worst(fast(x[:3], x, kind), plain(x[:3], x, kind)) < 1e-13
        assert worst(fast(x, kind=kind), plain(x, kind=kind)) < 1e-13
        single = x.float()
        assert worst(fast(single[:3], single, kind), plain(single[:3].double(), single.double(), kind)) < 1e-6
        assert worst(fast.gradient(x[:3], x, w, kind), plain.gradient(x[:3], x, w, kind)) < 1e-12


@pytest.mark.parametrize("name", ["fc20", "resnet_pool", "avgpool_overlap", "erf_conv_gap"])
def test_an_entry_is_the_same_to_the_last_bit_in_every_batch(name):
    inputs = networks.peer_values(name)
    x = torch.cat([inputs["x1"], inputs["x2"]])
    kernel = analytic_kernel(networks.PEER[name]())
    small = analytic_kernel(networks.PEER[name](), memory_limit=1_000_000)
    k = kernel(x, x)
    assert torch.equal(small(x, x), k)
    assert torch.equal(kernel(x[1:2], x[2:4]), k[1:2, 2:4])
    assert torch.equal(small(x), kernel(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("d", [3, 7, 15, 31, 50, 63, 250, 300])
def test_an_entry_does_not_depend_on_its_place_in_a_tile(d, dtype):
    """Libraries multiply narrow matrices, and columns that are left over, in orders of their own."""
    generator = torch.Generator().manual_seed(d)
    layers = [nn.Linear(d, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1)]
    kernel = analytic_kernel(nn.Sequential(*layers))
    x, z = (torch.rand(n, d, generator=generator, dtype=torch.float64).to(dtype) for n in (230, 410))
    w = torch.randn(230, 410, generator=generator, dtype=torch.float64).to(dtype)
    k, gradient = kernel(x, z), kernel.gradient(x, z, w)
    some = torch.randperm(410, generator=generator)[:200]
    assert torch.equal(kernel(x, z[some]), k[:, some])
    for rows in (torch.arange(1), torch.arange(37, 40), torch.randperm(230, generator=generator)[:150]):
        assert torch.equal(kernel(x[rows], z), k[rows])
        assert torch.equal(kernel.gradient(x[rows], z, w[rows]), gradient[rows])
