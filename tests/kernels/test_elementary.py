import pytest
import torch

from ntklens.kernels import LinearKernel, RBFKernel


@pytest.mark.parametrize("kernel", [LinearKernel(), RBFKernel(0.2)])
def test_gradient_is_autograds(kernel):
    g = torch.Generator().manual_seed(0)
    x, z = (torch.rand(n, 1, 3, 3, generator=g, dtype=torch.float64) for n in (4, 5))
    w = torch.randn(4, 5, generator=g, dtype=torch.float64)
    tracked = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad((kernel(tracked, z) * w).sum(), tracked)
    torch.testing.assert_close(kernel.gradient(x, z, w), expected, rtol=1e-10, atol=1e-12)


def test_rbf_falls_to_its_stated_value_at_the_bandwidth():
    x = torch.zeros(1, 10, dtype=torch.float64)
    assert RBFKernel(0.3)(x, x + 0.3).item() == pytest.approx(0.6065306597126334)


@pytest.mark.parametrize("kernel", [LinearKernel(), RBFKernel(0.2)])
def test_matrix_and_gradient_together_are_the_two_alone(kernel):
    g = torch.Generator().manual_seed(0)
    x, z = (torch.rand(n, 1, 3, 3, generator=g, dtype=torch.float64) for n in (4, 5))
    w = torch.randn(4, 5, generator=g, dtype=torch.float64)
    matrix, pull = kernel.vjp(x, z)
    rows = torch.tensor([2, 0])
    assert torch.equal(matrix, kernel(x, z))
    assert torch.equal(pull(w), kernel.gradient(x, z, w))
    torch.testing.assert_close(pull(w[rows], rows), kernel.gradient(x, z, w)[rows])
