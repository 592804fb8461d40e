"""The handlers of activations: their expectations by quadrature, finite gradients, and activations of one's own."""

import pytest
import torch
import torch.nn.functional as F

from kernels import networks
from ntklens.errors import UnsupportedLayer
from ntklens.kernels import activation, analytic_kernel
from ntklens.kernels.rules import duals
from ntklens.kernels.tracing import trace


def images(*shape: int):
    return torch.rand(3, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


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


def test_an_activation_of_ones_own_is_known_without_a_table_that_grows():
    before = len(trace.HANDLERS)
    functions = [activation(torch.tanh, duals.Erf()) for _ in range(3)]
    x = images(1, 4, 4)
    values = [analytic_kernel(networks.dense(function))(x) for function in functions]
    assert torch.equal(values[0], values[2])
    torch.testing.assert_close(values[0], analytic_kernel(networks.dense(torch.erf))(x))
    assert len(trace.HANDLERS) == before


def test_an_activation_of_ones_own_is_refused_by_its_name_where_its_input_is_not_gaussian():
    def bump(u):
        return torch.exp(-u * u)

    twice = activation(bump)
    with pytest.raises(UnsupportedLayer, match="the activation bump: it must follow a layer with weights"):
        analytic_kernel(networks.dense(lambda u: twice(twice(u))))


@pytest.mark.parametrize(
    ("function", "same"),
    [
        (lambda u: F.hardtanh(u, 0.0, 6.0), F.relu6),
        (lambda u: F.leaky_relu(u, 0.0), F.relu),
        (lambda u: F.leaky_relu(u, -1.0), torch.abs),
        (lambda u: F.elu(u, alpha=1.0), F.celu),
        (lambda u: u**2, torch.square),
    ],
)
def test_arguments_of_an_activation_count(function, same):
    x = images(1, 4, 4)
    torch.testing.assert_close(analytic_kernel(networks.dense(function))(x), analytic_kernel(networks.dense(same))(x))


def test_prelu_with_several_slopes_is_refused():
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.PReLU(3), torch.nn.Linear(3, 1))
    analytic_kernel(net)
    with torch.no_grad():
        net[1].weight[0] = 0.5
    with pytest.raises(UnsupportedLayer, match="its slopes differ between the channels"):
        analytic_kernel(net)
