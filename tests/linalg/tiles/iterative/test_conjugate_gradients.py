"""Conjugate gradients: against a direct solution, interrupted, and where there is none."""

import pytest
import torch
from torch import Tensor

from ntklens.errors import NumericalFailure
from ntklens.linalg.tiles.iterative.conjugate_gradients import State, conjugate_gradients

N = 120


def matrix(condition: float = 1e4) -> Tensor:
    q = torch.linalg.qr(torch.randn(N, N, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    m = (q * torch.logspace(0, -float(torch.tensor(condition).log10()), N, dtype=torch.float64)) @ q.T
    return (m + m.T) / 2


def targets(k: int = 3) -> Tensor:
    return torch.randn(N, k, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def plain(x: Tensor) -> Tensor:
    return x.clone()


def test_the_solution_is_that_of_a_direct_solver():
    a, y = matrix(), targets()
    x, residuals, steps = conjugate_gradients(lambda p: a @ p, y, plain)
    torch.testing.assert_close(x, torch.linalg.solve(a, y), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(residuals, (y - a @ x).norm(dim=0) / y.norm(dim=0), rtol=0, atol=1e-15)
    assert (residuals <= 1e-12).all()
    assert steps > 10


def test_a_column_does_not_depend_on_the_others():
    """One of them converges at once, one is zero."""
    a, y = matrix(), targets()
    y[:, 1] = torch.linalg.eigh(a).eigenvectors[:, 0]
    y[:, 2] = 0
    x, _, _ = conjugate_gradients(lambda p: a @ p, y, plain)
    alone, _, _ = conjugate_gradients(lambda p: a @ p, y[:, :1], plain)
    torch.testing.assert_close(x[:, :1], alone, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(x[:, 1:], torch.linalg.solve(a, y[:, 1:]), rtol=1e-8, atol=1e-8)
    assert (x[:, 2] == 0).all()


def test_the_exact_inverse_takes_one_step():
    a, y = matrix(), targets()
    inverse = torch.linalg.inv(a)
    _, _, steps = conjugate_gradients(lambda p: a @ p, y, lambda r: inverse @ r, tolerance=1e-9)
    assert steps == 2  # the second product is that of the true residual


@pytest.mark.parametrize("stop", [1, 7, 30])
def test_continuing_gives_the_same_bits(stop):
    a, y = matrix(), targets()
    states: list[State] = []
    whole, _, steps = conjugate_gradients(lambda p: a @ p, y, plain, save=states.append)
    start = State.of({name: tensor.clone() for name, tensor in states[stop - 1].tensors().items()})
    assert start.steps == stop
    continued, _, again = conjugate_gradients(lambda p: a @ p, y, plain, start=start)
    assert torch.equal(whole, continued)
    assert steps == again


def test_what_float64_cannot_reach_is_told_honestly():
    a, y = matrix(1e7), targets()
    x, residuals, _ = conjugate_gradients(lambda p: a @ p, y, plain, tolerance=1e-17, most=20_000)
    torch.testing.assert_close(residuals, (y - a @ x).norm(dim=0) / y.norm(dim=0), rtol=1e-6, atol=0)
    assert (residuals > 1e-17).all()
    assert (residuals < 1e-8).all()


def test_too_few_steps_are_told():
    a = matrix()
    with pytest.raises(NumericalFailure, match=r"did not converge in 5 products .* Use a larger ridge"):
        conjugate_gradients(lambda p: a @ p, targets(), plain, most=5)


def test_a_singular_matrix_is_told():
    a = matrix()
    values, vectors = torch.linalg.eigh(a)
    values[:40] = 0
    singular = (vectors * values) @ vectors.T
    with pytest.raises(NumericalFailure, match=r"not positive definite to rounding.* Use a larger ridge"):
        conjugate_gradients(lambda p: singular @ p, targets(), plain, floor=N * 2.3e-16)


def test_progress_ends_at_one():
    a, shares = matrix(), []
    conjugate_gradients(lambda p: a @ p, targets(), plain, progress=shares.append)
    assert shares[-1] == 1
    assert all(0 <= share <= 1 for share in shares)
