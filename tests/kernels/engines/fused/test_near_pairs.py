import numpy as np
import pytest

from ntklens.kernels.engines.fused import near_pairs

D = 40


def batch(n: int, dtype, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((n, D)).astype(dtype)


def squares(x):
    out = np.empty(len(x))
    near_pairs.squares(out, x)
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squares_are_in_float64(dtype):
    x = batch(5, dtype)
    np.testing.assert_allclose(squares(x), (x.astype(np.float64) ** 2).mean(1), rtol=1e-14)


@pytest.mark.parametrize("n", [3, 16, 300], ids=["less than the lanes", "a whole number of them", "two stretches"])
def test_near_pairs_are_multiplied_again_and_far_ones_are_not(n):
    x, z = batch(4, np.float32), batch(n, np.float32, 1)
    z[1], z[2] = x[0] + 1e-3 * z[1], -x[3]
    wrong = np.full((4, n), 0.5, np.float32) * (np.abs(x @ z.T) > 0)
    wrong[0, 1] = wrong[3, 2] = 0  # the near pairs are found by the product that is given
    product = wrong.copy()
    product[0, 1], product[3, 2] = x[0] @ z[1], x[3] @ z[2]
    panel = np.empty((4, n))
    near_pairs.refine(panel, product, x, z, squares(x), squares(z), 0.02)
    exact = x.astype(np.float64) @ z.astype(np.float64).T / D
    np.testing.assert_allclose([panel[0, 1], panel[3, 2]], [exact[0, 1], exact[3, 2]], rtol=1e-14)
    far = wrong > 0
    np.testing.assert_array_equal(panel[far], (1.0 / D) * wrong[far].astype(np.float64))


def test_cotangents_of_near_pairs_go_to_x_and_the_others_are_left():
    x, z = batch(3, np.float32), batch(6, np.float32, 1)
    z[4] = 2 * x[1]
    panel, square1, square2 = np.empty((3, 6)), squares(x), squares(z)
    near_pairs.refine(panel, x @ z.T, x, z, square1, square2, 0.02)
    panel_bar = np.random.default_rng(2).standard_normal((3, 6))
    far, x_bar = np.empty((3, 6), np.float32), np.zeros((3, D))
    near_pairs.split(far, x_bar, panel_bar, panel, z, square1, square2, 0.02)
    expected = panel_bar.astype(np.float32)
    expected[1, 4] = 0
    np.testing.assert_array_equal(far, expected)
    np.testing.assert_allclose(x_bar[1], panel_bar[1, 4] * z[4].astype(np.float64), rtol=1e-14)
    assert not x_bar[[0, 2]].any()
