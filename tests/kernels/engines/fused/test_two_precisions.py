"""Covariances in float32 where erf and GELU are the only activations and no variance is large."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from kernels.engines.fused.programs import Erf
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import images, layout, packed, two_precisions
from ntklens.kernels.engines.fused.compiler import compile_graph

ACTIVATIONS = {"erf": (Erf, Erf), "gelu": (nn.GELU, nn.GELU), "both": (nn.GELU, Erf)}
SHAPE = (2, 8, 8)


def network(name: str, kind: str = "flattened") -> nn.Module:
    first, second = (act() for act in ACTIVATIONS[name])
    norm = nn.LayerNorm((4, 8, 8), eps=0.0, elementwise_affine=False) if kind == "normalised" else nn.Identity()
    body = [nn.Conv2d(2, 4, 3, padding=1), norm, first, nn.Conv2d(4, 4, 3, padding=1), second]
    if kind == "averaged":
        body += [nn.AvgPool2d(2), nn.Conv2d(4, 4, 3, padding=1), ACTIVATIONS[name][0]()]
    if kind in ("pooled", "averaged"):
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(4 * 64, 1))


def batch(n: int, scale: float = 1.0, seed: int = 0) -> torch.Tensor:
    return scale * torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def dtypes(monkeypatch):
    """The dtypes of K in which pairs are computed."""
    seen = []
    run = layout.run

    def noted(program, items, panel, x, z, *args, **options):
        seen.append(str(x.marginals.dtype))
        return run(program, items, panel, x, z, *args, **options)

    for module in (images, packed):
        monkeypatch.setattr(module, "run", noted)
    return seen


@pytest.mark.parametrize("kind", ["flattened", "normalised", "pooled", "averaged"])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
def test_as_exact_as_float32_up_to_the_largest_variance(name, kind, distance, dtypes):
    kernel = analytic_kernel(network(name, kind), w_std=2**0.5, b_std=0.1)
    # Pixels up to 1.4 give variances up to 4.
    x = batch(6, 1.4)
    x[0] = 1.4  # variances of nearly 4
    z = torch.cat(
        [x + distance * torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).clamp(-1, 0), batch(5)]
    )
    results = kernel(x, z, kind=("nngp", "ntk"))
    # In the last network an activation follows the averages.
    assert set(dtypes) == {"float64" if kind == "averaged" else "float32"}
    for result, exact in zip(results, kernel(x.double(), z.double(), kind=("nngp", "ntk")), strict=True):
        assert result.dtype == torch.float32
        torch.testing.assert_close(result.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["erf", "gelu"])
def test_inputs_of_large_variance_keep_covariances_in_float64(name, dtypes):
    kernel = analytic_kernel(network(name), w_std=2**0.5, b_std=0.1)
    x, z = batch(3, 255.0), batch(33, 255.0, seed=1)
    z[:3] = x + 1e-2 * batch(3, seed=2)
    result = kernel(x, z)
    assert set(dtypes) == {"float64"}
    torch.testing.assert_close(result.double(), kernel(x.double(), z.double()), rtol=5e-6, atol=0)


def test_float32_covariances_would_be_wrong_for_them(monkeypatch):
    """The bound is needed: without it nearly equal inputs of 8-bit pixels lose more than half of their digits."""
    monkeypatch.setattr("ntklens.kernels.engines.fused.two_precisions._MOST", 1e9)
    kernel = analytic_kernel(network("erf"), w_std=2**0.5, b_std=0.1)
    x = batch(3, 255.0)
    z = x + 1e-2 * batch(3, seed=2)
    error = (kernel(x, z).double() / kernel(x.double(), z.double()) - 1).abs().max()
    assert error > 1e-4


@pytest.mark.parametrize("kind", ["flattened", "pooled"])
@pytest.mark.parametrize("name", ["erf", "gelu"])
def test_a_pair_is_the_same_beside_any_others(name, kind, dtypes):
    kernel = analytic_kernel(network(name, kind), w_std=2**0.5, b_std=0.1)
    x, z = batch(5), batch(35, seed=1)
    x[[1, 4]] *= 9
    z[::3] *= 9
    whole = kernel(x, z)
    if kind == "flattened":
        assert set(dtypes) == {"float32", "float64"}
    for i in range(5):
        assert torch.equal(kernel(x[i : i + 1], z), whole[i : i + 1])
    assert torch.equal(kernel(x, z[7:9]), whole[:, 7:9])
    both = torch.cat([x, z])
    square = kernel(both)
    assert torch.equal(square, square.T)
    # The diagonal of a small program comes from the recursion of the variances.
    assert torch.equal(square[:5, 5:], whole)


@pytest.mark.parametrize("name", ["erf", "gelu"])
def test_tiny_images_before_a_normalisation(name, dtypes):
    """Products of pixels near the smallest float32, which the normalisation makes large again."""
    kernel = analytic_kernel(network(name, "normalised"), w_std=2**0.5, b_std=0.0)
    x, z = batch(3, 1e-15), batch(20, 1e-15, seed=1)
    result = kernel(x, z)
    assert set(dtypes) == {"float64"}
    torch.testing.assert_close(result.double(), kernel(x.double(), z.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("norm", "value", "is_allowed"),
    [
        ("Erf", 2.0, True),
        ("Erf", 2.001, False),
        ("Erf", 0.0, True),
        ("Erf", 1e-12, True),
        ("Erf", 9e-13, False),
        ("Normalise", 0.0, True),
        ("Normalise", 1e12, True),
        ("Normalise", 2e12, False),
        ("Normalise", 9e-13, False),
    ],
)
def test_which_inputs_allow_it(norm, value, is_allowed):
    """Each is told from its own standard deviations, and inverse ones of normalisations, at all positions."""
    program = compile_graph(analytic_kernel(network("erf", "normalised")).graph(SHAPE))
    marginals = np.ones((3, program.marginal_size))
    (first, *_) = (place for (_, of), place in program.marginals.items() if type(of).__name__ == norm)
    marginals[1, first + 63] = value
    # The roots beside the 64 standard deviations do not count.
    (erf, *_) = (place for (_, of), place in program.marginals.items() if type(of).__name__ == "Erf")
    marginals[:, erf + 64] = 1e-30
    side = layout.Side(np.zeros((3, 2, 64), np.float32), marginals)
    assert two_precisions.fits(program, side).tolist() == [True, is_allowed, True]


def test_black_images():
    kernel = analytic_kernel(network("erf"), w_std=2**0.5, b_std=0.0)
    x = torch.cat([torch.zeros(1, *SHAPE), batch(20)])
    torch.testing.assert_close(kernel(x).double(), kernel(x.double()), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("act", "is_smooth"), [(nn.ReLU, False), (nn.Tanh, False), (nn.GELU, True), (Erf, True)])
def test_programs_that_allow_it(act, is_smooth):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1), nn.GELU(), nn.Conv2d(4, 4, 3), act(), nn.Flatten(), nn.Linear(144, 1)
    )
    assert compile_graph(analytic_kernel(net).graph(SHAPE)).is_smooth == is_smooth


def test_a_network_without_activations_has_none():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(144, 1))
    assert not compile_graph(analytic_kernel(net).graph(SHAPE)).is_smooth


def test_scratch_lives_as_long_as_it_is_read():
    """Freed memory is overwritten where the library that allocates it is told to: results must not change."""
    program = """
import ctypes, sys, torch
from torch import nn
import ntklens as nl
M_PERTURB = -6
ctypes.CDLL(None).mallopt(M_PERTURB, int(sys.argv[1]))
torch.set_num_threads(1)
layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(256, 1))
x = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
kernel = nl.analytic_kernel(net)
print(float(kernel(x[:4], x).sum()), float(kernel.gradient(x[:4], x, torch.ones(4, 20)).sum()))
"""
    outputs = [
        subprocess.run([sys.executable, "-c", program, perturb], capture_output=True, text=True, check=True).stdout
        for perturb in ("0", "100")
    ]
    assert outputs[0] == outputs[1]
