"""Rows of covariances for the tests of activations, their Gaussian expectations, and tables of coefficients for them."""

import numpy as np

from ntklens.kernels.engines.fused.codes import LANES, LEAD
from ntklens.kernels.engines.fused.coefficients.entries import fill_entries, octaves_in, take_half_of_rest
from ntklens.kernels.rules import octaves

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


def table(tables, deviations, room, lanes=1, *, of_x, grows=False):
    """The entries of inputs (n, WIDTH): flat, and the numbers of an entry."""
    n, entry = len(deviations), LEAD + room * (2 if grows else 1)
    out = np.zeros(-(-n // lanes) * lanes * WIDTH * entry)
    known = octaves_in(deviations, 0, WIDTH).tolist()
    places = np.full(octaves.HIGHEST - octaves.LOWEST + 1, -1)
    places[np.array(known) - octaves.LOWEST] = range(len(known))
    lengths = np.array([tables.length(k) for k in known])
    series = tables.series(known, room, of_x=of_x)
    sizes = lanes, WIDTH, entry
    beyond = np.zeros(n, bool)
    fill_entries(out, 0, n, *sizes, room, deviations, 0, WIDTH, tables.limit, places, lengths, *series, grows, beyond)
    assert not beyond.any()
    if tables.products(of_x=of_x)[2]:
        take_half_of_rest(out, 0, n, *sizes, 0, WIDTH, *tables.products(of_x=of_x))
    return out, entry


def both_tables(tables, std_x, std_z, *, grows=False):
    """The numbers of an entry of x without their derivatives, and the tables of x and z."""
    x, z = std_x[None].copy(), std_z.T.copy()
    room_x, room_z = tables.room(max(tables.length(k) for s in (x, z) for k in octaves_in(s, 0, WIDTH).tolist()))
    return room_x, table(tables, x, room_x, of_x=True, grows=grows), table(tables, z, room_z, LANES, of_x=False)


def worst(value, truth):
    """The largest difference of two tensors, relative to the largest number."""
    return float((value.double() - truth).abs().max() / truth.abs().max())
