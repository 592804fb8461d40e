"""Filters against the matrix functions that they stand for."""

import math

import pytest
import scipy.linalg
import torch
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import Band, Factorisation, GradientDescent, GradientFlow, Ridge


def matrix(n: int = 8) -> Tensor:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return a @ a.T / n + 0.01 * torch.eye(n, dtype=torch.float64)


def targets(n: int = 8) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("time", [0.0, 0.3, 20.0])
def test_gradient_flow_is_the_matrix_exponential(time):
    k, y = matrix(), targets()
    decay = torch.from_numpy(scipy.linalg.expm(-0.7 * time * k.numpy()))
    expected = torch.linalg.solve(k, (torch.eye(8, dtype=k.dtype) - decay) @ y)
    torch.testing.assert_close(Factorisation(k).apply(GradientFlow(time, 0.7), y), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("steps", [0, 1, 7, 300])
def test_gradient_descent_is_the_loop(steps):
    k, y = matrix(), targets()
    rate = 1.6 / float(torch.linalg.eigvalsh(k)[-1])
    alpha = torch.zeros_like(y)
    for _ in range(steps):
        alpha = alpha - rate * (k @ alpha - y)
    torch.testing.assert_close(Factorisation(k).apply(GradientDescent(steps, rate), y), alpha, rtol=1e-9, atol=1e-11)


def test_training_for_ever_is_the_inverse():
    k, y = matrix(), targets()
    forever = Factorisation(k).apply(GradientFlow(math.inf), y)
    torch.testing.assert_close(forever, torch.linalg.solve(k, y), rtol=1e-9, atol=1e-11)


def test_bands_add_up_to_the_inverse():
    f, y = Factorisation(matrix()), targets()
    total = sum((f.apply(Band(i), y) for i in range(8)), torch.zeros_like(y))
    torch.testing.assert_close(total, f.apply(Ridge(), y), rtol=1e-9, atol=1e-11)


def test_flow_and_descent_at_a_zero_eigenvalue_are_their_limits():
    s = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert GradientFlow(3.0, 0.5)(s)[1] == 1.5
    assert GradientDescent(3, 0.5)(s)[1] == 1.5


def test_small_eigenvalues_keep_their_digits():
    s = torch.tensor([1.0, 1e-14], dtype=torch.float64)
    assert GradientFlow(2.0)(s)[1] == pytest.approx(2.0, rel=1e-12)
    assert GradientDescent(2, 1.0)(s)[1] == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("g", [Ridge(0.0), GradientFlow(math.inf), Band(range(3))])
def test_a_singular_matrix_is_named_with_its_remedy(g):
    singular = torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(NumericalFailure, match="Ridge"):
        Factorisation(singular).apply(g, torch.ones(3, 1, dtype=torch.float64))


def test_descent_beyond_its_step_limit_is_named():
    with pytest.raises(NumericalFailure, match="diverges"):
        GradientDescent(3, 2.5)(torch.tensor([1.0]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Ridge(-1.0),
        lambda: GradientFlow(-1.0),
        lambda: GradientFlow(1.0, 0.0),
        lambda: GradientDescent(-1, 0.1),
        lambda: Band([1, 1]),
        lambda: Band([9])(torch.ones(3)),
    ],
)
def test_values_that_do_not_fit(make):
    with pytest.raises(InputError, match=r"expected .*; got"):
        make()
