"""Closed forms and laws of the analytic kernel."""

import math

import pytest
import torch
from torch import Tensor, nn

from kernels import networks
from ntklens.errors import InputError
from ntklens.kernels import activation, analytic_kernel

DTYPE = torch.float64


def images(n: int, shape=(2, 6, 5), seed: int = 0) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def mlp(depth: int = 1, bias: bool = True) -> nn.Module:
    hidden = [layer for _ in range(depth - 1) for layer in (nn.Linear(8, 8, bias=bias), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), nn.Linear(60, 8, bias=bias), nn.ReLU(), *hidden, nn.Linear(8, 3, bias=bias))


def flat_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 1),
    )


def pooled_conv() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, (3, 1), padding="same"),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 1),
    )


NETS = {"mlp": mlp, "flat conv": flat_conv, "pooled conv": pooled_conv}


@pytest.fixture(params=NETS)
def kernel(request):
    return analytic_kernel(NETS[request.param]())


def test_one_hidden_layer_in_closed_form():
    x, z = images(4), images(3, seed=1)
    a, b = x.flatten(1), z.flatten(1)
    w, v = 1.3**2, 0.2**2
    k = w * a @ b.T / 60 + v
    qa, qb = w * (a * a).mean(1) + v, w * (b * b).mean(1) + v
    scale = (qa[:, None] * qb).sqrt()
    theta = torch.arccos(k / scale)
    relu = scale * (theta.sin() + (math.pi - theta) * theta.cos()) / (2 * math.pi)
    expected = w * relu + v + w * k * (math.pi - theta) / (2 * math.pi)
    kernel = analytic_kernel(mlp(), w_std=1.3, b_std=0.2)
    torch.testing.assert_close(kernel(x, z), expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(kernel(x, z, "nngp"), w * relu + v, rtol=1e-13, atol=0)


@pytest.mark.parametrize("depth", [1, 3, 10])
def test_diagonal_of_relu_networks_in_closed_form(depth):
    x = images(5)
    q = 2 * x.flatten(1).square().mean(1) + 0.01
    theta = q.clone()
    for _ in range(depth):
        q = q + 0.01
        theta = q + theta
    kernel = analytic_kernel(mlp(depth))
    torch.testing.assert_close(kernel.diagonal(x), theta, rtol=1e-14, atol=0)
    torch.testing.assert_close(kernel(x).diagonal(), theta, rtol=1e-14, atol=0)


def test_without_bias_the_kernel_is_homogeneous():
    kernel, x = analytic_kernel(mlp(3, bias=False)), images(4)
    torch.testing.assert_close(kernel(3 * x, 0.5 * x), 1.5 * kernel(x, x), rtol=1e-12, atol=0)


def test_bias_counts_only_where_a_layer_has_one():
    x = images(4)
    assert torch.equal(analytic_kernel(mlp(2, bias=False), b_std=0.7)(x), analytic_kernel(mlp(2), b_std=0.0)(x))


def test_symmetric_exactly_and_positive_semidefinite(kernel):
    k = kernel(images(7))
    assert torch.equal(k, k.T)
    assert torch.linalg.eigvalsh(k).min() > -1e-12 * k.abs().max()


def test_a_batch_with_itself_agrees_with_two_batches(kernel):
    x = images(6)
    torch.testing.assert_close(kernel(x), kernel(x, x), rtol=1e-13, atol=0)


def test_rows_do_not_depend_on_the_batch(kernel):
    x, z = images(5), images(4, seed=1)
    rows = torch.cat([kernel(row[None], z) for row in x])
    torch.testing.assert_close(rows, kernel(x, z), rtol=1e-14, atol=0)


def test_memory_limit_does_not_change_the_result():
    x, z, w = images(9), images(5, seed=1), torch.ones(9, 5, dtype=DTYPE)
    large, small = analytic_kernel(pooled_conv()), analytic_kernel(pooled_conv(), memory_limit=2_000_000)
    torch.testing.assert_close(small(x, z), large(x, z), rtol=1e-13, atol=0)
    torch.testing.assert_close(small(x), large(x), rtol=1e-13, atol=0)
    torch.testing.assert_close(small.gradient(x, z, w), large.gradient(x, z, w), rtol=1e-11, atol=1e-14)


def test_memory_limit_does_not_change_a_bit():
    """More inputs than the least limit lays out at a time."""
    layers = [nn.Conv2d(1, 4, 2), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(16, 1)]
    large, small = (analytic_kernel(nn.Sequential(*layers), memory_limit=m) for m in (1 << 30, 1))
    x = images(1100, (1, 4, 4))
    w = torch.rand(len(x), 3, generator=torch.Generator().manual_seed(1), dtype=DTYPE).T.contiguous()
    assert torch.equal(small(x), large(x))
    assert torch.equal(small(x, x[:3]), large(x, x[:3]))
    assert torch.equal(small.gradient(x[:3], x, w), large.gradient(x[:3], x, w))


@pytest.mark.parametrize("engine", ["auto", "reference"])
def test_two_threads_and_one_give_the_same_bits(engine):
    x = images(40)
    kernel, w = analytic_kernel(pooled_conv(), engine=engine), torch.ones(40, 40, dtype=DTYPE)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = kernel(x), kernel.gradient(x, x, w)
        torch.set_num_threads(2)
        two = kernel(x), kernel.gradient(x, x, w)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one[0], two[0])
    if engine == "auto":
        assert torch.equal(one[1], two[1])


def test_an_engine_that_there_is_not(untyped):
    with pytest.raises(InputError, match='expected engine="auto" or "reference"'):
        analytic_kernel(mlp(), engine="fast")


def test_progress_ends_at_one(kernel):
    seen: list[float] = []
    kernel(images(6), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("kind", ["ntk", "nngp"])
def test_gradient_against_finite_differences(kernel, kind):
    x, z = images(2), images(3, seed=1)
    weights = images(2, (3,), seed=2) - 0.5
    g = kernel.gradient(x, z, weights, kind)
    direction = images(2, seed=3) - 0.5
    h = 1e-5
    ahead, behind = ((kernel(x + s * direction, z, kind) * weights).sum() for s in (h, -h))
    torch.testing.assert_close((g * direction).sum(), (ahead - behind) / (2 * h), rtol=1e-7, atol=1e-9)


def test_gradient_is_finite_at_coincident_pairs_and_vanishing_inputs(kernel):
    x = images(3)
    x[1] = 0
    x[2, :, :3] = 0
    g = kernel.gradient(x, x, torch.ones(3, 3, dtype=DTYPE))
    assert torch.isfinite(g).all()


def test_gradient_at_a_training_point_is_the_radial_part():
    """Without bias Θ(x, x) = c |x|², and at z = x the derivative in x alone is half of it: c x."""
    kernel, x = analytic_kernel(mlp(2, bias=False)), images(1)
    c = kernel(x)[0, 0] / x.square().sum()
    torch.testing.assert_close(kernel.gradient(x, x, torch.ones(1, 1, dtype=DTYPE)), c * x, rtol=1e-12, atol=0)


@pytest.mark.parametrize("distance", [1e-1, 1e-2, 1e-3, 1e-4])
def test_float32_gradient_keeps_near_pairs(distance):
    kernel = analytic_kernel(mlp(3))
    x = images(4).float()
    z = x + distance * (images(4, seed=1).float() - 0.5)
    w = torch.eye(4)
    truth = kernel.gradient(x.double(), z.double(), w.double())
    error = (kernel.gradient(x, z, w).double() - truth).norm() / truth.norm()
    assert error < 1e-6


def test_the_module_and_its_mode_are_left_alone():
    net = mlp()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    analytic_kernel(net)(images(2))
    assert net.training
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((images(2), images(2, (2, 5, 5))), "expected x1 and x2 of one shape"),
        ((images(2).int(),), "expected x1 as floating-point pixels"),
        ((images(2), None, "cntk"), "expected kind="),
        ((images(2, (3, 6, 5)),), "does not accept inputs of shape"),
    ],
)
def test_inputs_that_do_not_fit(arguments, message):
    with pytest.raises(InputError, match=message):
        analytic_kernel(flat_conv_of_known_size())(*arguments)


def flat_conv_of_known_size() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(120, 1))


def test_weights_that_do_not_fit():
    with pytest.raises(InputError, match="expected weights of shape"):
        analytic_kernel(mlp()).gradient(images(2), images(3), torch.ones(3, 2, dtype=DTYPE))


def test_the_plan_names_the_engine_and_what_it_lacks():
    assert analytic_kernel(mlp()).plan((2, 6, 5)).startswith("The fused engine for processors runs this network")
    assert 'engine="reference"' in analytic_kernel(mlp(), engine="reference").plan((2, 6, 5))
    shifted = networks.dense(activation(lambda u: torch.tanh(u - 1).abs(), kinks=(1.0,)), 2)
    plan = analytic_kernel(shifted).plan((16,))
    assert plan.endswith("series of degree 128, whose kinks make its Hermite series long.")
    assert plan.count("series of degree") == 1
    smooth_tail = "So does it for inputs at whose variances an activation's series is too long."
    assert analytic_kernel(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))).plan((4,)).endswith(smooth_tail)
    assert "on meta" in analytic_kernel(shifted).plan((16,), "meta")


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 1)), "conv"])
def test_vjp_of_empty_batches(net):
    if net == "conv":
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(16, 1))
    shape = (6,) if isinstance(net[0], nn.Linear) else (1, 4, 4)
    kernel, x = analytic_kernel(net), torch.rand(3, *shape)
    for x1, x2 in ((x[:0], x), (x, x[:0]), (x[:0], x[:0])):
        matrix, pullback = kernel.vjp(x1, x2)
        assert matrix.shape == (len(x1), len(x2))
        assert torch.equal(pullback(torch.ones(len(x1), len(x2))), torch.zeros_like(x1))
    _, pullback = kernel.vjp(x, x)
    assert pullback(torch.ones(0, 3), rows=torch.zeros(0, dtype=torch.long)).shape == (0, *shape)
