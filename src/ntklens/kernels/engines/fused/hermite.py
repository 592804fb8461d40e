"""Any smooth activation on a row of a map, by its Hermite series, and the way back through it.

With the standard deviations s and r of x and z, c = K / (s r), and the coefficients a_m(s) = E[φ(s ζ) h_m(ζ)] of the
normalised Hermite polynomials h_m (Mehler 1866; Daniely et al. 2016):

    V(c) = E[φφ] = Σ_m a_m(s) a_m(r) c^m,   F = E[φ'φ'] = V'(c) / (s r).

The coefficients belong to one position of one input, and `coefficients.hermite` computes them beforehand, as a table. In
most activations but the first two every second one vanishes. So the machine sums powers of w, and then

    parity 0:  V = P(w),            w = c;
    parity 1:  V = P(w) + a_1 b_1 c,  w = c², for even functions beside a linear one, such as SiLU;
    parity 2:  V = c P(w) + a_0 b_0,  w = c², for odd functions beside a constant, such as tanh and the sigmoid.

A position's entry in a table begins with LEAD numbers: the coefficient that stands alone, 1 / s, and how many terms it
takes beside another of the same variance. A pair takes the larger of its two numbers. A lane that takes fewer than its
neighbours adds zeros until its own first term, so that a sum is the same to the last bit in every block.
"""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES, LEAD
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.vectors import (
    FAST,
    INLINE,
    at,
    convert,
    full,
    largest,
    load,
    maximum,
    select,
    smallest,
    store,
)


@njit(**INLINE)
@no_type_check
def counts_of(of_x, of_z, term_z):
    """Return how many terms each lane takes, and the least and the most of them."""
    own = load(of_z, 2 * term_z)
    counts = maximum(own, full(own, of_x[2]))
    return counts, int(smallest(counts)), int(largest(counts))


@njit(**FAST)
@no_type_check
def hermite_row(nngp, ntk, table_x, table_z, width, step_x, step_z, term_z, parity):
    """Replace K by E[φφ] and Θ by Θ E[φ'φ'] along a row.

    Args:
        nngp: the row of K.
        ntk: the row of Θ.
        table_x: the entry of the row's first position of x, one number after the other.
        table_z: the entry of its first position of z, one vector after the other.
        width: positions.
        step_x: numbers from one position of x to the next, or 0 where all positions share one entry.
        step_z: numbers from one position of z to the next.
        term_z: numbers from one coefficient of z to the next.
        parity: see the module.
    """
    for p in range(width):
        i = p * LANES
        of_x, of_z = at(table_x, p * step_x), at(table_z, p * step_z)
        k, theta = load(nngp, i), load(ntk, i)
        inverse = of_x[1] * load(of_z, term_z)
        c = k * inverse
        w = c * c if parity > 0 else c
        value, slope = full(k, 0.0), full(k, 0.0)  # P and P', by Horner's rule
        counts, least, most = counts_of(of_x, of_z, term_z)
        for t in range(most - 1, least - 1, -1):
            slope = slope * w + value
            term = of_x[LEAD + t] * load(of_z, (LEAD + t) * term_z)
            value = value * w + select(counts > float(t), term, full(k, 0.0))
        for t in range(least - 1, -1, -1):
            slope = slope * w + value
            value = value * w + of_x[LEAD + t] * load(of_z, (LEAD + t) * term_z)
        alone = of_x[0] * load(of_z, 0)
        if parity == 1:
            value, slope = value + alone * c, 2.0 * (c * slope) + alone
        elif parity == 2:
            value, slope = c * value + alone, value + 2.0 * (w * slope)
        store(nngp, i, value)
        store(ntk, i, theta * convert(slope * inverse, theta))


@njit(**FAST)
@no_type_check
def hermite_row_adjoint(
    nngp, ntk, value, tangent, table_x, table_z, width, step_x, step_z, term_z, length, parity, log_std_bar, step
):  # fmt: skip
    """Go back through `hermite_row`, cotangents in place.

    With e_m = sqrt((m + 1) (m + 2)) a_(m+2), which is what da_m / d(log s) has beside m a_m, E(c) = Σ_m e_m(s) a_m(r) c^m,
    and G = Θ̄ Θ:

        K̄ <- K̄ F + G V''(c) / (s r)²,   Θ̄ <- Θ̄ F,   x's log standard deviation gets K̄ E(c) + G E'(c) / (s r).

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        table_x: as in `hermite_row`, with every e_m `length` numbers after a_m.
        table_z: as in `hermite_row`.
        width: as in `hermite_row`.
        step_x: as in `hermite_row`.
        step_z: as in `hermite_row`.
        term_z: as in `hermite_row`.
        length: coefficients for which an entry has room.
        parity: as in `hermite_row`.
        log_std_bar: cotangents of the logarithms of x's standard deviations; added to.
        step: from one position's to the next: 0 or 1.
    """
    for p in range(width):
        i = p * LANES
        of_x, of_z = at(table_x, p * step_x), at(table_z, p * step_z)
        k, k_bar, theta_bar = load(value, i), load(nngp, i), load(ntk, i)
        inverse = of_x[1] * load(of_z, term_z)
        c = k * inverse
        w = c * c if parity > 0 else c
        # P, P' and P'' / 2; and E over c or E, with its slope.
        p0, p1, p2 = full(k, 0.0), full(k, 0.0), full(k, 0.0)
        e0, e1 = full(k, 0.0), full(k, 0.0)
        counts, least, most = counts_of(of_x, of_z, term_z)
        for t in range(most - 1, -1, -1):
            of_term = load(of_z, (LEAD + t) * term_z)
            if t >= least:
                of_term = select(counts > float(t), of_term, full(k, 0.0))
            p2 = p2 * w + p1
            p1 = p1 * w + p0
            p0 = p0 * w + of_x[LEAD + t] * of_term
            e1 = e1 * w + e0
            e0 = e0 * w + of_x[LEAD + length + t] * of_term
        slope, bend, growth, steeper = p1, 2.0 * p2, e0, e1  # V', V'', E and E'
        if parity == 1:
            slope, bend = 2.0 * (c * p1) + of_x[0] * load(of_z, 0), 2.0 * p1 + 8.0 * (w * p2)
            steeper = 2.0 * (c * e1)
        elif parity == 2:
            slope, bend = p0 + 2.0 * (w * p1), c * (6.0 * p1 + 8.0 * (w * p2))
            growth, steeper = c * e0, e0 + 2.0 * (w * e1)
        derivative = slope * inverse
        share = convert(theta_bar * load(tangent, i), k) * inverse
        add_lanes(log_std_bar, p * step, 1.0, k_bar * growth + share * steeper)
        store(nngp, i, k_bar * derivative + share * (bend * inverse))
        store(ntk, i, theta_bar * convert(derivative, theta_bar))
