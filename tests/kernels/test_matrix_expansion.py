"""Functions Σ_j K(x, z_j) A_j through blocks of the kernel's matrix, against the same through the whole matrix."""

import pytest
import torch
from torch import Tensor, nn

import ntklens as nl
from kernels.networks import dense
from ntklens.kernels import matrix_expansion
from ntklens.kernels.base import Kernel
from ntklens.kernels.matrix_expansion import MatrixExpansion

N, COLUMNS = 200, 3
KEPT, ANEW = 5, 11
"""Numbers of inputs x whose pairs are kept from the values to the gradients within the limit below, and are not."""


class Polynomial(Kernel):
    """A kernel of a user's own, which notes how many pairs of inputs it is given at a time."""

    def __init__(self) -> None:
        self.pairs: list[int] = []

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        x2 = x1 if x2 is None else x2
        self.pairs.append(len(x1) * len(x2))
        return (1 + x1.flatten(1) @ x2.flatten(1).T) ** 2

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        self.pairs.append(len(x1) * len(x2))
        a, b = x1.flatten(1), x2.flatten(1)
        return ((2 * weights * (1 + a @ b.T)) @ b).reshape(x1.shape)


def kernels() -> dict[str, Kernel]:
    conv = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 1))
    relu = nl.analytic_kernel(dense(nn.ReLU(), 2))
    return {
        "dense": relu,
        "dense, no bias": nl.analytic_kernel(dense(nn.ReLU(), 2), b_std=0.0),
        "prior": relu.prior,
        "convolution": nl.analytic_kernel(conv),
        "reference": nl.analytic_kernel(dense(nn.GELU()), engine="reference"),
        "empirical": nl.empirical_kernel(dense(nn.Tanh())),
        "product": relu * nl.RBFKernel(0.5),
        "own": Polynomial(),
    }


def drawn(m: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs x and z, coefficients, and weights of the values."""
    generator = torch.Generator().manual_seed(m)
    x = torch.rand(m, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    z = torch.rand(N, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)
    a = torch.randn(N, COLUMNS, generator=generator, dtype=torch.float64)
    return x, z, a, torch.randn(m, COLUMNS, generator=generator, dtype=torch.float64)


@pytest.fixture
def small_limit(monkeypatch):
    """Memory for 512 pairs at a time: four spans of z, and groups of two x where they are many."""
    monkeypatch.setattr(matrix_expansion, "MEMORY", 512 * 32)


def error(found: Tensor, truth: Tensor) -> float:
    assert found.dtype == truth.dtype
    assert found.shape == truth.shape
    return float((found - truth).abs().max() / truth.abs().max())


@pytest.fixture(params=kernels())
def kernel(request):
    return kernels()[request.param]


@pytest.mark.parametrize("m", [KEPT, ANEW])
def test_blocks_add_up_to_the_whole(kernel, m, small_limit):
    x, z, a, w = drawn(m)
    f, matrix = MatrixExpansion(kernel, z, a), kernel.between(x, z)
    values, pull = f.vjp(x)
    assert len(list(f.spans())) == 4
    assert len(list(f.groups(m))) == -(-m // 2)
    for found in (f(x), values):
        assert error(found, matrix @ a) < 1e-12
    assert error(pull(w), kernel.gradient(x, z, w @ a.T)) < 1e-12
    rows = torch.arange(7) % m  # more rows than a group has, some of them twice
    assert error(pull(w[rows], rows), kernel.gradient(x[rows], z, w[rows] @ a.T)) < 1e-12


@pytest.mark.parametrize("m", [KEPT, ANEW])
def test_each_input_with_a_column_of_its_own(kernel, m, small_limit):
    x, z, a, _ = drawn(m)
    columns, rows = torch.arange(m) % COLUMNS, torch.tensor([1, 1, 0, 3, 2, 3, 0])
    values, pull = MatrixExpansion(kernel, z, a).along(x, columns)
    assert error(values, (kernel.between(x, z) @ a).gather(1, columns[:, None])[:, 0]) < 1e-12
    for chosen in (columns[rows], (columns[rows] + 1) % COLUMNS):
        assert error(pull.along(chosen, rows), kernel.gradient(x[rows], z, a.T[chosen])) < 1e-12


def test_the_batch_of_x_changes_nothing(kernel, small_limit):
    x, z, a, w = drawn(ANEW)
    f = MatrixExpansion(kernel, z, a)
    values, gradient = f(x), f.vjp(x)[1](w)
    for size in (1, KEPT, 6):
        batches = list(zip(x.split(size), w.split(size), strict=True))
        assert error(torch.cat([f(batch) for batch, _ in batches]), values) < 1e-13
        assert error(torch.cat([f.vjp(batch)[1](weights) for batch, weights in batches]), gradient) < 1e-13


def test_in_float32_blocks_lose_no_more_than_the_whole(small_limit):
    kernel = nl.analytic_kernel(dense(nn.ReLU(), 2))
    x, z, a, w = drawn(ANEW, torch.float32)
    f = MatrixExpansion(kernel, z, a)
    values, pull = f.vjp(x.double())  # inputs in another dtype than the arithmetic's have gradients in their own
    assert error(values, kernel.between(x, z).double() @ a) < 1e-12
    exact = kernel.gradient(x.double(), z.double(), w @ a.T)
    assert error(pull(w), exact) < 2 * error(kernel.gradient(x, z, (w @ a.T).float()).double(), exact) + 1e-7


def test_few_pairs_are_a_single_block_with_the_kernels_own_pullback(kernel):
    x, z, a, w = drawn(ANEW)
    f = MatrixExpansion(kernel, z, a)
    matrix, of_matrix = kernel.vjp_between(x, z)
    values, pull = f.vjp(x)
    assert torch.equal(f(x), matrix @ a)
    assert torch.equal(values, matrix @ a)
    assert torch.equal(pull(w), of_matrix(w @ a.T))
    rows = torch.tensor([4, 1])
    assert torch.equal(pull(w[rows], rows), of_matrix(w[rows] @ a.T, rows))


@pytest.mark.parametrize("m", [KEPT, ANEW, 400])
def test_no_more_pairs_at_a_time_than_the_limit_allows(m, small_limit):
    kernel = Polynomial()
    x, z, a, w = drawn(m)
    f = MatrixExpansion(kernel, z, a)
    f(x)
    pull = f.vjp(x)[1]
    pull(w)
    pull.along(torch.zeros(m, dtype=torch.long), torch.arange(m))
    assert max(kernel.pairs) <= 512


def test_without_inputs_there_are_no_values():
    x, z, a, _ = drawn(ANEW)
    f = MatrixExpansion(Polynomial(), z, a)
    assert f(x[:0]).shape == (0, COLUMNS)
    assert f.vjp(x[:0])[1](torch.zeros(0, COLUMNS)).shape == (0, 1, 4, 4)
