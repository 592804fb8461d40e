"""Activations with a corner at zero on a row, beside integrals in closed form; networks of them; inputs beyond them."""

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
from ntklens.kernels.engines.fused import corner
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.coefficients.corner import CornerTables, has_corner
from ntklens.kernels.engines.fused.coefficients.expectations import jump
from ntklens.kernels.engines.fused.vectors import pointer
from ntklens.kernels.rules.quadrature import legendre
from ntklens.kernels.rules.series import Series


@njit
def forward(nngp, ntk, std_x, std_z, table_x, table_z, entry_x, entry_z, sharp):
    corner.corner_row(
        pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1,
        pointer(table_x), pointer(table_z), entry_x, entry_z * LANES, LANES, sharp,
    )  # fmt: skip


@njit
def backward(
    nngp_bar, ntk_bar, nngp, ntk, std_x, std_z, table_x, table_z, entry_x, entry_z, room, sharp, log_std_bar
):  # fmt: skip
    corner.corner_row_adjoint(
        pointer(nngp_bar), pointer(ntk_bar), pointer(nngp), pointer(ntk), pointer(std_x), pointer(std_z), WIDTH, 1,
        pointer(table_x), pointer(table_z), entry_x, entry_z * LANES, LANES, room, sharp, pointer(log_std_bar),
    )  # fmt: skip


SCALE, ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
ELU_LIKE = {"ELU": (F.elu, 1.0, 1.0), "SELU": (F.selu, SCALE, ALPHA), "CELU": (F.celu, 1.0, 1.0)}
"""The function, and a and b in φ(u) = a u for u > 0, a b (exp(u) - 1) else."""


class EluLike:
    """The two expectations by one integral, over z with u = s z; that over v is in closed form."""

    def __init__(self, scale, alpha):
        self.scale, self.alpha = scale, alpha
        x, w = legendre(400)
        self.z = torch.cat([-12 * x.flip(0) ** 3, 12 * x**3])
        weights = 36 * x * x * w
        self.weights = torch.cat([weights.flip(0), weights]) * torch.exp(-(self.z**2) / 2) / math.sqrt(2 * math.pi)

    def nngp(self, k, q, p):
        return self._integral(k, q, p, lambda u: self.scale * torch.where(u > 0, u, self.alpha * torch.expm1(u)), 0)

    def derivative(self, k, q, p):
        return self._integral(k, q, p, lambda u: self.scale * torch.where(u > 0, 1, self.alpha * torch.exp(u)), 1)

    def _integral(self, k, q, p, function, order):
        u = q.sqrt()[..., None] * self.z
        mean = (k / q)[..., None] * u
        # The variance of v beside u, of which near pairs leave little.
        rest = ((p.sqrt() - k / q.sqrt()) * (p.sqrt() + k / q.sqrt()))[..., None].clamp(min=1e-30)
        std = rest.sqrt()
        below, above = torch.special.ndtr(-mean / std), torch.special.ndtr(mean / std)
        tilted = torch.exp(mean + rest / 2) * torch.special.ndtr(-(mean + rest) / std)
        if order:
            inner = above + self.alpha * tilted
        else:
            density = torch.exp(-((mean / std) ** 2) / 2) / math.sqrt(2 * math.pi)
            inner = mean * above + std * density + self.alpha * (tilted - below)
        return (function(u) * self.scale * inner * self.weights).sum(-1)


def corner_row(largest, nearest):
    """A row with pairs from 0.3 to an angle apart, beside pairs at any angle."""
    k, theta, std_x, std_z = row(largest)
    angles = np.geomspace(0.3, nearest, 6)
    std_z[0, 2:8] = std_x[0]
    k[:, 2:8] = np.cos(angles) * std_x[:, None] * std_z[:, 2:8]
    return k, theta, std_x, std_z


@pytest.mark.parametrize(("single", "bound"), [(False, 1e-12), (True, 1e-7)])
@pytest.mark.parametrize("name", ELU_LIKE)
def test_a_row_is_the_expectations(name, single, bound):
    function, *numbers = ELU_LIKE[name]
    dual = Series(function)
    assert has_corner(dual)
    k, theta, std_x, std_z = corner_row(2.5, 1e-5)
    k[:, 0] *= 1 - 1e-9  # the integral has no value at a cosine of 1
    expected = expectations(EluLike(*numbers), *map(torch.from_numpy, (k, theta, std_x, std_z)))
    _, (of_x, entry_x), (of_z, entry_z) = both_tables(CornerTables(dual, single), std_x, std_z)
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, std_x, std_z, of_x, of_z, entry_x, entry_z, jump(dual) != 0)
    for found, truth in zip((flat_k, flat_theta), expected, strict=True):
        np.testing.assert_allclose(found, truth.flatten(), rtol=bound, atol=bound * float(truth.abs().max()))


@pytest.mark.parametrize(("single", "bound"), [(False, 1e-8), (True, 1e-6)])
@pytest.mark.parametrize("name", ["ELU", "SELU"])
def test_the_way_back_is_autograds(name, single, bound):
    function, *numbers = ELU_LIKE[name]
    dual = Series(function)
    arrays = corner_row(2.5, 1e-3)
    arrays[0][:, 0] *= 0.9
    k, theta, std_x, std_z = (torch.from_numpy(a).requires_grad_() for a in arrays)
    bars = np.random.default_rng(1).standard_normal((2, WIDTH, LANES))
    new_k, new_theta = expectations(EluLike(*numbers), k, theta, std_x, std_z)
    (new_k * torch.from_numpy(bars[0]) + new_theta * torch.from_numpy(bars[1])).sum().backward()
    room, (of_x, entry_x), (of_z, entry_z) = both_tables(CornerTables(dual, single), *arrays[2:], grows=True)
    k_bar, theta_bar, log_std_bar = bars[0].reshape(-1).copy(), bars[1].reshape(-1).copy(), np.zeros(WIDTH)
    flat = [a.reshape(-1).copy() for a in arrays[:2]]
    backward(
        k_bar, theta_bar, *flat, *arrays[2:], of_x, of_z, entry_x, entry_z, room, jump(dual) != 0, log_std_bar
    )  # fmt: skip
    for found, truth in ((k_bar, k.grad), (theta_bar, theta.grad), (log_std_bar, std_x.grad * std_x)):
        truth = truth.detach().flatten().numpy()
        np.testing.assert_allclose(found, truth, rtol=bound, atol=bound * np.abs(truth).max())


def test_a_row_of_softsign_is_the_expectations_of_the_reference():
    dual = Series(F.softsign)
    k, theta, std_x, std_z = row(2.5)
    k[0, 2] = std_z[0, 2] = 0.0  # an input of variance 0
    expected = expectations(dual, *map(torch.from_numpy, (k, theta, std_x, std_z)))
    _, (of_x, entry_x), (of_z, entry_z) = both_tables(CornerTables(dual, False), std_x, std_z)
    flat_k, flat_theta = k.reshape(-1).copy(), theta.reshape(-1).copy()
    forward(flat_k, flat_theta, std_x, std_z, of_x, of_z, entry_x, entry_z, jump(dual) != 0)
    for found, truth in zip((flat_k, flat_theta), expected, strict=True):
        np.testing.assert_allclose(found, truth.flatten(), rtol=1e-8, atol=1e-9 * float(truth.abs().max()))


def test_which_activations_have_a_corner():
    assert all(map(has_corner, map(Series, (F.elu, F.selu, F.softsign, lambda u: F.relu(u) ** 2))))
    rough = Series(lambda u: u.abs() ** 1.5)
    assert not any(map(has_corner, (Series(torch.tanh), Series(F.hardswish, kinks=(-3.0, 3.0)), rough)))
    assert jump(Series(F.elu)) == jump(Series(F.softsign)) == 0
    assert jump(Series(F.selu)) == pytest.approx(SCALE - SCALE * ALPHA, rel=1e-12)


def mixed_network() -> nn.Module:
    def forward(self, x):
        x = F.selu(self.norm(self.b(F.elu(self.a(x)))))
        return self.out(F.relu(self.c(x)).mean((2, 3)))

    convolution = {name: nn.Conv2d(1 if name == "a" else 6, 6, 3, padding=1) for name in "abc"}
    norm = nn.LayerNorm((6, 3, 3), eps=1e-5, elementwise_affine=False)
    return networks.Forward(forward, **convolution, norm=norm, out=nn.Linear(6, 1))


USERS = nl.activation(lambda u: torch.where(u > 0, torch.log1p(u.clamp(min=0)), 0.3 * u))
NETWORKS = {
    "ELU": ((16,), lambda: networks.dense(F.elu, 3)),
    "SELU": ((16,), lambda: networks.dense(F.selu, 3)),
    "a function of a user's own": ((16,), lambda: networks.dense(USERS, 2)),
    "SELU, flattened": (
        (1, 3, 4),
        lambda: nn.Sequential(networks.conv(1), nn.SELU(), networks.conv(6), nn.SELU(), nn.Flatten(), nn.Linear(72, 1)),
    ),
    "ELU, SELU, LayerNorm and ReLU, pooled": ((1, 3, 3), mixed_network),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_agree_with_the_reference(name):
    shape, make = NETWORKS[name]
    fast, plain = (analytic_kernel(make(), engine=engine) for engine in ("auto", "reference"))
    # At a sharp corner the reference's covariances, good to 1e-9, leave less of the gradient of an input beside itself.
    away = checks.any_weights(3, 9)
    away[:, :3].fill_diagonal_(0)
    assert "fused engine for processors runs" in fast.plan(shape)
    checks.agrees_with_the_reference(fast, plain, shape, away=away)


@pytest.mark.parametrize("name", ["ELU", "SELU, flattened"])
def test_an_entry_is_the_same_to_the_last_bit_beside_any_other_inputs(name):
    """Other inputs need more terms, or share a block of lanes."""
    shape, make = NETWORKS[name]
    assert checks.has_the_same_bits_in_every_batch(analytic_kernel(make()), shape, 0.3, smallest=-3.0)


def test_inputs_beyond_the_series_are_computed_by_the_reference():
    x = torch.rand(7, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    x[2] *= 15
    x[5] *= 25
    w = torch.randn(7, 7, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    fast, plain = (analytic_kernel(networks.dense(F.elu, 2), engine=engine) for engine in ("auto", "reference"))
    for first, second in ((x, None), (x[:3], x), (x[2:3], x), (x, x[:2])):
        assert worst(fast(first, second), plain(first, second)) < 1e-8
    for rows in (slice(0, 7), slice(2, 3), slice(0, 2)):
        assert worst(fast.gradient(x[rows], x, w[rows]), plain.gradient(x[rows], x, w[rows])) < 1e-6


def test_black_inputs():
    """An input of variance 0 is a constant with torch's slope at 0, which torch's own biases show."""
    kernel, plain = (
        analytic_kernel(networks.dense(F.selu, 2), engine=engine, b_std=0.0, parametrisation="standard")
        for engine in ("auto", "reference")
    )
    x = torch.rand(3, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[0] = 0
    w = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).fill_diagonal_(0)
    assert worst(kernel(x, x), plain(x, x)) < 1e-9
    assert worst(kernel.gradient(x[1:], x, w[1:]), plain.gradient(x[1:], x, w[1:])) < 1e-8


@pytest.mark.parametrize("name", ["ELU", "SELU"])
def test_near_pairs_in_float32(name):
    """A corner takes the angle of its input from covariances, which must have their digits."""
    fast, plain = (
        analytic_kernel(networks.dense({"ELU": F.elu, "SELU": F.selu}[name], 3), engine=e)
        for e in ("auto", "reference")
    )
    x = torch.rand(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, z, w = x[:1].float(), (x[:1] + 1e-4 * x[1:]).float(), torch.ones(1, 1)
    double = x.double(), z.double(), w.double()
    assert worst(fast(x, z), plain(*double[:2])) < 1e-6
    assert worst(fast.gradient(x, z, w), fast.gradient(*double)) < 1e-6
    # At a sharp corner the reference's covariances, good to 1e-9, leave less of the gradient.
    assert worst(fast.gradient(x, z, w), plain.gradient(*double)) < {"ELU": 1e-6, "SELU": 1e-3}[name]
