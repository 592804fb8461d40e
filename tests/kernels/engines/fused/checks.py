"""What the tests of several activations ask of their networks."""

import torch
from torch import nn

from kernels import networks
from kernels.engines.fused.rows import worst
from ntklens.kernels import analytic_kernel

KINDS = ("nngp", "ntk")


def dense(*functions):
    """A dense network for inputs of 16 numbers, with these activations."""
    layers = [nn.Linear(16 if i == 0 else 8, 8) for i in range(len(functions))]

    def forward(self, x):
        for i, function in enumerate(functions):
            x = function(self._modules[f"layer{i}"](x))
        return self.out(x)

    return networks.Forward(forward, **{f"layer{i}": layer for i, layer in enumerate(layers)}, out=nn.Linear(8, 1))


def any_inputs(n, shape, *, dtype=torch.float64, sizes=None):
    """Inputs (n, *shape), of these sizes."""
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return (x if sizes is None else x * sizes.reshape(-1, *[1] * len(shape))).to(dtype)


def any_weights(*shape, dtype=torch.float64):
    """Cotangents of a kernel."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(4), dtype=dtype)


def special_inputs(shape):
    """Nine images, among them a black one, a near pair and an opposite one."""
    x = 3 * any_inputs(9, shape)
    x[4] = 0
    x[6] = x[5] + 1e-4 * x[7]
    x[8] = -x[7]
    return x.float().double()


def agrees_with_the_reference(fast, plain, shape, *, away=None):
    """Ask for values and gradients of any inputs, in float64 and float32.

    `away` are the weights of the gradient in float64 in place of any.
    """
    x, w = any_inputs(9, shape), any_weights(3, 9)
    truth, gradient = plain(x[:3], x, KINDS), plain.gradient(x[:3], x, w)
    for value, single, exact in zip(fast(x[:3], x, KINDS), fast(x[:3].float(), x.float(), KINDS), truth, strict=True):
        assert worst(value, exact) < 1e-9
        assert worst(single, exact) < 1e-6
    whole = fast(x)
    assert torch.equal(whole, whole.T)
    assert worst(whole, plain(x)) < 1e-9
    own = gradient if away is None else plain.gradient(x[:3], x, away)
    assert worst(fast.gradient(x[:3], x, w if away is None else away), own) < 1e-8
    assert worst(fast.gradient(x[:3].float(), x.float(), w.float()), gradient) < 1e-5


def agrees_at_special_inputs(fast, plain, shape):
    """Ask for values and gradients of black, near and opposite inputs, in float64 and float32."""
    x, rows, w = special_inputs(shape), torch.tensor([4, 5, 7]), any_weights(3, 9)
    truth, gradient = plain(x[rows], x, KINDS), plain.gradient(x[rows], x, w)
    single = fast(x[rows].float(), x.float(), KINDS)
    # The NTK of a near pair has half the digits that its gap lacks.
    for value, rounded, exact, bound in zip(fast(x[rows], x, KINDS), single, truth, (1e-13, 1e-11), strict=True):
        assert worst(value, exact) < bound
        assert worst(rounded, exact) < 1e-6
    whole = fast(x)
    assert torch.equal(whole, whole.T)
    assert worst(whole, plain(x)) < 1e-11
    assert worst(fast.gradient(x[rows], x, w), gradient) < 1e-8
    assert worst(fast.gradient(x[rows].float(), x.float(), w.float()), gradient) < 2e-6


def has_the_same_bits_in_every_batch(kernel, shape, largest, *, smallest=-2.0, dtype=torch.float64):
    """Whether values and gradients are the same beside other inputs, whose sizes are powers of ten."""
    x = any_inputs(23, shape, dtype=dtype, sizes=torch.logspace(smallest, largest, 23, dtype=torch.float64))
    w = any_weights(23, 23, dtype=dtype)
    together = kernel(x, x)
    return (
        torch.equal(kernel(x[3:4], x[5:7]), together[3:4, 5:7])
        and torch.equal(kernel(x[20:], x[:2]), together[20:, :2])
        and torch.equal(kernel.gradient(x[3:5], x, w[3:5]), kernel.gradient(x, x, w)[3:5])
    )


def errors_in_a_near_pair(function, size):
    """The errors in float32, at |x - z| = 1e-4, of a value and of a gradient."""
    x = torch.rand(2, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x, z = size * x[:1].float(), (size * x[:1] + 1e-4 * x[1:]).float()
    fast, plain = (analytic_kernel(dense(*[function] * 3), engine=e) for e in ("auto", "reference"))
    truth, w = (x.double(), z.double()), torch.ones(1, 1)
    of_value = worst(fast(x, z), plain(*truth))
    return of_value, worst(fast.gradient(x, z, w), plain.gradient(*truth, w.double()))
