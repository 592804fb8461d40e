"""Divided differences of filters: those of arithmetic with many digits, for near, equal and zero eigenvalues."""

import math

import mpmath
import pytest
import torch

from ntklens.errors import InputError
from ntklens.linalg import Band, GradientDescent, GradientFlow, Ridge, Trained
from ntklens.linalg.divided import divided_differences

EIGENVALUES = [1.9, 1.9, 1.3, 1.0000001, 1.0, 0.7, 0.3, 0.3 + 1e-12, 0.04, 1e-3, 1e-3 + 1e-9, 1e-7, 1e-12, 0.0, 0.0]
FILTERS = {
    "ridge": (Ridge(0.02), lambda x: 1 / (x + mpmath.mpf(0.02))),
    **{
        f"flow {t:g}": (GradientFlow(t, 0.5), lambda x, t=t: (1 - mpmath.exp(-x * t / 2)) / x)
        for t in (1e-6, 0.7, 30.0, 1e5)
    },
    **{
        f"descent {n}": (
            GradientDescent(n, 0.9),
            lambda x, n=n: (1 - (1 - mpmath.mpf(0.9) * x) ** n) / x,
        )
        for n in (1, 2, 3, 40, 1001)
    },
}


@pytest.mark.parametrize("name", FILTERS)
def test_they_are_those_of_many_digits(name):
    g, h = FILTERS[name]
    tiny_enough = 1e-15 if name == "descent 1" else 0.0  # one step is η, whatever λ is
    eigenvalues = torch.tensor(EIGENVALUES, dtype=torch.float64)
    found = divided_differences(g, eigenvalues)
    torch.testing.assert_close(found, found.T, rtol=0, atol=0)
    with mpmath.workdps(150):
        tiny = mpmath.mpf(10) ** -25

        def value(x):
            return h(x + tiny)  # a limit at zero

        for i, a in enumerate(map(mpmath.mpf, EIGENVALUES)):
            for j, b in enumerate(map(mpmath.mpf, EIGENVALUES)):
                away = a if a != b else a + tiny
                exact = float((value(away) - value(b)) / (away - b))
                assert float(found[i, j]) == pytest.approx(exact, rel=1e-12, abs=tiny_enough), (i, j)


def test_the_differential_of_a_function_of_a_matrix():
    draw = torch.Generator().manual_seed(0)
    root, change = (torch.randn(9, 9, dtype=torch.float64, generator=draw) for _ in range(2))
    root[3] = root[4]  # two equal rows, and so an eigenvalue of zero
    matrix, change = root @ root.T / 9, 1e-6 * (change + change.T)
    values, vectors = torch.linalg.eigh(matrix)
    for g in (Ridge(0.1), GradientFlow(3.0), GradientDescent(7, 0.2)):

        def applied(at, g=g):
            values, vectors = torch.linalg.eigh(at)
            return vectors @ torch.diag(g(values)) @ vectors.T

        inside = divided_differences(g, values.clamp(min=0)) * (vectors.T @ change @ vectors)
        differences = (applied(matrix + change) - applied(matrix - change)) / 2
        torch.testing.assert_close(vectors @ inside @ vectors.T, differences, rtol=1e-6, atol=1e-13)


@pytest.mark.parametrize("g", [Band((0, 1)), lambda values: values, Trained("by hand")], ids=["band", "own", "trained"])
def test_other_filters_are_refused(g):
    with pytest.raises(InputError, match=r"Ridge, GradientFlow or GradientDescent|no filter gives them"):
        divided_differences(g, torch.ones(3, dtype=torch.float64))


def test_times_of_zero_and_without_end():
    eigenvalues = torch.tensor([2.0, 1.0], dtype=torch.float64)
    assert not divided_differences(GradientFlow(0.0), eigenvalues).any()
    assert not divided_differences(GradientDescent(0, 0.1), eigenvalues).any()
    forever = divided_differences(GradientFlow(math.inf), eigenvalues)
    torch.testing.assert_close(forever, divided_differences(Ridge(0.0), eigenvalues), rtol=0, atol=0)
