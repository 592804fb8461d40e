"""Networks of many kinds against the peer's values and, where it has no rule, against draws of finite networks."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels import networks
from ntklens.errors import InputError
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.rules import duals

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def peer():
    with np.load(GOLDEN / "peer" / "networks.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def worst(value, truth):
    return float((value.double() - truth).abs().max() / truth.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("engine", ["auto", "reference"])
@pytest.mark.parametrize("name", networks.PEER)
def test_peer(peer, name, engine, dtype, tolerance):
    kernel = analytic_kernel(networks.PEER[name](), engine=engine)
    x1, x2, weights = (peer[f"{name}/{k}"].to(dtype) for k in ("x1", "x2", "w"))
    nngp, ntk = kernel(x1, x2, ("nngp", "ntk"))
    assert worst(nngp, peer[f"{name}/nngp"]) < tolerance
    assert worst(ntk, peer[f"{name}/ntk"]) < tolerance
    assert worst(kernel.gradient(x1, x2, weights), peer[f"{name}/grad"]) < tolerance


def images(*shape: int):
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", networks.DRAWN)
def test_draws(name):
    """16 networks of width 128, one fixed seed; z-scores of the mean below 4.5 for the six values."""
    shape, make = networks.DRAWN[name]
    kernel, x = analytic_kernel(make()), images(*shape)
    drawn = kernel.monte_carlo(x, width=128, draws=16)
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    assert float((drawn.mean - truth).norm() / truth.norm()) < 0.2


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


SMOOTH = [torch.tanh, torch.sigmoid, F.silu, F.softplus, F.mish, F.elu, F.selu, F.softsign, F.hardswish]
HARD = [F.relu6, F.hardtanh, F.hardsigmoid]


@pytest.mark.parametrize("function", [*SMOOTH, *HARD, torch.exp, lambda u: F.gelu(u, approximate="tanh")])
def test_activations_by_two_dimensional_quadrature(function):
    """E[φ(u) φ(v)] on a grid of 2,401² points; kinks cost the grid, not the rule, its last digits."""
    net = networks.dense(function)
    x = images(1, 4, 4)[:2] * 2
    a = 2 * x.flatten(1) @ x.flatten(1).T / 16 + 0.01
    (q1, k), (_, q2) = a.tolist()
    z = torch.linspace(-9, 9, 2401, dtype=torch.float64)
    w = torch.exp(-z * z / 2) / (2 * torch.pi) ** 0.5 * (z[1] - z[0])
    c = k / (q1 * q2) ** 0.5
    u, v = q1**0.5 * z, q2**0.5 * (c * z[:, None] + (1 - c * c) ** 0.5 * z)
    expected = 2 * float((w[:, None] * w * function(u)[:, None] * function(v)).sum()) + 0.01
    assert analytic_kernel(net)(x, kind="nngp")[0, 1].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("function", [*SMOOTH, *HARD])
def test_gradients_of_activations_are_finite_at_coincident_pairs(function):
    kernel, x = analytic_kernel(networks.dense(function, 2)), images(1, 4, 4)
    assert torch.isfinite(kernel.gradient(x, x, torch.ones(3, 3, dtype=x.dtype))).all()


def test_an_activation_of_ones_own_with_and_without_its_closed_form():
    x = images(1, 4, 4)
    series = analytic_kernel(networks.dense(activation(lambda u: torch.exp(-u * u), degree=200)))
    closed = analytic_kernel(networks.dense(activation(lambda u: torch.exp(-u * u), duals.Gaussian())))
    torch.testing.assert_close(series(x), closed(x), rtol=1e-9, atol=0)


def test_batch_norm_at_initialisation_is_a_constant_and_after_training_refused():
    x = images(1, 5, 5)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, eps=1.0), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    plain = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36, 1))
    half = analytic_kernel(plain, b_std=0.0)(x) / 2
    torch.testing.assert_close(analytic_kernel(net, b_std=0.0)(x), half, rtol=1e-12, atol=0)
    net.train()
    net(x.float())
    with pytest.raises(Exception, match="statistics differ between the channels"):
        analytic_kernel(net)


def test_standard_parameterisation_is_the_mean_kernel_at_the_modules_own_width():
    net = networks.dense(F.relu, 2)
    x = images(1, 4, 4)
    kernel = analytic_kernel(net, parametrisation="standard")
    drawn = kernel.monte_carlo(x, width=8, draws=300)  # 8 is the module's own width
    truth = kernel(x)
    assert float(((drawn.mean - truth) / drawn.standard_error).abs().max()) < 4.5
    wide = analytic_kernel(networks.dense(F.relu, 2))(x)
    assert truth.mean() > 5 * wide.mean()


def test_standard_deviations_in_the_order_of_the_layers():
    x, net = images(1, 4, 4), networks.dense(F.relu)
    torch.testing.assert_close(
        analytic_kernel(net, [1.0, 2.0], [0.0, 0.1])(x),
        analytic_kernel(net, {"h0": 1.0, "out": 2.0}, {"h0": 0.0, "out": 0.1})(x),
    )
    with pytest.raises(InputError, match="one value for each of the 2 layers"):
        analytic_kernel(net, [1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", ["fc20", "resnet_pool", "avgpool_overlap", "erf_conv_gap"])
def test_an_entry_is_the_same_to_the_last_bit_in_every_batch(peer, name):
    x = torch.cat([peer[f"{name}/x1"], peer[f"{name}/x2"]])
    kernel = analytic_kernel(networks.PEER[name]())
    small = analytic_kernel(networks.PEER[name](), memory_limit=1_000_000)
    k = kernel(x, x)
    assert torch.equal(small(x, x), k)
    assert torch.equal(kernel(x[1:2], x[2:4]), k[1:2, 2:4])
    assert torch.equal(small(x), kernel(x))


def test_a_width_written_into_the_forward_is_said():
    net = networks.Forward(
        lambda s, x: s.b(F.relu(s.a(x.flatten(1))).view(-1, 8)), a=nn.Linear(16, 8), b=nn.Linear(8, 1)
    )
    with pytest.raises(InputError, match="a width is written into its forward"):
        analytic_kernel(net).monte_carlo(images(1, 4, 4), width=20, draws=2)
