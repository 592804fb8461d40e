"""Values and derivatives at the edge of the domain, where the textbook derivatives are infinite."""

import math

import pytest
import torch

from ntklens.kernels.rules import safe


def derivative(function, at: list[float]) -> torch.Tensor:
    c = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(function(c).sum(), c)
    return slope


INSIDE = [-0.9, -0.2, 0.0, 0.5, 0.99]


def test_values():
    c = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(safe.kappa0(c), torch.tensor([0.0, 0.25, 0.5], dtype=torch.float64))
    torch.testing.assert_close(safe.kappa1(c), torch.tensor([0.0, 1 / (2 * math.pi), 0.5], dtype=torch.float64))
    torch.testing.assert_close(safe.arcsin(c), torch.tensor([-math.pi / 2, 0.0, math.pi / 2], dtype=torch.float64))


@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (safe.kappa0, lambda c: (math.pi - torch.arccos(c)) / (2 * math.pi)),
        (safe.kappa1, lambda c: ((1 - c * c).sqrt() + (math.pi - torch.arccos(c)) * c) / (2 * math.pi)),
        (safe.arcsin, torch.arcsin),
    ],
)
def test_inside_the_domain_derivatives_are_the_textbook_ones(function, plain):
    torch.testing.assert_close(derivative(function, INSIDE), derivative(plain, INSIDE))


@pytest.mark.parametrize(
    ("function", "expected"), [(safe.kappa0, [0.0, 0.0]), (safe.kappa1, [0.0, 0.5]), (safe.arcsin, [0.0, 0.0])]
)
def test_at_the_edge_of_the_domain_derivatives_are_finite(function, expected):
    assert derivative(function, [-1.0, 1.0]).tolist() == pytest.approx(expected)


def test_rounding_beyond_one_changes_nothing():
    beyond = torch.tensor([1 + 1e-12, -1 - 1e-12], dtype=torch.float64)
    assert torch.equal(safe.kappa1(beyond), safe.kappa1(beyond.clamp(-1, 1)))


def test_square_root_at_and_below_zero():
    assert safe.sqrt(torch.tensor([-1.0, 0.0, 4.0])).tolist() == [0, 0, 2]
    assert derivative(safe.sqrt, [-1.0, 0.0, 4.0]).tolist() == [0, 0, 0.25]


def test_cosine_of_parallel_inputs_is_exactly_one():
    scale = torch.tensor([3.0, 3.0, 3.0, 0.0], dtype=torch.float64)
    covariance = scale * torch.tensor([1 - 1e-15, -1 + 1e-15, 0.5, 0.0], dtype=torch.float64)
    assert safe.cosine(covariance, scale).tolist() == [1, -1, 0.5, 0]


def test_the_derivative_of_the_cosine_is_that_of_the_quotient_even_at_one():
    scale = torch.tensor([2.0, 2.0, 0.0], dtype=torch.float64)
    covariance = torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(safe.cosine(covariance, scale).sum(), covariance)
    assert slope.tolist() == [0.5, 0.5, 0]
