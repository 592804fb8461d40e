"""Few pairs give what many do: packed in lanes, by parts of the program, in one thread and in several."""

import numpy as np
import pytest
import torch
from torch import nn

from kernels.engines.fused.programs import Erf
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import packed
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.layout import Side

ACTIVATIONS = {"relu": nn.ReLU, "leaky": lambda: nn.LeakyReLU(0.3), "erf": Erf, "gelu": nn.GELU}
CHAINS = [
    *(pytest.param((name, "chain"), id=name) for name in ACTIVATIONS),
    pytest.param(("relu", "pooled"), id="average pooling"),
    pytest.param(("relu", "mixed"), id="layers after the pooling"),
    pytest.param(("relu", "normalised"), id="normalisation"),
]


@pytest.fixture
def threads():
    """Set the number of threads, and restore it."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def network(activation, kind):
    act = ACTIVATIONS[activation]
    norm = nn.LayerNorm((4, 8, 8), elementwise_affine=False) if kind == "normalised" else nn.Identity()
    body = [nn.Conv2d(2, 4, 3, padding=1), act(), nn.Conv2d(4, 4, 3, padding=1), norm, act()]
    if kind == "pooled":
        body += [nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), act()]
    head = [nn.Linear(4, 4), act(), nn.Linear(4, 1)] if kind == "mixed" else [nn.Linear(4, 1)]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


def batch(n, dtype, seed):
    return torch.rand(n, 2, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def packings(monkeypatch):
    """The number of pairs of every packing."""
    seen = []
    pack = packed.pack

    def noted(x, z, rows, columns):
        seen.append(len(rows))
        return pack(x, z, rows, columns)

    monkeypatch.setattr(packed, "pack", noted)
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("of", CHAINS)
def test_a_pair_is_the_same_to_the_last_bit(of, dtype, threads, packings):
    kernel = analytic_kernel(network(*of), b_std=0.1)
    x, z = batch(33, dtype, 0), batch(32, dtype, 1)
    threads(1)
    whole, with_itself = kernel(x, z), kernel(z, z)
    assert packings == []
    for count in (1, 3):
        threads(count)
        for n1, n2 in ((1, 1), (4, 4), (1, 5), (33, 4), (5, 17), (2, 32)):
            assert torch.equal(kernel(x[:n1], z[:n2]), whole[:n1, :n2])
        for n in (1, 5, 6, 17):
            small = kernel(z[:n])
            assert torch.equal(small, small.T)
            assert torch.equal(small.triu(), with_itself[:n, :n].triu())
    assert len(packings) > 10


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("of", CHAINS)
def test_gradients_of_few_pairs_are_those_of_many(of, dtype, threads, packings):
    kernel = analytic_kernel(network(*of), b_std=0.1)
    x, z = batch(9, dtype, 0), batch(16, dtype, 1)
    weights = torch.randn(9, 16, dtype=dtype, generator=torch.Generator().manual_seed(2))
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for n2 in (1, 3, 8):
        weights[:, n2:] = 0
        # Sixteen images z are a whole block of lanes, in which those of no weight count nothing.
        many = kernel.gradient(x, z, weights)
        assert packings == []
        threads(1)
        few = kernel.gradient(x, z[:n2], weights[:, :n2])
        assert float((few - many).abs().max() / many.abs().max()) < tolerance
        threads(3)
        for n1 in (1, 2, 9):
            assert torch.equal(kernel.gradient(x[:n1], z[:n2], weights[:n1, :n2]), few[:n1])
        assert packings
        packings.clear()
        weights = torch.randn(9, 16, dtype=dtype, generator=torch.Generator().manual_seed(3 + n2))


def test_networks_of_few_maps_are_not_packed(packings):
    flattened = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 1))
    x = batch(4, torch.float32, 0)
    assert analytic_kernel(flattened)(x).shape == (4, 4)
    assert packings == []


def test_pairs_of_a_batch_with_itself_are_those_above_the_diagonal():
    rows, columns = packed.pairs_of(3, 3, is_symmetric=True)
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    rows, columns = packed.pairs_of(2, 3, is_symmetric=False)
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_each_lane_has_its_pair():
    rng = np.random.default_rng(0)
    x, z = (Side(rng.random((n, 2, 3), np.float32), rng.random((n, 5))) for n in (4, 6))
    rows, columns = packed.pairs_of(4, 6, is_symmetric=False)
    packed_x, packed_z = packed.pack(x, z, rows, columns)
    assert packed_x.pixels.shape == (2, 2, 3, LANES)
    assert packed_x.pixels.dtype == np.float64
    for k, (i, j) in enumerate(zip(rows, columns, strict=True)):
        item, lane = divmod(k, LANES)
        assert np.array_equal(packed_x.pixels[item, ..., lane], x.pixels[i])
        assert np.array_equal(packed_x.marginals[item, :, 0, lane], x.marginals[i])
        assert np.array_equal(packed_z.pixels[item].reshape(2, 3, LANES)[..., lane], z.pixels[j])
        assert np.array_equal(packed_z.marginals[item].reshape(5, LANES)[:, lane], z.marginals[j])


def test_progress_of_few_pairs_grows_and_ends_at_one(threads):
    shares = []
    threads(2)
    x = batch(4, torch.float32, 0)
    analytic_kernel(network("relu", "chain"))(x, progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
