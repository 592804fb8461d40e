"""Hermite series against closed forms, and the stated bound on what a series leaves out."""

import math

import pytest
import torch

from ntklens.kernels.rules.duals import Gaussian, LeakyReLU
from ntklens.kernels.rules.series import Series

K, Q1, Q2 = (torch.tensor(v, dtype=torch.float64) for v in ([-0.5, 0.2, 0.8], [0.7, 1.0, 0.9], [1.5, 1.0, 0.9]))


def test_a_square_has_three_terms():
    """E[u² v²] = q1 q2 + 2 k² and E[2u 2v] = 4 k."""
    square = Series(lambda u: u * u, degree=2, nodes=100)
    torch.testing.assert_close(square.nngp(K, Q1, Q2), Q1 * Q2 + 2 * K**2, rtol=1e-12, atol=0)
    torch.testing.assert_close(square.derivative(K, Q1, Q2), 4 * K, rtol=1e-12, atol=0)
    assert square.truncation(1.3) < 1e-12


def test_a_smooth_function_has_the_digits_of_its_closed_form():
    series = Series(lambda u: torch.exp(-u * u), degree=200)
    torch.testing.assert_close(series.nngp(K, Q1, Q2), Gaussian().nngp(K, Q1, Q2), rtol=1e-11, atol=0)
    torch.testing.assert_close(series.derivative(K, Q1, Q2), Gaussian().derivative(K, Q1, Q2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("degree", [4, 16, 64])
def test_the_bound_on_the_remaining_terms_is_reached_at_equal_inputs(degree):
    """For ReLU, whose terms are all of one sign at correlation 1: the error is the truncation and no more elsewhere."""
    series, q = Series(torch.relu, degree), torch.tensor([1.3], dtype=torch.float64)
    bound = series.truncation(1.3)
    at_one = (LeakyReLU().nngp(q, q, q) - series.nngp(q.clone(), q, q)).abs().item()
    assert at_one == pytest.approx(bound, rel=1e-6)
    for c in (-1.0, -0.4, 0.0, 0.7):
        k = c * q
        assert (LeakyReLU().nngp(k, q, q) - series.nngp(k, q, q)).abs().item() <= bound * (1 + 1e-9)


def test_coefficients_of_the_identity_and_their_shape():
    a = Series(lambda u: u, degree=5, nodes=50).coefficients(torch.tensor([[4.0], [9.0]], dtype=torch.float64))
    assert a.shape == (2, 1, 6)
    torch.testing.assert_close(a[:, 0, 1], torch.tensor([2.0, 3.0], dtype=torch.float64))
    assert a[:, 0, [0, 2, 3, 4, 5]].abs().max() < 1e-12


def test_a_vanishing_input_has_the_value_at_zero_and_no_derivative():
    zero = torch.zeros(1, dtype=torch.float64)
    assert Series(torch.cos).nngp(zero, zero, zero).item() == pytest.approx(math.cos(0) ** 2)
    assert Series(torch.cos).derivative(zero, zero, zero).item() == 0
