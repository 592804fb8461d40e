"""Activations with a corner at zero on a row of a map, by series in the angle of two inputs, and the way back through them.

With the standard deviations s and r of x and z, c = K / (s r) and θ = arccos c, `coefficients.corner` gives

    V = E[φφ] = V0 - (1 - c) H(θ),   F = E[φ'φ'] = F0 - m G(θ),

with m = 1 - c for a round corner, where the slope goes on, and m = θ for a sharp one, where it jumps. H and G are
Chebyshev series in y = 2 θ / π - 1, summed by Clenshaw's recurrence; their coefficients, V0 and F0 are sums of a few
products of a number of x and one of z. 1 - c is taken from the gap g = 1 - |c|, so that what V lacks to V0 keeps its digits
in near pairs.

An entry of x in a table begins with LEAD numbers: half of what the products lack to E[φ(u)²], 1 / s, and the length of the
series beside another of the same variance. Then come the numbers of products of V0, F0, and each coefficient of H and G;
E[φ'(u)]; the numbers of V0, F0, and of z's V0 for the same variance, which only the making of the table reads; and those of
H and G, coefficient by coefficient. An entry of z has the LEAD numbers, E[φ'(v)], the numbers of V0, F0, H and G, and those
of x's V0.

Beside an input of variance 0, whose slope is that of torch at 0, F is E[φ'(u)] E[φ'(v)].
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES, LEAD
from ntklens.kernels.engines.fused.hermite import counts_of
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.relu import angle_over_root, gap
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, convert, full, load, select, sqrt, store

SIZES = 4
"""Numbers of an entry of x that say how many products there are; the mean slope follows."""


@njit(**INLINE)
@no_type_check
def _sum(of_x, of_z, term_z, n):
    """Return the sum of n products of a number of x and one of z."""
    total = of_x[0] * load(of_z, 0)
    for a in range(1, n):
        total = total + of_x[a] * load(of_z, a * term_z)
    return total


@njit(**INLINE)
@no_type_check
def _four_sums(of_x, step_x, of_z, term_z, n):
    """Return four such sums, with z's numbers in common and x's `step_x` apart: four chains that need not wait."""
    v = load(of_z, 0)
    a, b, c, d = of_x[0] * v, of_x[step_x] * v, of_x[2 * step_x] * v, of_x[3 * step_x] * v
    for i in range(1, n):
        v = load(of_z, i * term_z)
        x = at(of_x, i)
        a, b = a + x[0] * v, b + x[step_x] * v
        c, d = c + x[2 * step_x] * v, d + x[3 * step_x] * v
    return a, b, c, d


@njit(**INLINE)
@no_type_check
def _counted(counts, j, four):
    """Return terms j to j + 3 of a series, with zeros for those that a lane does not count."""
    a, b, c, d = four
    zero = full(a, 0.0)
    return (
        select(counts > float(j), a, zero),
        select(counts > float(j + 1), b, zero),
        select(counts > float(j + 2), c, zero),
        select(counts > float(j + 3), d, zero),
    )


@njit(**INLINE)
@no_type_check
def _clenshaw(b1, b2, twice, four):
    """Return b_j and b_(j+1) from b_(j+4) and b_(j+5), with the terms j to j + 3 and 2 y."""
    a, b, c, d = four
    b1, b2 = twice * b1 + (d - b2), b1
    b1, b2 = twice * b1 + (c - b2), b1
    b1, b2 = twice * b1 + (b - b2), b1
    return twice * b1 + (a - b2), b1


@njit(**INLINE)
@no_type_check
def _parts(of_x, of_z, term_z):
    """Return where the parts of an entry of x and of one of z begin, and how many products they take.

    Returns:
        The numbers of V0, F0 and the series of x; those of V0, F0, H and G of z; and how many products V0, F0, and each
        coefficient of H and of G take.
    """
    # The counts have been interpolated like the other numbers, and so rounded.
    n_v, n_f = int(of_x[LEAD] + 0.5), int(of_x[LEAD + 1] + 0.5)
    n_h, n_g = int(of_x[LEAD + 2] + 0.5), int(of_x[LEAD + 3] + 0.5)
    x_v, z_v = at(of_x, LEAD + SIZES + 1), at(of_z, (LEAD + 1) * term_z)
    z_f = at(z_v, n_v * term_z)
    z_h = at(z_f, n_f * term_z)
    z_g = at(z_h, n_h * term_z)
    return x_v, at(x_v, n_v), at(x_v, 2 * n_v + n_f), z_v, z_f, z_h, z_g, n_v, n_f, n_h, n_g


@njit(**INLINE)
@no_type_check
def _angle(k, s):
    """Return the gap, 1 - c, θ and y of a covariance, with the product s of the standard deviations."""
    g = gap(k, s, s)
    acute = sqrt(g) * angle_over_root(g + g - 1.0)
    is_far = k < 0.0
    theta = select(is_far, math.pi - acute, acute)
    return g, select(is_far, 2.0 - g, g), theta, (2 / math.pi) * theta - 1.0


@njit(**FAST)
@no_type_check
def corner_row(nngp, ntk, std_x, std_z, width, step, table_x, table_z, step_x, step_z, term_z, sharp):
    """Replace K by E[φφ] and Θ by Θ E[φ'φ'] along a row.

    Args:
        nngp: the row of K.
        ntk: the row of Θ.
        std_x: standard deviations of x, one number per position, or one for all positions with step 0.
        std_z: standard deviations of z, one vector per position.
        width: positions.
        step: 0 or 1.
        table_x: the entry of the row's first position of x, one number after the other.
        table_z: the entry of its first position of z, one vector after the other.
        step_x: numbers from one position of x to the next, or 0 where all positions share one entry.
        step_z: numbers from one position of z to the next.
        term_z: numbers from one number of z to the next.
        sharp: whether the slope jumps.
    """
    for p in range(width):
        i = p * LANES
        of_x, of_z = at(table_x, p * step_x), at(table_z, p * step_z)
        k, theta = load(nngp, i), load(ntk, i)
        s = std_x[p * step] * load(std_z, i)
        _gap, lack, angle, y = _angle(k, s)
        x_v, x_f, x_series, z_v, z_f, z_h, z_g, n_v, n_f, n_h, n_g = _parts(of_x, of_z, term_z)
        counts, least, most = counts_of(of_x, of_z, term_z)
        # For H, then for G: b_j and b_(j+1).
        zero, twice, step_j = full(k, 0.0), y + y, n_h + n_g
        h1, h2, g1, g2 = zero, zero, zero, zero
        for j in range(4 * ((most - 1) // 4), -1, -4):
            x_j = at(x_series, j * step_j)
            of_h = _four_sums(x_j, step_j, z_h, term_z, n_h)
            of_g = _four_sums(at(x_j, n_h), step_j, z_g, term_z, n_g)
            if j + 4 > least:
                of_h, of_g = _counted(counts, j, of_h), _counted(counts, j, of_g)
            h1, h2 = _clenshaw(h1, h2, twice, of_h)
            g1, g2 = _clenshaw(g1, g2, twice, of_g)
        # b_0 has 2 y where the sum has y.
        h, of_g = h1 - y * h2, g1 - y * g2
        value = of_x[0] + load(of_z, 0) + _sum(x_v, z_v, term_z, n_v)
        m = angle if sharp else lack
        slope = _sum(x_f, z_f, term_z, n_f) - m * of_g
        slope = select(s > 0.0, slope, of_x[LEAD + SIZES] * load(of_z, LEAD * term_z))
        store(nngp, i, value - lack * h)
        store(ntk, i, theta * convert(slope, theta))


@njit(**FAST)
@no_type_check
def corner_row_adjoint(
    nngp, ntk, value, tangent, std_x, std_z, width, step, table_x, table_z, step_x, step_z, term_z, room, sharp,
    log_std_bar,
):  # fmt: skip
    """Go back through `corner_row`, cotangents in place.

    With dθ / dK = -1 / (s r sin θ), and with a dot for the derivative by x's log standard deviation at fixed θ,

        dF / dK = (G + θ G') / (s r sin θ) for a sharp corner, (G + tan(θ/2) G') / (s r) for a round one,
        K̄ <- K̄ F + Θ̄ Θ dF/dK,   Θ̄ <- Θ̄ F,
        x's log standard deviation gets K̄ (V0˙ - (1 - c) H˙ - K F) + Θ̄ Θ (F0˙ - m G˙ - K dF/dK).

    A pair at a sharp corner with θ = 0 has no direction in which to turn, and dF / dK is set to 0.

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        std_x: as in `corner_row`.
        std_z: as in `corner_row`.
        width: as in `corner_row`.
        step: as in `corner_row`.
        table_x: as in `corner_row`, with the derivative of every number `room` numbers after it.
        table_z: as in `corner_row`.
        step_x: as in `corner_row`.
        step_z: as in `corner_row`.
        term_z: as in `corner_row`.
        room: numbers of an entry of x after the first LEAD, without the derivatives.
        sharp: as in `corner_row`.
        log_std_bar: cotangents of the logarithms of x's standard deviations; added to.
    """
    for p in range(width):
        i = p * LANES
        of_x, of_z = at(table_x, p * step_x), at(table_z, p * step_z)
        k, k_bar, theta_bar = load(value, i), load(nngp, i), load(ntk, i)
        s = std_x[p * step] * load(std_z, i)
        g, lack, angle, y = _angle(k, s)
        x_v, x_f, x_series, z_v, z_f, z_h, z_g, n_v, n_f, n_h, n_g = _parts(of_x, of_z, term_z)
        counts, least, most = counts_of(of_x, of_z, term_z)
        zero, twice, step_j = full(k, 0.0), y + y, n_h + n_g
        # b_j and b_(j+1) of G, of its slope in y, and of the derivatives of H and G.
        b1, b2, d1, d2, h1, h2, g1, g2 = zero, zero, zero, zero, zero, zero, zero, zero
        for j in range(4 * ((most - 1) // 4), -1, -4):
            x_j = at(x_series, j * step_j)
            terms = _four_sums(at(x_j, n_h), step_j, z_g, term_z, n_g)
            of_h = _four_sums(at(x_j, room), step_j, z_h, term_z, n_h)
            of_g = _four_sums(at(x_j, room + n_h), step_j, z_g, term_z, n_g)
            if j + 4 > least:
                terms = _counted(counts, j, terms)
                of_h, of_g = _counted(counts, j, of_h), _counted(counts, j, of_g)
            for term in (terms[3], terms[2], terms[1], terms[0]):
                d1, d2 = twice * d1 + (b1 + b1 - d2), d1
                b1, b2 = twice * b1 + (term - b2), b1
            h1, h2 = _clenshaw(h1, h2, twice, of_h)
            g1, g2 = _clenshaw(g1, g2, twice, of_g)
        # b_0 has 2 y where the sum has y, and its slope 2 b_1 where that of the sum has b_1.
        bend = (2 / math.pi) * (d1 - y * d2 - b2)  # G' by the angle
        series, h_dot, g_dot = b1 - y * b2, h1 - y * h2, g1 - y * g2
        v_dot, f_dot = _sum(at(x_v, room), z_v, term_z, n_v), _sum(at(x_f, room), z_f, term_z, n_f)
        m = angle if sharp else lack
        varies, of_mean = s > 0.0, load(of_z, LEAD * term_z)
        slope = _sum(x_f, z_f, term_z, n_f) - m * series
        slope = select(varies, slope, of_x[LEAD + SIZES] * of_mean)
        sine = sqrt(g * (2.0 - g))
        turns = sine > 0.0
        over = select(turns, 1.0 / select(turns, sine, zero + 1.0), zero)
        inverse = of_x[1] * load(of_z, term_z)
        change = inverse * ((series + angle * bend) * over if sharp else series + (lack * over) * bend)
        weight = convert(theta_bar * load(tangent, i), k)
        in_value = v_dot - lack * h_dot - k * slope
        change = select(varies, change, zero)
        in_slope = select(varies, f_dot - m * g_dot - k * change, of_x[LEAD + SIZES + room] * of_mean)
        add_lanes(log_std_bar, p * step, 1.0, k_bar * in_value + weight * in_slope)
        store(nngp, i, k_bar * slope + weight * change)
        store(ntk, i, theta_bar * convert(slope, theta_bar))
