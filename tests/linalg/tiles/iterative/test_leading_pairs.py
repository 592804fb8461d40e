"""Leading eigenpairs from products alone, held to a dense eigendecomposition."""

import pytest
import torch
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg.tiles.iterative import leading
from ntklens.linalg.tiles.iterative.leading import leading_pairs

N = 240


def rotated(eigenvalues: Tensor) -> Tensor:
    n = len(eigenvalues)
    q = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(5), dtype=torch.float64)).Q
    matrix = (q * eigenvalues) @ q.T
    return (matrix + matrix.T) / 2


def index() -> Tensor:
    return torch.arange(N, dtype=torch.float64)


SPECTRA = {
    "geometric": 0.8 ** index(),
    "power": (1 + index()) ** -2,
    "slow": 1 - index() / (2 * N),
    "rank 3": torch.where(index() < 3, 3 - index(), 0.0),
    "twelve equal": torch.where(index() < 12, 2.0, 1 / (1 + index())),
    "identity": torch.ones(N, dtype=torch.float64),
    "zero": torch.zeros(N, dtype=torch.float64),
    "one and a crowd": torch.cat([torch.tensor([1e6]), torch.ones(N - 1)]).double(),
}


@pytest.mark.parametrize("count", [1, 5, 30, 130, N])
@pytest.mark.parametrize("name", SPECTRA)
def test_eigenpairs_are_those_of_the_dense_matrix(name, count):
    matrix = rotated(SPECTRA[name])
    found, residuals = leading_pairs(lambda x: matrix @ x, N, count)
    exact = SPECTRA[name].sort(descending=True).values[:count]
    scale = float(exact[0]) or 1.0
    torch.testing.assert_close(found.eigenvalues, exact, rtol=0, atol=1e-10 * scale)
    v = found.eigenvectors
    torch.testing.assert_close(v.T @ v, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-12)
    true = (matrix @ v - v * found.eigenvalues).norm(dim=0) / scale
    assert (residuals <= 1e-10).all()
    torch.testing.assert_close(true, residuals, rtol=0, atol=1e-13)


def test_the_same_call_gives_the_same_bits_and_tells_its_progress():
    matrix, shares = rotated(SPECTRA["slow"]), []
    first, _ = leading_pairs(lambda x: matrix @ x, N, 4, progress=shares.append)
    second, _ = leading_pairs(lambda x: matrix @ x, N, 4)
    assert torch.equal(first.eigenvectors, second.eigenvectors)
    assert shares[-1] == 1
    assert len(shares) > 2
    assert all(0 <= share <= 1 for share in shares)


@pytest.mark.parametrize("n", [1, 2, 9, 40])
def test_small_matrices(n):
    matrix = rotated(torch.arange(n, 0, -1, dtype=torch.float64))
    found, _ = leading_pairs(lambda x: matrix @ x, n, n)
    torch.testing.assert_close(found.eigenvalues, torch.arange(n, 0, -1, dtype=torch.float64))


@pytest.mark.parametrize("count", [0, N + 1])
def test_a_count_out_of_range_is_refused(count):
    with pytest.raises(InputError, match=f"from 1 to {N} eigenvectors"):
        leading_pairs(lambda x: x, N, count)


def test_an_iteration_that_does_not_converge_is_told(monkeypatch):
    monkeypatch.setattr(leading, "_MOST", 2)
    matrix = rotated(SPECTRA["slow"])
    with pytest.raises(NumericalFailure, match=r"the 3 largest eigenvalues did not converge in 2 products"):
        leading_pairs(lambda x: matrix @ x, N, 3)
