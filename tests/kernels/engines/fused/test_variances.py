"""The compiled variances of images beside the recursion in torch, and their way back beside autograd."""

import numpy as np
import pytest
import torch
from numba import njit
from torch import nn

from kernels import networks
from kernels.engines.fused import checks
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.fused import loops, variance_steps
from ntklens.kernels.engines.fused.adjoint import compile_adjoint
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.layout import marginals_of
from ntklens.kernels.engines.fused.variances import compile_sweep
from ntklens.kernels.engines.fused.vectors import pointer


class Erf(nn.Module):
    """erf as a module."""

    def forward(self, x):
        return torch.erf(x)


def _branches(self, x):
    h = self.act(self.a(x))
    return torch.erf(self.b(h) + 0.3 * self.c(h) + self.d(h))


def _blocks(*layers):
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(5), nn.ReLU(), nn.Linear(5, 1))


C = nn.Conv2d
NETWORKS = {
    "rows longer than a vector": (
        (3, 5, 35),
        lambda: _blocks(networks.conv(3), nn.ReLU(), networks.conv(6), nn.GELU()),
    ),
    "slope": ((3, 9, 7), lambda: _blocks(networks.conv(3), nn.LeakyReLU(0.3), networks.conv(6), Erf())),
    "stride": (
        (3, 9, 8),
        lambda: _blocks(
            *(C(3, 4, 3, stride=2, padding=1), nn.ReLU()),
            *(C(4, 4, (3, 2), stride=(1, 2), padding=(0, 2)), nn.GELU()),
        ),
    ),
    "dilation": (
        (3, 9, 8),
        lambda: _blocks(
            *(C(3, 4, 3, dilation=2, padding=3), Erf()),
            *(C(4, 4, (3, 2), dilation=(2, 3), padding=(4, 7)), nn.ReLU()),
        ),
    ),
    "a window that reads little but padding": ((3, 2, 2), lambda: _blocks(C(3, 4, 3, padding=4), nn.ReLU())),
    "zeros on two sides": ((3, 6, 5), lambda: _blocks(nn.ZeroPad2d((2, 0, 0, 3)), C(3, 4, (1, 3)), nn.GELU())),
    "three branches": (
        (3, 6, 6),
        lambda: _blocks(
            networks.Forward(
                _branches, act=nn.ReLU(), a=networks.conv(3), b=networks.conv(6), c=C(6, 6, 1), d=networks.conv(6)
            )
        ),
    ),
    "a sequence": (
        (3, 19),
        lambda: _blocks(nn.Conv1d(3, 4, 5, stride=3, padding=6), nn.ReLU(), nn.Conv1d(4, 4, 2), Erf()),
    ),
}


def _kernels(name):
    shape, make = NETWORKS[name]
    module = make()
    module(torch.zeros(1, *shape))
    return [analytic_kernel(module, w_std=1.3, b_std=0.1, engine=engine) for engine in ("auto", "reference")], shape


def _inputs(shape):
    """Seven inputs, among them a bright one, a black one and a dark one."""
    x = checks.any_inputs(7, shape)
    x[2] *= 1000
    x[3] = 0
    x[4] *= 1e-5
    return x


def _pixels(graph, x):
    return recursion.positions(graph, x).flatten(2).numpy()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("compiled", [compile_graph, compile_adjoint])
def test_marginals_are_those_of_the_recursion_in_torch(name, compiled):
    (kernel, _), shape = _kernels(name)
    graph, x = kernel.graph(shape), _inputs(shape)
    program = compiled(graph)
    expected = torch.cat(marginals_of(program, recursion.variances(graph, x)), 1)
    marginals = torch.full((len(x), program.marginal_size), torch.nan, dtype=torch.float64)
    compile_sweep(graph, program.marginals).marginals(_pixels(graph, x), marginals.numpy())
    # In torch, the rule of erf takes a difference of squares, which loses digits for the bright input.
    torch.testing.assert_close(marginals, expected, rtol=2e-14, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_way_back_is_that_of_autograd(name):
    (kernel, _), shape = _kernels(name)
    graph, x = kernel.graph(shape), _inputs(shape)
    program = compile_adjoint(graph)
    bar = checks.any_weights(len(x), program.marginal_size)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(torch.cat(marginals_of(program, recursion.variances(graph, leaf)), 1), leaf, bar)
    # Cotangents are added to what is there.
    pixels_bar = torch.full(_pixels(graph, x).shape, 7.0, dtype=torch.float64)
    compile_sweep(graph, program.marginals).gradient(_pixels(graph, x), bar.numpy(), pixels_bar.numpy())
    largest = expected.flatten(1).abs().amax(1).clamp_min(1)
    errors = (pixels_bar.reshape(x.shape) - 7 - expected).flatten(1).abs().amax(1)
    assert (errors < 2e-14 * largest).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels_agree_with_the_reference_and_do_not_depend_on_the_batch(name):
    (kernel, plain), shape = _kernels(name)
    checks.agrees_with_the_reference(kernel, plain, shape)
    assert checks.has_the_same_bits_in_every_batch(kernel, shape, 1.5)


@njit
def mean_and_sums(source, lanes, sums):
    loops.add_positions(pointer(sums), pointer(lanes), len(source))
    return variance_steps._mean(pointer(source), len(source))


@pytest.mark.parametrize("n", [1, 4, 11, 112])
def test_a_mean_adds_up_in_the_order_of_covariances(n):
    """Else the rounding of a near pair's variances and of its covariance would not cancel."""
    source, sums = np.random.default_rng(0).random(n), np.zeros(LANES)
    mean = mean_and_sums(source, np.repeat(source, LANES), sums)
    assert (sums * (1.0 / n) == mean).all()


@pytest.mark.parametrize(
    "middle",
    [
        (networks.conv(3), nn.LayerNorm((6, 6, 6)), nn.ReLU()),
        (networks.conv(3), nn.Tanh()),
        (networks.conv(3), nn.Hardtanh()),
        (networks.conv(3), nn.ReLU(), nn.AvgPool2d(2), networks.conv(6), nn.ReLU()),
    ],
    ids=["layer norm", "a series", "kinks", "pooling"],
)
def test_networks_with_other_operations_keep_the_recursion_in_torch(middle):
    module = nn.Sequential(*middle, nn.Flatten(), nn.LazyLinear(1))
    module(torch.zeros(1, 3, 6, 6))
    kernel = analytic_kernel(module)
    graph = kernel.graph((3, 6, 6))
    assert compile_sweep(graph, compile_graph(graph).marginals) is None
    plain = analytic_kernel(module, engine="reference")
    checks.agrees_with_the_reference(kernel, plain, (3, 6, 6))


@pytest.mark.parametrize("side", [4, 6])
def test_a_variance_at_which_digits_are_lost_is_told(side):
    module = nn.Sequential(
        networks.conv(3), Erf(), networks.conv(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * side**2, 1)
    )
    x = 1e5 * checks.any_inputs(3, (3, side, side))
    with pytest.warns(UserWarning, match=r"expected inputs of Erf with a smaller variance"):
        k = analytic_kernel(module)(x, x)
    assert k.isfinite().all()
