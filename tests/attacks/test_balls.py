"""Laws of the balls, with hypothesis and against a general-purpose optimiser."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from torch import Tensor

from ntklens.attacks.balls import ascend, lengths, project, random_start

BOUNDS = (0.0, 1.0)
cases = given(st.integers(0, 10_000), st.sampled_from(["linf", "l2"]), st.floats(0.0, 2.0))


def pair(seed: int, n: int = 4, d: int = 6) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, d, generator=g, dtype=torch.float64)
    return x, x + torch.randn(n, d, generator=g, dtype=torch.float64)


def size(delta: Tensor, norm: str) -> Tensor:
    return lengths(delta) if norm == "l2" else delta.flatten(1).abs().max(1).values


@settings(deadline=None, max_examples=60)
@cases
def test_a_projection_lies_in_the_ball_and_the_box_and_stays(seed, norm, eps):
    x, far = pair(seed)
    near = project(far, x, eps, norm, BOUNDS)
    assert (size(near - x, norm) <= eps + 1e-12).all()
    assert ((near >= 0) & (near <= 1)).all()
    torch.testing.assert_close(project(near, x, eps, norm, BOUNDS), near, rtol=0, atol=1e-9)


@settings(deadline=None, max_examples=60)
@cases
def test_ascent_is_the_steepest_of_its_length(seed, norm, eps):
    g, other = pair(seed)
    step = ascend(g, norm)
    assert torch.allclose(size(step, norm), torch.ones(len(g), dtype=g.dtype))
    rival = other / size(other, norm)[:, None]
    assert ((step * g).sum(1) >= (rival * g).sum(1) - 1e-12).all()


def test_ascent_of_a_zero_gradient_is_zero_and_finite():
    for norm in ("linf", "l2"):
        assert torch.equal(ascend(torch.zeros(2, 3), norm), torch.zeros(2, 3))


@pytest.mark.parametrize("seed", range(4))
def test_the_l2_projection_within_the_box_is_the_nearest_point(seed):
    x, far = pair(seed, n=1, d=4)
    eps = 0.5
    near = project(far, x, eps, "l2", BOUNDS)[0].numpy()
    start, goal = x[0].numpy(), far[0].numpy()
    ball = {"type": "ineq", "fun": lambda z: eps**2 - ((z - start) ** 2).sum()}
    best = minimize(lambda z: ((z - goal) ** 2).sum(), start, bounds=[BOUNDS] * 4, constraints=[ball], tol=1e-14)
    assert ((near - goal) ** 2).sum() <= best.fun + 1e-7
    assert np.allclose(near, best.x, atol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_fill_the_ball_and_follow_the_seed(norm):
    x = torch.full((3000, 2), 0.5, dtype=torch.float64)
    start = random_start(x, 0.1, norm, BOUNDS, torch.Generator().manual_seed(0))
    r = size(start - x, norm) / 0.1
    assert (r <= 1 + 1e-12).all()
    inner = (r < 0.5**0.5).double().mean()  # half of the area, in two dimensions
    assert abs(inner - 0.5) < 4 * (0.25 / 3000) ** 0.5
    assert torch.equal(start, random_start(x, 0.1, norm, BOUNDS, torch.Generator().manual_seed(0)))
