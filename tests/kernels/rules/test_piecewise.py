"""Piecewise linear activations against the closed form of one kink and against simple limits."""

import pytest
import torch

from ntklens.kernels.rules.duals import LeakyReLU
from ntklens.kernels.rules.piecewise import PiecewiseLinear

K, Q1, Q2 = (
    torch.tensor(v, dtype=torch.float64) for v in ([-0.9, 0.0, 0.5, 1.0], [0.9, 0.7, 0.7, 1.0], [0.9, 2.0, 1.5, 1.0])
)


@pytest.mark.parametrize("slope", [0.0, 0.3, -1.0])
def test_one_kink_at_zero_is_leaky_relu(slope):
    dual, closed = PiecewiseLinear((0.0,), (slope, 1.0)), LeakyReLU(slope)
    torch.testing.assert_close(dual.nngp(K, Q1, Q2), closed.nngp(K, Q1, Q2), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(dual.derivative(K, Q1, Q2), closed.derivative(K, Q1, Q2), rtol=1e-12, atol=1e-14)


def test_without_a_jump_it_is_a_line():
    """φ(u) = 2 u + 1, so E[φφ] = 4 k + 1 and E[φ'φ'] = 4."""
    line = PiecewiseLinear((-1.0, 0.5), (2.0, 2.0, 2.0), origin=1.0)
    torch.testing.assert_close(line.nngp(K, Q1, Q2), 4 * K + 1)
    torch.testing.assert_close(line.derivative(K, Q1, Q2), torch.full_like(K, 4.0))


def test_kinks_far_away_do_not_count():
    far = PiecewiseLinear((-60.0, 60.0), (0.0, 1.0, 0.0))
    torch.testing.assert_close(far.nngp(K, Q1, Q2), K)


def test_a_vanishing_input_has_the_value_at_zero():
    zero = torch.zeros(1, dtype=torch.float64)
    hard_sigmoid = PiecewiseLinear((-3.0, 3.0), (0.0, 1 / 6, 0.0), origin=0.5)
    torch.testing.assert_close(hard_sigmoid.nngp(zero, zero, zero), zero + 0.25)
    torch.testing.assert_close(hard_sigmoid.derivative(zero, zero, zero), zero + 1 / 36)
