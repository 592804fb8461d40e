import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kernels.engines.fused import programs
from kernels.networks import Forward, conv
from ntklens.kernels import analytic_kernel
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.adjoint import compile_adjoint


def count(program, op: int) -> int:
    return int((program.code[:, codes.OP] == op).sum())


@pytest.mark.parametrize("name", sorted(programs.MODULES))
def test_every_input_map_gets_its_cotangent_once(name):
    graph = programs.graph(name)
    program = compile_adjoint(graph)
    to_inputs = count(program, codes.LOAD_ADJOINT) + count(program, codes.GRAM_ADJOINT)
    assert to_inputs == len(graph.needs()[0])
    assert count(program, codes.SEED) == 1


def test_a_network_without_activations_needs_no_values():
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 1))
    program = compile_adjoint(analytic_kernel(net).graph((2, 6, 6)))
    assert count(program, codes.GRAM) == 0


def test_maps_before_a_pooling_that_an_activation_follows_are_computed_twice():
    """Once for the pooled values, which stay, and once in the sweep of their own component."""
    pooled = compile_adjoint(programs.graph("pooled"))
    assert count(pooled, codes.GRAM) == 2 * count(pooled, codes.GRAM_ADJOINT)
    flattened = compile_adjoint(programs.graph("flattened"))
    assert count(flattened, codes.GRAM) == count(flattened, codes.GRAM_ADJOINT)


def test_one_component_is_alive_at_a_time():
    """Global pooling of an image of 12 x 12: 529 chains of layers, each with a few maps of at most 144 positions."""
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    program = compile_adjoint(analytic_kernel(net).graph((1, 12, 12)))
    assert count(program, codes.GRAM_ADJOINT) == 23 * 23
    assert program.size < 8 * 12 * 12


def _shortcut(self, x):
    x = self.a(x)
    return self.out((x + self.b(self.pool(F.gelu(x)))).flatten(1))


def _strided_shortcut(self, x):
    x = F.relu(self.a(x))
    return self.out(F.relu(self.b(self.pool(x)) + self.c(x)).flatten(1))


def _two_shortcuts(self, x):
    x = self.a(x)
    x = x + self.b(self.pool(F.gelu(x)))
    return self.out(F.relu(x + self.c(self.pool(F.relu(x)))).mean((2, 3)))


AROUND = {
    "a shortcut": (_shortcut, {"pool": nn.AvgPool2d(3, 1, 1), "b": conv(6), "out": nn.Linear(216, 1)}),
    "a strided convolution": (
        _strided_shortcut,
        {"pool": nn.AvgPool2d(2), "b": conv(6), "c": nn.Conv2d(6, 6, 1, stride=2), "out": nn.Linear(54, 1)},
    ),
    "two of them, and a global pooling": (
        _two_shortcuts,
        {"pool": nn.AvgPool2d(3, 1, 1), "b": conv(6), "c": conv(6), "out": nn.Linear(6, 1)},
    ),
}


@pytest.mark.parametrize("name", AROUND)
@pytest.mark.parametrize("n", [5, 24])
def test_a_residual_connection_around_a_pooling_has_the_gradient_of_the_recursion(name, n):
    """The maps before and after the pooling then have no order of components, and are one."""
    forward, layers = AROUND[name]
    module = Forward(forward, a=conv(2), **layers)
    x = torch.rand(n, 2, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.randn(2, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    fast, plain = (analytic_kernel(module, engine=engine) for engine in ("auto", "reference"))
    gradient = plain.gradient(x[:2], x, weights)
    torch.testing.assert_close(fast.gradient(x[:2], x, weights), gradient, rtol=1e-10, atol=1e-13)
    single = fast.gradient(x[:2].float(), x.float(), weights.float())
    assert (single - gradient).abs().max() < 1e-5 * gradient.abs().max()
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-12, atol=0)
