"""What the table for users of neural-tangents says of this package: each conversion by its formula.

The other side, `exp(-t lr K / y.size)` and a ridge of `diag_reg` times the mean of the diagonal, is written out here.
"""

import math

import pytest
import torch
from torch import nn

import ntklens as nl


def inputs(n, seed=0):
    return torch.rand(n, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(5, 16, bias=False), nn.ReLU(), nn.Linear(16, 2, bias=False)).double()


@pytest.fixture
def kernel(net):
    return nl.analytic_kernel(net, w_std=1.0)


def test_unit_weights_without_biases_give_the_arc_cosine_kernel(kernel):
    x, z = inputs(6), inputs(4, 1)
    k, norms = x @ z.T / 5, (x.square().sum(1).sqrt()[:, None] * z.square().sum(1).sqrt()) / 5
    angle = torch.arccos(k / norms)
    nngp = norms * (angle.sin() + (math.pi - angle) * angle.cos()) / (2 * math.pi)
    found = kernel(x, z, kind=("nngp", "ntk"))
    assert torch.allclose(found[0], nngp)
    assert torch.allclose(found[1], nngp + k * (math.pi - angle) / (2 * math.pi))


def test_a_list_and_names_give_each_layer_its_value(net):
    x = inputs(3)
    by_order = nl.analytic_kernel(net, w_std=[1.0, 1.5])(x)
    assert torch.equal(by_order, nl.analytic_kernel(net, w_std={"0": 1.0, "2": 1.5})(x))


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_time_is_divided_by_the_number_of_targets(kernel, outputs):
    x, z = inputs(8), inputs(4, 1)
    y = torch.randn(8, outputs, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    t, rate = 300.0, 0.7
    decay = torch.linalg.matrix_exp(-t * rate * kernel(x) / y.numel())
    expected = kernel(z, x) @ torch.linalg.solve(kernel(x), y - decay @ y)
    machine = nl.KernelMachine(kernel, nl.GradientFlow(t / y.numel(), rate)).fit(x, y)
    assert torch.allclose(machine.outputs(z), expected, rtol=1e-7)


def test_a_ridge_is_absolute(kernel):
    x, z, y = inputs(8), inputs(4, 1), inputs(8, 2)[:, :1]
    ridge = 1e-2 * float(kernel(x).diagonal().mean())
    expected = kernel(z, x) @ torch.linalg.solve(kernel(x) + ridge * torch.eye(8), y)
    machine = nl.KernelMachine(kernel, nl.Ridge(ridge)).fit(x, y)
    assert torch.allclose(machine.outputs(z), expected)


def test_the_ensemble_at_infinite_time_and_the_bayesian_posterior(kernel):
    x, z, y = inputs(8), inputs(4, 1), inputs(8, 2)[:, :1]
    a = torch.linalg.solve(kernel(x), kernel(x, z)).T
    prior = kernel.prior
    mean, covariance = nl.KernelMachine(kernel).fit(x, y).predict(z, return_cov=True)
    cross = a @ prior(x, z)
    assert torch.allclose(mean, a @ y)
    assert torch.allclose(covariance, prior(z) + a @ prior(x) @ a.T - cross - cross.T, atol=1e-8)
    noise = 0.1
    mean, covariance = nl.KernelMachine(prior, nl.Ridge(noise)).fit(x, y).predict(z, return_cov=True)
    a = torch.linalg.solve(prior(x) + noise * torch.eye(8), prior(x, z)).T
    assert torch.allclose(mean, a @ y)
    assert torch.allclose(covariance, prior(z) - a @ prior(x, z), atol=1e-8)


def test_the_empirical_kernel_is_the_mean_over_outputs(net):
    x, z = inputs(3), inputs(2, 1)
    full = nl.empirical_kernel(net, outputs="full")(x, z)
    assert full.shape == (3, 2, 2, 2)
    mean = full.diagonal(dim1=2, dim2=3).mean(-1)
    assert torch.allclose(nl.empirical_kernel(net)(x, z), mean)


def test_float_targets_are_fitted_unchanged_and_read_by_outputs(kernel):
    x = inputs(8)
    y = torch.stack([x.sum(1), x[:, 0] * x[:, 1]], 1)
    assert torch.allclose(nl.KernelMachine(kernel).fit(x, y).outputs(x), y, atol=1e-6)
