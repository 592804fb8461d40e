"""Ranges of products in a part of a ball: never too small, and near what sampling and linear programming find."""

import pytest
import torch
from scipy.optimize import linprog

from ntklens.bounds.where import ranges_in_ball, ranges_in_box


def drawn(seed=0, d=12, n=6):
    g = torch.Generator().manual_seed(seed)
    rows, gradient = (
        torch.randn(n, d, generator=g, dtype=torch.float64),
        torch.randn(d, generator=g, dtype=torch.float64),
    )
    return rows, gradient, 0.1 + torch.rand(d, generator=g, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0, 3.0])
def test_ranges_in_a_box_are_those_of_a_linear_program(share):
    rows, gradient, half = drawn()
    gradient[3] = 0.0  # a pixel that is free to move
    slack = share * float((half * gradient.abs()).sum())
    low, high = ranges_in_box(rows, half, gradient, slack)
    limit = float(slack - (half * gradient.abs()).sum())
    for i, row in enumerate(rows):
        for sign, found in ((1.0, low[i]), (-1.0, -high[i])):
            best = linprog(
                sign * row.numpy(), gradient.numpy()[None], [limit], bounds=[(-h, h) for h in half.tolist()]
            ).fun
            assert float(found) <= best + 1e-9
            assert float(found) == pytest.approx(best, abs=2e-2 * float(row.abs() @ half))


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0, 3.0])
def test_ranges_in_a_ball_enclose_its_cap(share):
    rows, gradient, _ = drawn(1, d=4)
    radius, size = 0.7, float(gradient.norm())
    low, high = ranges_in_ball(rows, radius, gradient, share * radius * size)
    g = torch.Generator().manual_seed(2)
    points = torch.randn(200_000, 4, generator=g, dtype=torch.float64)
    points = radius * points / points.norm(dim=1, keepdim=True)
    points = torch.cat([points, -radius * gradient[None] / size])
    inside = points[points @ gradient <= -radius * size * (1 - share) + 1e-12]
    values = inside @ rows.T
    assert (values.amin(0) >= low - 1e-9).all()
    assert (values.amax(0) <= high + 1e-9).all()
    if len(inside) > 1000:
        assert values.amax(0).numpy() == pytest.approx(high.numpy(), abs=0.05)


def test_without_a_gradient_the_whole_ball_is_left():
    rows, _, half = drawn()
    zero = torch.zeros(12, dtype=torch.float64)
    low, high = ranges_in_box(rows, half, zero, 0.0)
    assert high.numpy() == pytest.approx((rows.abs() @ half).numpy())
    assert low.numpy() == pytest.approx(-high.numpy())
    assert ranges_in_ball(rows, 2.0, zero, 0.0)[1].numpy() == pytest.approx((2 * rows.norm(dim=1)).numpy())
