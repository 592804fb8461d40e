"""Kernels that depend on norms and angle alone, as Chebyshev series in the angle, on a row of a map."""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.relu import angle_over_root, gap_row
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, convert, full, load, select, sqrt, store, total

TOGETHER = 4
"""Positions whose series are summed side by side; a flat row's width is a multiple."""


@njit(**INLINE)
@no_type_check
def more(y, b1, b2, c):
    """A step of Clenshaw's recurrence."""
    return y * b1 + (full(y, c) - b2)


@njit(**FAST)
@no_type_check
def series_row(out, ys, width, c, n):
    """Σ c_j T_j(y) along a row, n coefficients at least one (Clenshaw 1955); `out` is not `ys`."""
    for p in range(0, width, TOGETHER):
        i = p * LANES
        y0, y1, y2, y3 = load(ys, i), load(ys, i + LANES), load(ys, i + 2 * LANES), load(ys, i + 3 * LANES)
        d0, d1, d2, d3 = y0 + y0, y1 + y1, y2 + y2, y3 + y3
        zero = full(y0, 0.0)
        a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(n - 1, 0, -1):
            a0, b0 = more(d0, a0, b0, c[j]), a0
            a1, b1 = more(d1, a1, b1, c[j]), a1
            a2, b2 = more(d2, a2, b2, c[j]), a2
            a3, b3 = more(d3, a3, b3, c[j]), a3
        store(out, i, more(y0, a0, b0, c[0]))
        store(out, i + LANES, more(y1, a1, b1, c[0]))
        store(out, i + 2 * LANES, more(y2, a2, b2, c[0]))
        store(out, i + 3 * LANES, more(y3, a3, b3, c[0]))


@njit(**FAST)
@no_type_check
def angles_row(ys, gaps, k, width):
    """2 θ / π - 1 along a row of covariances, from their gaps 1 - |cos θ|."""
    for p in range(width):
        i = p * LANES
        g = load(gaps, i)
        half = (2 / math.pi) * (sqrt(g) * angle_over_root(g + g - 1.0))
        store(ys, i, select(load(k, i) < 0.0, 1.0 - half, half - 1.0))


@njit(**FAST)
@no_type_check
def zonal_row(out, products, ys, p1, p2, width, c, n, m, share, room):
    """A row of s N + (s share - 1) M, where s is a product of two standard deviations.

    Args:
        out: a row, replaced.
        products: s, in the precision of the series.
        ys: where the series are taken.
        p1: the standard deviation of x.
        p2: those of z.
        width: positions.
        c: coefficients of N, then of M.
        n: how many of N.
        m: how many of M; 0 without it.
        share: 1 over what s is but for rounding.
        room: for a row in the precision of the series.
    """
    series_row(room, ys, width, c, n)
    for p in range(width):
        i = p * LANES
        store(out, i, convert(load(products, i) * load(room, i), load(out, i)))
    if m:
        series_row(room, ys, width, at(c, n), m)
        for p in range(width):
            i = p * LANES
            apart, value = share * (p1[0] * load(p2, i)) - 1.0, load(out, i)
            store(out, i, value + convert(apart, value) * convert(load(room, i), value))


@njit(**FAST)
@no_type_check
def zonal_row_t(k, t, value, p1, p2, width, c, n, out, room):
    """Back through one series N: K̄ = -w N' / sin θ, and for the standard deviation r of x, times r: w N s - K K̄.

    The cotangent w is K̄ or Θ̄, of which the other is zero. Pairs with sin θ = 0 have no direction to turn in, K̄ = 0.

    Args:
        k: a row of K̄, in place.
        t: the same of Θ̄.
        value: the row of the inputs' covariances.
        p1: the standard deviation of x.
        p2: those of z.
        width: positions.
        c: coefficients of N, then of its derivative by θ.
        n: how many of each.
        out: one number; added to.
        room: for three rows, float64: a series' slope loses digits at its ends.
    """
    slopes, ys = at(room, width * LANES), at(room, 2 * width * LANES)
    gap_row(room, slopes, value, p1, p2, width, 0)
    angles_row(ys, room, value, width)
    for p in range(width):
        g = load(room, p * LANES)
        store(slopes, p * LANES, sqrt(g * (2.0 - g)))
    series_row(room, ys, width, at(c, n), n)
    for p in range(width):
        i = p * LANES
        sine = load(slopes, i)
        regular, zero = sine > 0.0, full(sine, 0.0)
        store(slopes, i, select(regular, (zero - load(room, i)) / select(regular, sine, zero + 1.0), zero))
    series_row(room, ys, width, c, n)
    for p in range(width):
        i = p * LANES
        v = load(value, i)
        w = load(k, i) + convert(load(t, i), v)
        kbar = w * load(slopes, i)
        out[0] += total(w * load(room, i) * (p1[0] * load(p2, i)) - v * kbar)
        store(k, i, kbar)
