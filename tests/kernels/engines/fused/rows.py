"""Rows of covariances for the tests of activations, and their Gaussian expectations."""

import numpy as np

from ntklens.kernels.engines.fused.codes import LANES

WIDTH = 3


def row(largest):
    """Covariances at any angle, equal inputs among them, Θ, and the standard deviations of x and z."""
    rng = np.random.default_rng(0)
    std_x, std_z = rng.uniform(0.01, largest, WIDTH), rng.uniform(0.01, largest, (WIDTH, LANES))
    cosines = rng.uniform(-1, 1, (WIDTH, LANES))
    std_z[:, 0], cosines[:, 0] = std_x, 1.0
    cosines[:, 1] = 0.0
    return cosines * std_x[:, None] * std_z, rng.uniform(0, 3, (WIDTH, LANES)), std_x, std_z


def expectations(dual, k, theta, std_x, std_z):
    """E[φφ] and Θ E[φ'φ'] by the activation's own formulas."""
    q, p = std_x[:, None] ** 2, std_z**2
    return dual.nngp(k, q, p), theta * dual.derivative(k, q, p)
