"""Rows of covariances for the tests of activations with kinks away from zero, and what these read of inputs."""

import numpy as np
import torch

from ntklens.kernels.engines.fused import numbers
from ntklens.kernels.engines.fused.codes import LANES

WIDTH = 40


def row(largest):
    """Covariances of near, opposite and any other pairs, Θ, and standard deviations of equal and unequal inputs."""
    rng = np.random.default_rng(0)
    std_x = 10 ** rng.uniform(-1.5, np.log10(largest), WIDTH)
    near = 1 + 10 ** rng.uniform(-6, -1, (WIDTH, LANES))
    std_z = std_x[:, None] * np.where(rng.random((WIDTH, LANES)) < 0.5, near, rng.uniform(0.3, 3, (WIDTH, LANES)))
    std_z = np.minimum(std_z, largest)
    std_z[:, 0] = std_x
    gaps = 10 ** rng.uniform(-6, 0, (WIDTH, LANES))
    cosines = np.where(rng.random((WIDTH, LANES)) < 0.5, 1 - gaps, rng.uniform(-1, 1, (WIDTH, LANES)))
    cosines *= np.sign(rng.uniform(-1, 1, cosines.shape))
    cosines[:, 1] = 0.0
    return cosines * std_x[:, None] * std_z, rng.uniform(0.5, 3, (WIDTH, LANES)), std_x, std_z


def numbers_of(dual, std):
    """What the row reads of the inputs, flat."""
    std = torch.from_numpy(std)
    return torch.stack([std, *numbers.beside(dual, std)]).numpy().reshape(-1)


def expectations(dual, k, std_x, std_z):
    q, p = std_x[:, None] ** 2, std_z**2
    return dual.nngp(k, q, p), dual.derivative(k, q, p)


def scales(dual, std_x, std_z):
    """sqrt(E[φ(u)²] E[φ(v)²]), and likewise of φ'."""
    of_x, of_z = torch.from_numpy(std_x[:, None] ** 2), torch.from_numpy(std_z**2)
    return [
        np.sqrt((f(of_x, of_x, of_x) * f(of_z, of_z, of_z)).numpy()) for f in (dual.nngp, dual.derivative)
    ]  # fmt: skip
