"""Kernels that depend on norms and angle alone, as Chebyshev series in the angle, on a row of a map.

With y = 2 θ / π - 1 on [-1, 1], a kernel over the product s of the two inputs' standard deviations is N(y) = Σ c_j T_j(y).
The sum is taken by Clenshaw's recurrence (1955), which needs no T_j:

    b_j = c_j + 2 y b_{j+1} - b_{j+2} for j = n - 1, ..., 1,   N(y) = c_0 + y b_1 - b_2.
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.relu import angle_over_root, gap_row
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, convert, full, load, select, sqrt, store

TOGETHER = 4
"""Positions whose series are summed side by side, so that the steps of one recurrence need not wait for one another.

The width of a flat row is a multiple of it.
"""


@njit(**INLINE)
@no_type_check
def clenshaw_step(y, b1, b2, c):
    """Return y b1 + c - b2, with 2 y for y in all steps but the last."""
    return y * b1 + (full(y, c) - b2)


@njit(**FAST)
@no_type_check
def series_row(out, ys, width, c, n):
    """Write Σ c_j T_j(y) along a row, with n >= 1 coefficients c; `out` is not `ys`."""
    for p in range(0, width, TOGETHER):
        i = p * LANES
        y0, y1, y2, y3 = load(ys, i), load(ys, i + LANES), load(ys, i + 2 * LANES), load(ys, i + 3 * LANES)
        d0, d1, d2, d3 = y0 + y0, y1 + y1, y2 + y2, y3 + y3
        # For each of the four positions, a is b_{j+1} and b is b_{j+2}.
        zero = full(y0, 0.0)
        a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(n - 1, 0, -1):
            a0, b0 = clenshaw_step(d0, a0, b0, c[j]), a0
            a1, b1 = clenshaw_step(d1, a1, b1, c[j]), a1
            a2, b2 = clenshaw_step(d2, a2, b2, c[j]), a2
            a3, b3 = clenshaw_step(d3, a3, b3, c[j]), a3
        store(out, i, clenshaw_step(y0, a0, b0, c[0]))
        store(out, i + LANES, clenshaw_step(y1, a1, b1, c[0]))
        store(out, i + 2 * LANES, clenshaw_step(y2, a2, b2, c[0]))
        store(out, i + 3 * LANES, clenshaw_step(y3, a3, b3, c[0]))


@njit(**FAST)
@no_type_check
def angles_row(ys, gaps, nngp, width):
    """Write y = 2 θ / π - 1 along a row of covariances, from their gaps g = 1 - |cos θ|."""
    for p in range(width):
        i = p * LANES
        g = load(gaps, i)
        # arccos |cos θ| is θ itself, or π - θ for a negative covariance, for which y changes its sign.
        acute = (2 / math.pi) * (sqrt(g) * angle_over_root(g + g - 1.0))
        store(ys, i, select(load(nngp, i) < 0.0, 1.0 - acute, acute - 1.0))


@njit(**FAST)
@no_type_check
def zonal_row(out, products, ys, std_x, std_z, width, c, n_terms, n_drift_terms, inverse_square, scratch):
    """Write a row of s N(y) + (s / q - 1) M(y), where s is the product of the two standard deviations.

    M is what the kernel gains per relative growth of s beyond the share that is proportional to s. It corrects for
    inputs that share the mean square q only up to rounding; a homogeneous kernel has no M.

    Args:
        out: the row.
        products: s, in the precision of the series.
        ys: y, in the precision of the series.
        std_x: the standard deviation of x.
        std_z: the standard deviations of z, one vector per position.
        width: positions.
        c: coefficients of N, then of M.
        n_terms: number of coefficients of N.
        n_drift_terms: number of coefficients of M, or 0 without it.
        inverse_square: 1 / q.
        scratch: one row in the precision of the series.
    """
    series_row(scratch, ys, width, c, n_terms)
    for p in range(width):
        i = p * LANES
        store(out, i, convert(load(products, i) * load(scratch, i), load(out, i)))
    if n_drift_terms:
        series_row(scratch, ys, width, at(c, n_terms), n_drift_terms)
        for p in range(width):
            i = p * LANES
            # s / q - 1 is of the size of rounding, so s is taken again in float64.
            growth, value = inverse_square * (std_x[0] * load(std_z, i)) - 1.0, load(out, i)
            store(out, i, value + convert(growth, value) * convert(load(scratch, i), value))


@njit(**FAST)
@no_type_check
def zonal_row_adjoint(nngp, ntk, value, std_x, std_z, width, c, n_terms, log_std_bar, scratch):
    """Go back through s N(θ), where cos θ = K / s for the inputs' covariance K, to K and to x's standard deviation.

    With dθ / dK = -1 / (s sin θ) and dθ / d(log s) = K / (s sin θ), and with w for the cotangent of the kernel,

        K̄ = -w N'(θ) / sin θ,   and x's log standard deviation gets w s N - K K̄.

    A pair with sin θ = 0 has no direction in which to turn, and K̄ is set to 0.

    Args:
        nngp: the row of the NNGP's cotangents; replaced by K̄.
        ntk: the row of the NTK's cotangents. One of the two rows is zero, and w is their sum.
        value: the row of the inputs' covariances.
        std_x: the standard deviation of x.
        std_z: the standard deviations of z, one vector per position.
        width: positions.
        c: coefficients of N, then of N'.
        n_terms: number of coefficients of each.
        log_std_bar: cotangent of the logarithm of `std_x`, one number; added to.
        scratch: three rows, float64: a series' slope loses digits at the ends of its interval.
    """
    # Rows of scratch: gaps, then N', then N; products s, then sin θ, then -N' / sin θ; and y.
    series, slopes, ys = scratch, at(scratch, width * LANES), at(scratch, 2 * width * LANES)
    gap_row(series, slopes, value, std_x, std_z, width, 0)
    angles_row(ys, series, value, width)
    for p in range(width):
        g = load(series, p * LANES)
        store(slopes, p * LANES, sqrt(g * (2.0 - g)))  # sin θ, as sin² θ = 1 - (1 - g)²
    series_row(series, ys, width, at(c, n_terms), n_terms)
    for p in range(width):
        i = p * LANES
        sine = load(slopes, i)
        regular, zero = sine > 0.0, full(sine, 0.0)
        store(slopes, i, select(regular, (zero - load(series, i)) / select(regular, sine, zero + 1.0), zero))
    series_row(series, ys, width, c, n_terms)
    for p in range(width):
        i = p * LANES
        k = load(value, i)
        w = load(nngp, i) + convert(load(ntk, i), k)
        k_bar = w * load(slopes, i)
        add_lanes(log_std_bar, 0, 1.0, w * load(series, i) * (std_x[0] * load(std_z, i)) - k * k_bar)
        store(nngp, i, k_bar)
