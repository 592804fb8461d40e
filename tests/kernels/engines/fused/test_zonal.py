"""The series in the angle beside the readable recursion: networks without biases, and inputs of one norm."""

import pytest
import torch
from torch import nn

from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import codes, zonal
from ntklens.kernels.rules.graph import Graph

D = 20
KINDS = ("nngp", "ntk")


def inputs(n: int = 24) -> torch.Tensor:
    """Some at any angle, one with itself, a near pair, and one with its negative."""
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[3], x[5], x[7] = x[2], x[4] + 1e-3 * x[6], -x[8]
    return x


def on_the_sphere(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.normalize(x) * D**0.5


def both(module: nn.Module, **kwargs):
    return [analytic_kernel(module, engine=engine, **kwargs) for engine in ("auto", "reference")]


def chain(layers: int, activation: nn.Module | None = None) -> nn.Module:
    hidden = [m for i in range(layers) for m in (nn.Linear(D if i == 0 else 8, 8), activation or nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(8, 1))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(D, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        x = self.first(x)
        return self.last((x + 0.5 * self.second(x.relu())).relu())


def worst(fast, plain) -> float:
    return float((fast - plain).abs().max() / plain.abs().max())


def error(fast, plain, x, z) -> float:
    """The largest relative error of kernels and gradients; the recursion is taken in float64."""
    w = torch.randn(len(x), len(z), generator=torch.Generator().manual_seed(4), dtype=x.dtype)
    pairs = list(zip(fast(x, z, kind=KINDS), plain(x.double(), z.double(), kind=KINDS), strict=True))
    for kind in KINDS:
        exact = plain.gradient(x.double(), z.double(), w.double(), kind=kind)
        pairs.append((fast.gradient(x, z, w, kind=kind), exact))
    return max(worst(a, b) for a, b in pairs)


def is_series(graph: Graph, dtype=torch.float64, norm=None) -> bool:
    program = zonal.AngleSeries(graph).forward(KINDS, dtype, norm)
    return program is not None and program.code[:, codes.OP].tolist() == [codes.LOAD, codes.ZONAL]


@pytest.mark.parametrize(
    "module",
    [chain(3), chain(10), chain(30), chain(4, nn.LeakyReLU(0.2)), chain(4, nn.LeakyReLU(-1.0)), Residual()],
    ids=["3", "10", "30", "leaky", "abs", "residual"],
)
def test_networks_without_biases(module):
    fast, plain = both(module, b_std=0.0)
    x = inputs()
    assert zonal.homogeneous(fast.graph((D,)))
    assert error(fast, plain, x, inputs().clone()) < 1e-9  # the near pair, whose angle is only so good in float64
    assert error(fast, plain, x[9:], x[:9]) < 1e-13
    assert error(fast, plain, x.float(), x.clone().float()) < 5e-7


def test_ten_layers_are_one_series_and_one_layer_stays_a_layer():
    assert is_series(analytic_kernel(chain(10), b_std=0.0).graph((D,)))
    assert not is_series(analytic_kernel(chain(1), b_std=0.0).graph((D,)))
    assert is_series(analytic_kernel(chain(10), b_std=0.3).graph((D,)), norm=1.0)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-13), (torch.float32, 5e-7)])
@pytest.mark.parametrize("b_std", [0.1, 1.0])
def test_inputs_of_one_norm(dtype, bound, b_std):
    fast, plain = both(chain(6), b_std=b_std)
    x = on_the_sphere(inputs()).to(dtype)
    z, x = x[:9], x[9:]
    assert zonal.common_square((z.double() ** 2).mean(1), dtype)
    assert error(fast, plain, x, z) < bound


def test_layer_norms_on_inputs_of_one_norm():
    hidden = [m for i in range(4) for m in (nn.Linear(D if i == 0 else 8, 8), nn.LayerNorm(8), nn.ReLU())]
    fast, plain = both(nn.Sequential(*hidden, nn.Linear(8, 1)), b_std=0.5)
    x = on_the_sphere(inputs())
    assert is_series(fast.graph((D,)), norm=1.0)
    assert error(fast, plain, x[9:], x[:9]) < 1e-13


class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x)


def mixed(*activations: nn.Module) -> nn.Module:
    hidden = [m for i, a in enumerate(activations) for m in (nn.Linear(8 if i else D, 8), a)]
    return nn.Sequential(*hidden, nn.Linear(8, 1))


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
@pytest.mark.parametrize(
    "activations",
    [
        (nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.GELU()),
        (nn.ReLU(), Erf(), nn.ReLU(), nn.ReLU(), nn.ReLU()),
        (Erf(), Erf(), Erf(), Erf()),
        (nn.GELU(), nn.GELU(), nn.GELU(), nn.GELU()),
    ],
    ids=["GELU last", "erf second", "erf", "GELU"],
)
def test_erf_and_gelu_on_inputs_of_one_norm(activations, dtype, bound):
    fast, plain = both(mixed(*activations), b_std=0.3)
    x = on_the_sphere(inputs()).to(dtype)
    z, x = x[:9], x[9:]
    assert is_series(fast.graph((D,)), norm=1.0)
    assert error(fast, plain, x, z) < bound


def test_an_activation_without_a_formula_makes_no_series():
    """It must not be passed over: many layers of ReLU around it would make a series without it."""
    module = mixed(nn.ReLU(), nn.ReLU(), nn.ReLU(), nn.Tanh(), nn.ReLU(), nn.ReLU())
    fast, plain = both(module, b_std=0.3)
    x = on_the_sphere(inputs())
    assert zonal.AngleSeries(fast.graph((D,))).forward(KINDS, torch.float64, 1.0) is None
    assert error(fast, plain, x[9:], x[:9]) < 1e-9


def test_norms_that_differ_by_rounding_are_taken_as_they_are():
    """What a kernel gains with the norms is part of the series, down to the square of the difference."""
    fast, plain = both(chain(6), b_std=1.0)
    x = on_the_sphere(inputs()) * torch.linspace(1 - 9e-7, 1 + 9e-7, 24, dtype=torch.float64)[:, None]
    x = x.float()
    program = zonal.AngleSeries(fast.graph((D,))).forward(("ntk",), torch.float32, 1.0)
    without = zonal.AngleSeries(fast.graph((D,))).forward(("ntk",), torch.float32, None)
    assert len(program.factors) > len(without.factors) > 0
    apart = fast(x[9:], x[:9]).double() - plain(x[9:].double(), x[:9].double())
    assert abs(float(apart.mean() / apart.std())) < 3  # of rounding alone
    assert float(apart.abs().max()) < 3e-7 * float(plain(x.double()).max())


def test_an_inputs_row_does_not_depend_on_the_other_inputs():
    """Rows of the common norm take the series and others the layers, whatever batch they come in."""
    fast, plain = both(chain(6))
    x, z = inputs().float(), on_the_sphere(inputs()).float()
    x[::2] = z[::2]
    together = fast(x, z)
    assert worst(together, plain(x.double(), z.double())) < 5e-7
    assert torch.equal(together, torch.cat([fast(row[None], z) for row in x]))


def test_the_whole_matrix_is_symmetric_with_an_exact_diagonal():
    fast, plain = both(chain(4), b_std=0.0)
    x = inputs()
    whole = fast(x)
    assert torch.equal(whole, whole.T)
    torch.testing.assert_close(whole.diagonal(), plain.diagonal(x), rtol=1e-15, atol=0)


def test_black_inputs():
    fast = analytic_kernel(chain(3), b_std=0.0)
    x = inputs()
    x[0] = 0
    assert not fast(x)[0].any()
    assert torch.isfinite(fast.gradient(x, x, torch.ones(24, 24, dtype=torch.float64))).all()
    biased = analytic_kernel(chain(3))
    assert torch.isfinite(biased(torch.zeros(2, D), torch.zeros(2, D))).all()
