"""Low-rank factors and the preconditioner: closed forms, laws, and what they are good for."""

import pytest
import torch
from torch import Tensor

from ntklens.linalg.tiles.iterative.pivoted_cholesky import Preconditioner, pivoted_cholesky


def kernel(n: int = 150, width: float = 0.5, seed: int = 0) -> Tensor:
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.exp(-torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square() / width)


def entries_of(matrix: Tensor):
    return lambda rows, columns: matrix[rows][:, columns]


@pytest.mark.parametrize("rank", [1, 20, 70])
def test_the_factor_is_the_matrix_on_the_pivots_and_below_it_elsewhere(rank):
    matrix = kernel()
    low_rank = pivoted_cholesky(entries_of(matrix), matrix.diagonal(), rank)
    left = matrix - low_rank.rows.T @ low_rank.rows
    assert len(low_rank.pivots.unique()) == len(low_rank.rows) == rank
    assert left[low_rank.pivots].abs().max() < 1e-10
    assert torch.linalg.eigvalsh(left).min() > -1e-10
    torch.testing.assert_close(left.diagonal(), low_rank.residual, rtol=0, atol=1e-12)


def test_a_matrix_of_low_rank_is_found_whole():
    a = torch.randn(90, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    matrix = a @ a.T
    low_rank = pivoted_cholesky(entries_of(matrix), matrix.diagonal(), 60)
    assert len(low_rank.rows) == 7
    torch.testing.assert_close(low_rank.rows.T @ low_rank.rows, matrix, rtol=0, atol=1e-10)


@pytest.mark.parametrize("matrix", [torch.zeros(5, 5), torch.eye(5), torch.ones(5, 5), torch.ones(1, 1)])
def test_matrices_at_the_edge(matrix):
    matrix = matrix.double()
    low_rank = pivoted_cholesky(entries_of(matrix), matrix.diagonal(), 9)
    torch.testing.assert_close(low_rank.rows.T @ low_rank.rows, matrix, rtol=0, atol=1e-14)


def test_pivots_are_drawn_in_proportion_to_the_diagonal():
    """The two large rows are equally likely; the small one comes first in 1 of 201 draws."""
    matrix = torch.diag(torch.tensor([1.0, 1.0, 0.01], dtype=torch.float64))
    generator = torch.Generator().manual_seed(0)
    draws = [
        int(pivoted_cholesky(entries_of(matrix), matrix.diagonal(), 1, generator=generator).pivots[0])
        for _ in range(400)
    ]
    assert abs(draws.count(0) - 200) < 40  # four standard deviations
    assert draws.count(2) < 10


def test_the_same_seed_gives_the_same_bits():
    matrix = kernel()
    first, second = (pivoted_cholesky(entries_of(matrix), matrix.diagonal(), 40).rows for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("rho", [0.0, 1e-8, 0.1])
@pytest.mark.parametrize("rank", [0, 30])
def test_the_preconditioner_is_the_inverse_that_it_says(rho, rank):
    matrix = kernel()
    low_rank = pivoted_cholesky(entries_of(matrix), matrix.diagonal(), rank)
    whole, residual = low_rank.rows.T @ low_rank.rows, low_rank.residual.mean()
    precondition = Preconditioner(low_rank, rho)
    assert precondition.mu == pytest.approx(rho + float(residual) / 2)
    x = torch.randn(150, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = torch.linalg.solve(whole + precondition.mu * torch.eye(150, dtype=torch.float64), x)
    torch.testing.assert_close(precondition(x), expected, rtol=1e-9, atol=1e-9)
