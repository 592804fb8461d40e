"""The three orders of summation of the products of two weights' tangents."""

import pytest
import torch

import ntklens as nl
from kernels.empirical.zoo import error, reduced
from ntklens.kernels.empirical import products

ORDERS = ("gradients", "kernels", "signals")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("outputs", ["full", "trace"])
def test_every_order_of_summation_is_exact(brute, outputs, order, monkeypatch):
    net, x, z, full, _ = brute
    taken = []

    def forced(n1, n2, o, g, c, k, *positions, full, same):
        taken.append("kernels" if (k is None and order == "gradients") or (order == "signals" and not full) else order)
        return taken[-1]

    monkeypatch.setattr(products, "cheapest", forced)
    kernel = nl.empirical_kernel(net, outputs, memory_limit=8_000)
    assert error(kernel(x, z), reduced(full, outputs)) < 1e-10
    k = kernel(x)
    assert torch.equal(k, k.permute(1, 0, 3, 2) if outputs == "full" else k.T)
    assert taken
