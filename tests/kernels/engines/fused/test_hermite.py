"""Hermite series on a row, beside Gaussian expectations; networks of smooth activations; inputs beyond the series."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numba import njit
from torch import nn

import ntklens as nl
from kernels import networks
from kernels.engines.fused import checks
from kernels.engines.fused.rows import WIDTH, both_tables, expectations, row, worst
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import hermite
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.coefficients.hermite import EVEN, GENERIC, ODD, HermiteTables, has_series, parity
from ntklens.kernels.engines.fused.vectors import pointer
from ntklens.kernels.rules import octaves
from ntklens.kernels.rules.duals import Exp, Gaussian, LeakyReLU, Sin
from ntklens.kernels.rules.series import Series

SERIES = {
    "tanh": Series(torch.tanh, 500),
    "sigmoid": Series(torch.sigmoid, 500),
    "SiLU": Series(F.silu, 500),
    "softplus": Series(F.softplus, 500),
    "mish": Series(F.mish, 500),
    "cube": Series(lambda u: u**3, 3),
    "sine": Sin(),
    "cosine": Sin(math.pi / 2),
    "shifted sine": Sin(0.7),
    "exponential": Exp(),
    "Gaussian": Gaussian(),
}


@njit
def forward(nngp, ntk, table_x, table_z, entry, parity):
    hermite.hermite_row(
        pointer(nngp), pointer(ntk), pointer(table_x), pointer(table_z), WIDTH, entry, entry * LANES, LANES, parity
    )


@njit
def backward(nngp_bar, ntk_bar, nngp, ntk, table_x, table_z, entry_x, entry_z, length, parity, log_std_bar):
    hermite.hermite_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(table_x), pointer(table_z), WIDTH,
        entry_x, entry_z * LANES, LANES, length, parity, pointer(log_std_bar), 1,
    )  # fmt: skip


@pytest.mark.parametrize(("single", "bound"), [(False, 1e-11), (True, 2e-7)])
@pytest.mark.parametrize("name", SERIES)
def test_a_row_is_the_expectations(name, single, bound):
    dual = SERIES[name]
    assert has_series(dual)
    k, theta, std_x, std_z = row(1.3)
    k[0, 2] = std_z[0, 2] = 0.0  # an input of variance 0
    expected = expectations(dual, *map(torch.from_numpy, (k, theta, std_x, std_z)))
    _, (of_x, entry), (of_z, _) = both_tables(HermiteTables(dual, single), std_x, std_z)
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, of_x, of_z, entry, parity(dual))
    for found, truth in zip((flat_k, flat_theta), expected, strict=True):
        np.testing.assert_allclose(found, truth.flatten(), rtol=bound, atol=bound * float(truth.abs().max()))


@pytest.mark.parametrize("name", ["tanh", "SiLU", "mish", "shifted sine", "exponential", "Gaussian"])
def test_the_way_back_is_autograds(name):
    dual = SERIES[name]
    arrays = row(1.3)
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    # At a cosine of 1 the reference takes an integral, whose derivative by the covariance alone is another one.
    bars[:, :, 0] = 0
    new_k, new_theta = expectations(dual, k, theta, std_x, std_z)
    (new_k * torch.from_numpy(bars[0]) + new_theta * torch.from_numpy(bars[1])).sum().backward()
    room, (of_x, entry_x), (of_z, entry_z) = both_tables(HermiteTables(dual, False), arrays[2], arrays[3], grows=True)
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).copy(), np.zeros(WIDTH)
    flat = [a.reshape(-1).copy() for a in arrays[:2]]
    backward(k_bar, theta_bar, *flat, of_x, of_z, entry_x, entry_z, room, parity(dual), log_std_bar)
    for found, truth in ((k_bar, k.grad), (theta_bar, theta.grad), (log_std_bar, std_x.grad * std_x)):
        truth = truth.detach().flatten().numpy()
        np.testing.assert_allclose(found, truth, rtol=1e-7, atol=1e-8 * np.abs(truth).max())


def test_parities():
    kinds = {name: parity(dual) for name, dual in SERIES.items()}
    assert {name for name, kind in kinds.items() if kind == EVEN} == {"SiLU", "softplus", "cosine", "Gaussian"}
    assert {name for name, kind in kinds.items() if kind == ODD} == {"tanh", "sigmoid", "cube", "sine"}
    assert kinds["mish"] == kinds["shifted sine"] == kinds["exponential"] == GENERIC


def test_kinks_and_closed_forms_have_no_table():
    assert not any(map(has_series, (Series(F.elu), Series(F.hardswish, kinks=(-3.0, 3.0)), LeakyReLU())))


def test_a_polynomial_has_as_many_terms_as_its_degree_and_exact_coefficients():
    cube = HermiteTables(SERIES["cube"], single=False)
    assert all(cube.length(k) == 2 for k in (-20, -3, 0, 6))
    terms, growth, _ = cube.series([0], 2, of_x=True)
    # u³ = q^(3/2) (h_3 sqrt(6) + 3 h_1) at variance q, and e_1 = sqrt(6) a_3.
    basis = octaves.basis(torch.tensor([1.7], dtype=torch.float64), 0).numpy()
    np.testing.assert_allclose(basis @ terms[0], [[3 * 1.7**1.5, 6**0.5 * 1.7**1.5]], rtol=1e-13)
    np.testing.assert_allclose(basis @ growth[0], [[6 * 1.7**1.5, 0]], rtol=1e-13, atol=1e-13)


# The reference takes as many terms as suffice for 1e-9 of a covariance, or as it is told. A kink magnifies what is missing.
LONG = {"tanh": nl.activation(torch.tanh, degree=500), "SiLU": nl.activation(F.silu, degree=300)}


def mixed_network(tanh=torch.tanh, silu=F.silu) -> nn.Module:
    def forward(self, x):
        x = silu(self.norm(self.b(tanh(self.a(x)))))
        return self.out(F.relu(self.c(x)).mean((2, 3)))

    convolution = {name: nn.Conv2d(1 if name == "a" else 6, 6, 3, padding=1) for name in "abc"}
    norm = nn.LayerNorm((6, 3, 3), eps=1e-5, elementwise_affine=False)
    return networks.Forward(forward, **convolution, norm=norm, out=nn.Linear(6, 1))


USERS = nl.activation(lambda u: torch.sin(u) * torch.exp(-u * u / 4))
NETWORKS = {
    "tanh": ((16,), lambda: networks.dense(torch.tanh, 3)),
    "softplus": ((16,), lambda: networks.dense(F.softplus, 3)),
    "a function of a user's own": ((16,), lambda: networks.dense(USERS, 2)),
    "sine": ((16,), lambda: networks.dense(torch.sin, 2)),
    "exponential": ((16,), lambda: networks.dense(lambda u: torch.exp(-0.3 * u), 2)),
    "SiLU, flattened": (
        (1, 3, 4),
        lambda: nn.Sequential(networks.conv(1), nn.SiLU(), networks.conv(6), nn.SiLU(), nn.Flatten(), nn.Linear(72, 1)),
    ),
    "tanh, SiLU, LayerNorm and ReLU, pooled": ((1, 3, 3), mixed_network),
}
EXACT = {"tanh, SiLU, LayerNorm and ReLU, pooled": lambda: mixed_network(LONG["tanh"], LONG["SiLU"])}
"""What the reference engine is given in place of some networks."""


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_reference(name):
    shape, make = NETWORKS[name]
    fast, plain = analytic_kernel(make()), analytic_kernel(EXACT.get(name, make)(), engine="reference")
    assert "fused engine for processors runs" in fast.plan(shape)
    checks.agrees_with_the_reference(fast, plain, shape)


@pytest.mark.parametrize("name", ["tanh", "SiLU, flattened"])
def test_an_entry_is_the_same_to_the_last_bit_beside_any_other_inputs(name):
    """Other inputs need more terms, or share a block of lanes."""
    shape, make = NETWORKS[name]
    assert checks.has_the_same_bits_in_every_batch(analytic_kernel(make()), shape, 0.3, smallest=-3.0)


def test_the_memory_limit_does_not_change_a_bit():
    """Tables make inputs large, so that a small limit cuts them into parts."""
    shape, make = NETWORKS["SiLU, flattened"]
    x = torch.rand(290, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    w = torch.randn(5, 290, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    kernel, small = analytic_kernel(make()), analytic_kernel(make(), memory_limit=1_000_000)
    assert torch.equal(small(x), kernel(x))
    assert torch.equal(small(x[:40], x), kernel(x[:40], x))
    assert torch.equal(small.gradient(x[:5], x, w), kernel.gradient(x[:5], x, w))


@pytest.mark.parametrize("name", ["tanh", "SiLU, flattened"])
def test_inputs_beyond_the_series_are_computed_by_the_reference(name):
    shape, make = NETWORKS[name]
    x = torch.rand(7, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[2] *= 15
    x[5] *= 25
    w = torch.randn(7, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fast, plain = (analytic_kernel(make(), engine=engine) for engine in ("auto", "reference"))
    for first, second in ((x, None), (x[:3], x), (x[2:3], x), (x, x[:2])):
        assert worst(fast(first, second), plain(first, second)) < 1e-8
    whole = fast(x)
    assert torch.equal(whole, whole.T)
    torch.testing.assert_close(whole.diagonal(), plain.diagonal(x), rtol=1e-12, atol=0)
    torch.testing.assert_close(fast(x[2:3], x[1:3]), fast(x, x)[2:3, 1:3], rtol=1e-12, atol=0)
    for rows in (slice(0, 7), slice(2, 3), slice(0, 2)):
        assert worst(fast.gradient(x[rows], x, w[rows]), plain.gradient(x[rows], x, w[rows])) < 1e-6


def test_black_inputs_have_a_slope():
    """An input of variance 0 is a constant with the slope at 0, which torch's own biases show."""
    kernel, plain = (
        analytic_kernel(networks.dense(torch.tanh, 2), engine=engine, b_std=0.0, parametrisation="standard")
        for engine in ("auto", "reference")
    )
    x = torch.rand(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0] = 0
    assert worst(kernel(x, x), plain(x, x)) < 1e-9
    small = x.clone()
    small[0] = 1e-9
    assert worst(plain(x, x), plain(small, x)) < 1e-6


def near_pair(angle: float) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x[:1], x[:1] + angle * x[1:]


def before_a_kink(activation):
    def forward(self, x):
        return self.out(F.relu(self.b(activation(self.a(x)))))

    return networks.Forward(forward, a=nn.Linear(16, 8), b=nn.Linear(8, 8), out=nn.Linear(8, 1))


@pytest.mark.parametrize("name", ["tanh", "SiLU", "erf", "GELU"])
def test_near_pairs_in_float32_before_a_kink(name):
    """A ReLU after a smooth activation takes the angle of its input from covariances, which must have their digits."""
    activation = {"tanh": torch.tanh, "SiLU": F.silu, "erf": torch.erf, "GELU": F.gelu}[name]
    fast = analytic_kernel(before_a_kink(activation))
    plain = analytic_kernel(before_a_kink(LONG.get(name, activation)), engine="reference")
    x, z = near_pair(1e-4)
    x, z = x.float(), z.float()
    w = torch.ones(1, 1)
    exact = plain.gradient(x.double(), z.double(), w.double())
    relu, plain_relu = (analytic_kernel(networks.dense(F.relu, 2), engine=e) for e in ("auto", "reference"))
    bound = max(1e-5, 3 * worst(relu.gradient(x, z, w), plain_relu.gradient(x.double(), z.double(), w.double())))
    assert worst(fast(x, z), plain(x.double(), z.double())) < 1e-6
    assert worst(fast.gradient(x, z, w), exact) < bound
