"""Hardswish on a row of a map, and the way back through it.

`ntklens.kernels.rules.hardswish` tells the formulas, whose names are those below. Everything is in float64, also where Θ is
float32: the integrals are differences of larger numbers. What is read of an input, `step_x` and `step_z` numbers or vectors
apart, are its standard deviation and then the numbers of `Side`. Vectors of one input stand together in a tuple.

Names: `k` and `theta` are vectors of K and Θ, `k_bar` and `theta_bar` of their cotangents K̄ and Θ̄.
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.relu import gap
from ntklens.kernels.engines.fused.tails import exponential, tail
from ntklens.kernels.engines.fused.vectors import (
    FAST,
    INLINE,
    absolute,
    at,
    convert,
    full,
    load,
    maximum,
    minimum,
    select,
    sqrt,
    store,
)
from ntklens.kernels.engines.fused.wedges import wedge
from ntklens.kernels.rules.hardswish import KINK

_THIRD = 1.0 / KINK


@njit(**INLINE)
@no_type_check
def _of_x(x, step, k):
    """Return the vectors of x, whose lanes are equal unless pairs are packed."""
    zero = full(k, 0.0)
    return (
        zero + x[0], zero + x[step], zero + x[2 * step], zero + x[3 * step],
        zero + x[4 * step], zero + x[5 * step], zero + x[6 * step], zero + x[7 * step],
    )  # fmt: skip


@njit(**INLINE)
@no_type_check
def _of_z(z, step):
    """Return the vectors of z."""
    return (
        load(z, 0), load(z, step), load(z, 2 * step), load(z, 3 * step),
        load(z, 4 * step), load(z, 5 * step), load(z, 6 * step), load(z, 7 * step),
    )  # fmt: skip


@njit(**INLINE)
@no_type_check
def _probability(place, sine):
    """Return Q(ζ) from ζ σ."""
    zeta = place / maximum(sine, full(sine, 1e-150))
    return tail(maximum(minimum(zeta, full(sine, 50.0)), full(sine, -50.0)))


@njit(**INLINE)
@no_type_check
def _corner(x, z, size, g, lack, near, far, opposite):
    """Return κ, p, (s r σ)² p, J_0, J_1, J_2, P, Q(ζ), Q(ζ'), X_01, X_10, X_12 and X_21 of a corner.

    Args:
        x: the vectors of x.
        z: the vectors of z.
        size: |K|.
        g: the gap.
        lack: d.
        near: A.
        far: B.
        opposite: whether the corner is that of v < -t; a constant of the compiled code.
    """
    nothing, scale, t = full(g, 0.0), x[0] * z[0], 0.5 * g
    sine = sqrt(g * (2.0 - g))
    smaller = minimum(x[2], z[2])
    factor, sum0, sum1, sum2 = wedge(near, far, t)
    j0 = minimum(maximum(factor * sum0, nothing), smaller)
    j1 = lack * minimum(maximum(factor * sum1, nothing), smaller)
    j2 = (0.5 * (lack * lack)) * minimum(maximum(factor * sum2, nothing), smaller)
    exponent = -1.0 * (near / maximum(t, full(g, 1e-20)) + far / (1.0 - t))
    of_corner = select(g > 0.0, exponential(maximum(exponent, full(g, -1e4))), nothing)
    dp, divisor = (0.5 / math.pi) * ((scale * sine) * of_corner), (2.0 * math.pi) * (scale * sine)
    p = select(divisor > 0.0, of_corner / select(divisor > 0.0, divisor, full(g, 1.0)), nothing)
    if opposite:
        kappa, chance, total = -1.0 * size, j0, x[1] + z[1]
        place_x, place_z = total - g * x[1], total - g * z[1]
    else:
        kappa, chance, difference = 1.0 * size, smaller - j0, x[1] - z[1]
        place_x, place_z = g * x[1] - difference, g * z[1] + difference
    q, q_other = _probability(place_x, sine), _probability(place_z, sine)
    u, v = (x[0] * x[3]) * q, (z[0] * z[3]) * q_other
    x01 = kappa * ((_THIRD * (x[3] * x[1])) * q) + v - KINK * chance
    x10 = kappa * ((_THIRD * (z[3] * z[1])) * q_other) + u - KINK * chance
    x11 = (kappa + KINK**2) * chance - KINK * (u + v) + dp
    x12 = 0.5 * ((kappa * x01 + (z[0] * z[0]) * x10) - KINK * x11)
    x21 = 0.5 * ((kappa * x10 + (x[0] * x[0]) * x01) - KINK * x11)
    return kappa, p, dp, j0, j1, j2, chance, q, q_other, x01, x10, x12, x21


@njit(**INLINE)
@no_type_check
def _corners(k, x, z):
    """Return |K|, d, and what is known of both corners."""
    scale = x[0] * z[0]
    g = gap(k, scale, scale)
    lack = select(g > 0.0, scale - absolute(k), full(k, 0.0))
    size = select(g > 0.0, absolute(k), scale)
    difference, total = x[1] - z[1], x[1] + z[1]
    near, far = 0.125 * (difference * difference), 0.125 * (total * total)
    return (
        size, lack, _corner(x, z, size, g, lack, near, far, False), _corner(x, z, size, g, lack, far, near, True)
    )  # fmt: skip


@njit(**INLINE)
@no_type_check
def _parallel(x, z):
    """Return V° and F°."""
    is_x, scale = x[1] < z[1], x[0] * z[0]
    std, far = select(is_x, z[0], x[0]), select(is_x, z[1], x[1])  # of the input with the smaller standard deviation
    beyond, normal = select(is_x, z[2], x[2]), select(is_x, z[3], x[3])
    growth = absolute(z[6] - x[6])
    value = (scale * scale) * ((1.0 / 36.0) * select(is_x, x[7], z[7])) + (1.0 / 12.0) * ((scale * std) * growth)
    slope = (1.0 / 9.0) * (scale * select(is_x, x[5], z[5])) + (1.0 / 6.0) * (std * absolute(z[4] - x[4]))
    return value + 0.5 * (scale * (beyond + far * normal)), slope + 0.5 * beyond


@njit(**INLINE)
@no_type_check
def _within(lack, density, first, second):
    """Return integrals over κ of half the density that one input is at a kink, and the other within them; bounded."""
    nothing, most, more = full(lack, 0.0), lack * density, (0.5 * (lack * lack)) * density
    return minimum(maximum(most - first, nothing), most), minimum(maximum(more - second, nothing), more)


@njit(**INLINE)
@no_type_check
def _expectations(x, z, lack, plus, minus):
    """Return V and F."""
    scale, is_x = x[0] * z[0], x[1] < z[1]
    # X° of parallel inputs.
    far, beyond, normal = select(is_x, z[1], x[1]), select(is_x, z[2], x[2]), select(is_x, z[3], x[3])
    x01, x10 = z[0] * normal - KINK * beyond, x[0] * normal - KINK * beyond
    x11 = (scale + KINK**2) * beyond + (scale * far - KINK * (x[0] + z[0])) * normal
    x12 = 0.5 * ((scale * x01 + (z[0] * z[0]) * x10) - KINK * x11)
    x21 = 0.5 * ((scale * x10 + (x[0] * x[0]) * x01) - KINK * x11)
    first, second = (x01 - plus[9]) + minus[9], ((plus[11] - x12) + lack * x01) + minus[11]
    of_x = _within(lack, _THIRD * (x[3] * x[1]), first, second)
    first, second = (x10 - plus[10]) + minus[10], ((plus[12] - x21) + lack * x10) + minus[12]
    of_z = _within(lack, _THIRD * (z[3] * z[1]), first, second)
    inside = 1.0 - 2.0 * maximum(x[2], z[2])
    y = (1.0 / 9.0) * (lack * inside - 2.0 * (plus[4] - minus[4])) + 0.5 * (plus[3] + minus[3])
    moment = (1.0 / 9.0) * ((0.5 * (lack * lack)) * inside - 2.0 * (plus[5] - minus[5])) + 0.5 * (plus[4] + minus[4])
    value, slope = _parallel(x, z)
    added = moment - _THIRD * (of_x[1] + of_z[1])
    return (value - lack * slope) + added, slope - (y - _THIRD * (of_x[0] + of_z[0]))


@njit(**FAST)
@no_type_check
def hardswish_row(nngp, ntk, of_x, of_z, width, step, step_x, step_z):
    """Replace K by E[φφ] and Θ by Θ E[φ'φ'] along a row.

    Args:
        nngp: the row of K.
        ntk: the row of Θ.
        of_x: numbers of x at each position, or at one for all with step 0.
        of_z: vectors of numbers of z at each position.
        width: positions.
        step: 0 or 1.
        step_x: from one number of x at a position to the next.
        step_z: likewise of z.
    """
    for p in range(width):
        i = p * LANES
        k, theta = load(nngp, i), load(ntk, i)
        x, z = _of_x(at(of_x, p * step), step_x, k), _of_z(at(of_z, i), step_z)
        _, lack, plus, minus = _corners(k, x, z)
        value, slope = _expectations(x, z, lack, plus, minus)
        store(ntk, i, theta * convert(0.25 + select(k < 0.0, -1.0 * slope, slope), theta))
        store(nngp, i, 0.25 * k + value)


@njit(**INLINE)
@no_type_check
def _curvature(x, z, plus, minus):
    """Return W, without p+ of coincident pairs."""
    inside = (1.0 - 2.0 * maximum(x[2], z[2])) - 2.0 * (plus[3] - minus[3])
    at_x = (_THIRD * (x[3] * x[1])) * ((1.0 - plus[7]) - minus[7])
    at_z = (_THIRD * (z[3] * z[1])) * ((1.0 - plus[8]) - minus[8])
    return (1.0 / 9.0) * inside - _THIRD * (at_x + at_z) + 0.5 * (plus[1] + minus[1])


@njit(**INLINE)
@no_type_check
def _of_corner(corner, sign, z, density, inverse, mean, wide):
    """Return a corner's shares of E[e; u > t], E[e'; u > t], n(a) / s E[e | u = t] and n(a) / s E[e' | u = t], all at v."""
    distance, spread = sign * mean - KINK, corner[2] * (inverse * inverse)
    h1 = (density * distance) * corner[7] + spread
    h2 = 0.5 * ((density * (distance * distance + wide)) * corner[7] + distance * spread)
    x02 = 0.5 * (((z[0] * z[0]) * corner[6] + corner[0] * h1) - KINK * corner[9])
    return (
        0.5 * corner[9] + _THIRD * x02, sign * (0.5 * corner[6] + _THIRD * corner[9]),
        0.5 * h1 + _THIRD * h2, sign * (0.5 * (density * corner[7]) + _THIRD * h1),
    )  # fmt: skip


@njit(**INLINE)
@no_type_check
def _by_std(x, z, size, slope, curvature, plus, minus):
    """Return the derivatives of V and F by the logarithm of x's standard deviation."""
    density, inverse = _THIRD * (x[3] * x[1]), _THIRD * x[1]
    slant = size * inverse  # k / s
    mean, squared, of_z = slant * x[1], slant * slant, z[0] * z[0]
    wide = maximum(of_z - squared, full(size, 0.0))
    of_plus = _of_corner(plus, 1.0, z, density, inverse, mean, wide)
    of_minus = _of_corner(minus, -1.0, z, density, inverse, mean, wide)
    beyond = (1.0 / 6.0) * (of_z * x[2] + squared * (x[1] * x[3])) - (of_plus[0] + of_minus[0])
    beyond_slope = _THIRD * (size * density) - (of_plus[1] + of_minus[1])
    at_kink = (1.0 / 6.0) * (density * (mean * mean + wide)) - (of_plus[2] + of_minus[2])
    at_kink_slope = _THIRD * (density * mean) - (of_plus[3] + of_minus[3])
    mean_value = (1.0 / 6.0) * (of_z * z[5]) + z[0] * z[3]
    value = (x[0] * x[0]) * (_THIRD * (mean_value - 2.0 * beyond) - at_kink)
    return value, ((slope - beyond_slope) - KINK * at_kink_slope) - size * curvature


@njit(**FAST)
@no_type_check
def hardswish_row_adjoint(nngp, ntk, value, tangent, of_x, of_z, width, step, step_x, step_z, log_std_bar):
    """Go back through `hardswish_row`, cotangents in place.

    K̄ <- K̄ E[φ'φ'] + Θ̄ Θ W and Θ̄ <- Θ̄ E[φ'φ']; x's log standard deviation gets K̄ dV / d(log s) + Θ̄ Θ dF / d(log s). The
    infinite part p+ of W is set to 0 for coincident pairs, where kinks have no derivative.

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        of_x: as in `hardswish_row`.
        of_z: as in `hardswish_row`.
        width: as in `hardswish_row`.
        step: as in `hardswish_row`.
        step_x: as in `hardswish_row`.
        step_z: as in `hardswish_row`.
        log_std_bar: cotangents of the logarithms of x's standard deviations, added to.
    """
    for p in range(width):
        i = p * LANES
        k, k_bar, theta_bar = load(value, i), load(nngp, i), load(ntk, i)
        x, z = _of_x(at(of_x, p * step), step_x, k), _of_z(at(of_z, i), step_z)
        through = convert(theta_bar * load(tangent, i), k)
        size, lack, plus, minus = _corners(k, x, z)
        _, slope = _expectations(x, z, lack, plus, minus)
        curvature = _curvature(x, z, plus, minus)
        of_value, of_slope = _by_std(x, z, size, slope, curvature, plus, minus)
        add_lanes(log_std_bar, p * step, 1.0, k_bar * of_value + through * select(k < 0.0, -1.0 * of_slope, of_slope))
        derivative = 0.25 + select(k < 0.0, -1.0 * slope, slope)
        store(nngp, i, k_bar * derivative + through * curvature)
        store(ntk, i, theta_bar * convert(derivative, theta_bar))
