"""Factorisations: closed forms, and results that do not depend on what was computed before."""

import itertools

import pytest
import torch
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg import Band, Factorisation, GradientFlow, Ridge


def matrix(n: int = 60) -> Tensor:
    a = torch.randn(n, n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return a @ a.T / n + 0.01 * torch.eye(n, dtype=torch.float64)


def targets(n: int = 60) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_spectrum_is_descending_and_orthonormal():
    s = Factorisation(matrix()).spectrum
    assert (s.eigenvalues.diff() <= 0).all()
    rebuilt = s.eigenvectors @ torch.diag(s.eigenvalues) @ s.eigenvectors.T
    torch.testing.assert_close(rebuilt, matrix(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("count", [1, 5, 6, 20, 60])
def test_leading_eigenpairs_are_the_first_of_the_spectrum(count):
    """By Lanczos up to 6, from the whole spectrum above."""
    factorisation = Factorisation(matrix())
    leading, whole = factorisation.leading(count), factorisation.spectrum
    torch.testing.assert_close(leading.eigenvalues, whole.eigenvalues[:count], rtol=1e-10, atol=0)
    overlap = (leading.eigenvectors.T @ whole.eigenvectors[:, :count]).abs()
    torch.testing.assert_close(overlap, torch.eye(count, dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_ridge_by_cholesky_and_by_the_spectrum_agree(rho):
    f, y = Factorisation(matrix()), targets()
    by_spectrum = f.apply(Ridge(rho), y, f.spectrum)
    torch.testing.assert_close(f.apply(Ridge(rho), y), by_spectrum, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close((matrix() + rho * torch.eye(60)) @ by_spectrum, y, rtol=1e-9, atol=1e-9)


def test_a_filter_on_leading_eigenpairs_gives_the_others_no_weight():
    f, y = Factorisation(matrix()), targets()
    some = f.apply(Band([0, 3]), y, f.leading(5))
    torch.testing.assert_close(some, f.apply(Band([0, 3]), y), rtol=1e-7, atol=1e-9)
    flow, v = GradientFlow(2.0), f.spectrum.eigenvectors[:, 5:]
    cut = f.apply(flow, y, f.leading(5))
    torch.testing.assert_close(cut, f.apply(flow, y - v @ (v.T @ y)), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("g", [Ridge(0.0), GradientFlow(float("inf")), Ridge(0.3)])
def test_a_filter_that_inverts_takes_leading_eigenpairs_alone(g):
    f, y = Factorisation(matrix()), targets()
    leading = f.leading(5)
    v, weights = leading.eigenvectors, 1 / (leading.eigenvalues + getattr(g, "rho", 0.0))
    torch.testing.assert_close(f.apply(g, y, leading), v @ (weights[:, None] * (v.T @ y)), rtol=1e-12, atol=0)


def test_a_band_beyond_the_eigenpairs_is_refused():
    f = Factorisation(matrix())
    with pytest.raises(InputError, match="from 0 to 4"):
        f.apply(Band([1, 7]), targets(), f.leading(5))


CALLS = {
    "ridge": lambda f, y: f.apply(Ridge(0.1), y),
    "another ridge": lambda f, y: f.apply(Ridge(0.2), y),
    "ridge on the spectrum": lambda f, y: f.apply(Ridge(0.1), y, f.spectrum),
    "flow": lambda f, y: f.apply(GradientFlow(2.0), y),
    "band": lambda f, y: f.apply(Band([0, 2]), y),
    "band of five": lambda f, y: f.apply(Band([0, 2]), y, f.leading(5)),
    "band of three": lambda f, y: f.apply(Band([0, 2]), y, f.leading(3)),
    "five": lambda f, y: f.leading(5).eigenvectors,
    "three": lambda f, y: f.leading(3).eigenvectors,
    "thirty": lambda f, y: f.leading(30).eigenvectors,
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_gives_the_same_bits_whatever_was_called_before(call):
    first = CALLS[call](Factorisation(matrix()), targets())
    for before in itertools.permutations(CALLS, 2):
        factorisation = Factorisation(matrix())
        for other in before:
            CALLS[other](factorisation, targets())
        assert torch.equal(CALLS[call](factorisation, targets()), first), before


def test_duplicate_inputs_are_named_with_their_remedy():
    singular = torch.ones(3, 3, dtype=torch.float64)
    with pytest.raises(NumericalFailure, match=r"inputs 0 and 1 are duplicates for the kernel\. Use a larger"):
        Factorisation(singular).solve(0.0, torch.ones(3, 1, dtype=torch.float64))
    assert Factorisation(singular).solve(1.0, torch.ones(3, 1)).flatten().tolist() == pytest.approx([0.25] * 3)


@pytest.mark.parametrize("count", [0, 61])
def test_a_number_of_eigenvectors_that_the_matrix_does_not_have(count):
    with pytest.raises(InputError, match=f"expected from 1 to 60 eigenvectors.*got {count}"):
        Factorisation(matrix()).leading(count)
