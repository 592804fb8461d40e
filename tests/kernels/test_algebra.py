"""Sums, multiples and products of kernels: each by its formula, in values, gradients, priors, machines and files."""

import numpy as np
import pytest
import torch
from torch import nn

import ntklens as nl
from ntklens.errors import InputError
from ntklens.kernels import Kernel
from ntklens.kernels.description import describe_kernel, kernel_from

NET = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
NTK = nl.analytic_kernel(NET)
RBF = nl.RBFKernel(0.7)
COMBINED = {
    "sum": (NTK + RBF, lambda x, z: NTK(x, z) + RBF(x, z)),
    "multiple": (2.5 * NTK, lambda x, z: 2.5 * NTK(x, z)),
    "product": (NTK * RBF, lambda x, z: NTK(x, z) * RBF(x, z)),
    "nested": (NTK * (RBF + 0.5 * nl.LinearKernel()), lambda x, z: NTK(x, z) * (RBF(x, z) + x @ z.T / 10)),
}


def inputs(n, seed):
    return torch.rand(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=COMBINED)
def combined(request):
    return COMBINED[request.param]


def test_values_follow_the_formula(combined):
    kernel, formula = combined
    x, z = inputs(6, 0), inputs(4, 1)
    assert torch.allclose(kernel(x, z), formula(x, z), rtol=1e-12)
    assert torch.allclose(kernel.between(x, z), formula(x, z), rtol=1e-12)
    own = kernel(x)
    assert torch.equal(own, own.T)
    assert torch.equal(kernel.gram(x), own)
    assert torch.allclose(kernel.diagonal(x), own.diagonal(), rtol=1e-12)
    assert kernel(x.float(), z.float()).dtype == torch.float32
    told = []
    kernel.gram(x, told.append)
    assert told[-1] == 1


def test_gradients_are_those_of_autograd(combined):
    kernel, formula = combined
    x, z = inputs(6, 0).requires_grad_(), inputs(4, 1)
    w = inputs(6, 2)[:, :4]
    (expected,) = torch.autograd.grad((w * formula(x, z)).sum(), x)
    assert torch.allclose(kernel.gradient(x.detach(), z, w), expected, rtol=1e-10)
    (differentiated,) = torch.autograd.grad((w * kernel(x, z)).sum(), x)
    assert torch.allclose(differentiated, expected, rtol=1e-10)
    rows = torch.tensor([4, 1])
    matrix, pull = kernel.vjp(x.detach(), z)
    assert torch.allclose(matrix, formula(x, z), rtol=1e-12)
    assert torch.allclose(pull(w[rows], rows), expected[rows], rtol=1e-10)
    with pytest.raises(InputError, match="expected weights of shape"):
        kernel.gradient(x.detach(), z, w[:3])


def test_a_machine_fits_is_attacked_and_saved(combined, tmp_path):
    kernel, _ = combined
    x, y = inputs(12, 0), torch.arange(12) % 2
    machine = nl.KernelMachine(kernel, nl.Ridge(1e-3)).fit(x, y)
    assert not torch.equal(nl.fgsm(machine, x, y, eps=0.1), x)
    machine.save(tmp_path / "machine.safetensors")
    loaded = nl.KernelMachine.load(tmp_path / "machine.safetensors")
    assert torch.equal(loaded(x), machine(x))
    assert loaded.kernel.identity() == kernel.identity()


def test_the_prior_of_a_sum_is_that_of_the_networks_whose_outputs_are_added():
    x = inputs(4, 0)
    prior = (2 * NTK + RBF).prior
    assert torch.allclose(prior(x), 2 * NTK(x, kind="nngp") + RBF(x))
    product = NTK.prior * RBF
    assert product.prior is product
    with pytest.raises(InputError, match="which is the tangent kernel of no network and has no prior"):
        _ = (NTK * RBF).prior


def test_the_kernel_of_a_sum_of_networks_is_the_sum_of_their_kernels():
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 1))
            self.b = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 1))

        def forward(self, x):
            return self.a(x) + self.b(x)

    net, x = Added(), inputs(5, 0)
    added = nl.analytic_kernel(net.a) + nl.analytic_kernel(net.b)
    assert torch.allclose(nl.analytic_kernel(net)(x), added(x), rtol=1e-10)
    assert torch.allclose(nl.analytic_kernel(net)(x, kind="nngp"), added.prior(x), rtol=1e-10)


def test_numbers_of_every_kind_multiply_from_both_sides_and_sum_begins_at_zero():
    x = inputs(3, 0)
    expected = 2 * RBF(x)
    for kernel in (2 * RBF, RBF * 2.0, np.float64(2) * RBF, RBF * torch.tensor(2.0), sum([RBF, RBF])):
        assert isinstance(kernel, Kernel)
        assert torch.equal(kernel(x), expected)


@pytest.mark.parametrize("factor", [0, -1, float("inf"), float("nan"), "2", None, [2.0], True])
def test_what_is_no_positive_number_is_no_factor(factor):
    with pytest.raises(InputError, match=r"expected .*number"):
        _ = RBF * factor


def test_what_is_no_kernel_is_not_added():
    with pytest.raises(InputError, match="expected a kernel to add to a kernel; got 1"):
        _ = RBF + 1
    with pytest.raises(InputError, match="requires a gradient"):
        _ = RBF * torch.tensor(2.0, requires_grad=True)


def test_what_depends_on_weights_has_no_description():
    assert describe_kernel(RBF + nl.empirical_kernel(NET.double()), (5,)) is None
    with pytest.raises(InputError, match="description of a kernel"):
        kernel_from('{"combined": "Kernel", "parts": {}}')
