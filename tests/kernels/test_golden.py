"""The analytic kernel against neural-tangents' values in float64 (tests/golden)."""

import pytest
import torch
from torch import Tensor

from ntklens.kernels import analytic_kernel


def worst(value: Tensor, truth: Tensor) -> float:
    """Largest error over the largest true value."""
    return float((value.double() - truth).abs().max() / truth.abs().max())


@pytest.fixture(params=["auto", "reference"])
def kernel(golden, request):
    return analytic_kernel(golden.net, golden.w_std, golden.b_std, engine=request.param)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_kernels_between_two_batches(golden, kernel, dtype, tolerance):
    nngp, ntk = kernel(golden["x1"].to(dtype), golden["x2"].to(dtype), ("nngp", "ntk"))
    assert nngp.dtype == ntk.dtype == dtype
    assert worst(nngp, golden["nngp"]) < tolerance
    assert worst(ntk, golden["ntk"]) < tolerance


def test_kernels_of_a_batch_with_itself(golden, kernel):
    nngp, ntk = kernel(golden["x1"], kind=("nngp", "ntk"))
    assert worst(nngp, golden["nngp_sym"]) < 1e-12
    off_diagonal = 1 - torch.eye(len(ntk), dtype=ntk.dtype)
    assert worst(ntk * off_diagonal, golden["ntk_sym"] * off_diagonal) < 1e-12
    assert worst(ntk.diagonal(), golden["ntk_sym"].diagonal()) < 1e-7  # the peer's own rounding; see golden/README.md


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-7)])
def test_gradient(golden, kernel, dtype, tolerance):
    x1, x2, weights = (golden[k].to(dtype) for k in ("x1", "x2", "weights"))
    assert worst(kernel.gradient(x1, x2, weights), golden["grad"]) < tolerance


def test_gradient_by_autograd_through_the_call(golden, kernel):
    x = golden["x1"].clone().requires_grad_()
    (kernel(x, golden["x2"]) * golden["weights"]).sum().backward()
    assert worst(x.grad, golden["grad"]) < 1e-12
