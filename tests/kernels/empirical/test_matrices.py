"""Matrices from blocks of inputs and rounds of outputs against kernels by hand."""

import pytest
import torch

import ntklens as nl
from kernels.empirical.zoo import error, images, network_of, reduced

DTYPE = torch.float64


@pytest.mark.parametrize("memory", [1 << 30, 1])
@pytest.mark.parametrize("outputs", ["full", "trace", "pseudo"])
def test_exact_whatever_the_memory(brute, outputs, memory):
    net, x, z, full, _ = brute
    kernel = nl.empirical_kernel(net, outputs, memory_limit=memory)
    assert error(kernel(x, z), reduced(full, outputs)) < 1e-10
    assert error(kernel(x)[:2, 2:], kernel(x[:2], x[2:])) < 1e-10


def test_single_precision_is_near(case, brute):
    _, x, z, full, _ = brute
    single = x if case.tokens else x.float()
    k = nl.empirical_kernel(network_of(case, DTYPE).float())(single, z if case.tokens else z.float())
    assert k.dtype == torch.float32
    assert error(k.double(), reduced(full, "trace")) < 1e-4


@pytest.mark.parametrize("outputs", ["trace", "full", "pseudo"])
def test_a_batch_with_itself_is_exactly_symmetric_whatever_the_blocks(net, outputs):
    x = images(5)
    k = nl.empirical_kernel(net, outputs)(x)
    other = k.permute(1, 0, 3, 2) if outputs == "full" else k.T
    assert torch.equal(k, other)
    blocks = nl.empirical_kernel(net, outputs, memory_limit=20_000)
    torch.testing.assert_close(blocks(x), k, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(blocks(x, x), k, rtol=1e-12, atol=1e-14)
