"""Piecewise linear activations on a row of a map, normalisations, and the way back through them.

Write u and v for the Gaussians of x and z, K for their covariance, s for the product of their standard deviations,
c = K / s, and θ = arccos |c|, the angle between them or the angle missing to π. For φ(u) = max(u, 0) + a min(u, 0)
(Cho & Saul 2009; a leaky ReLU is (1 - a) ReLU + a times the identity):

    E[φ(u) φ(v)]   = (1 - a)² / 2π (π max(K, 0) + s E) + a K,   E = sqrt(1 - c²) - |c| θ,
    E[φ'(u) φ'(v)] = (1 - a)² / 2π (π - θ) + a for c >= 0,  (1 - a)² / 2π θ + a for c < 0.

Only E and θ are difficult. Both are computed from the gap g = 1 - |c|, which is taken from K in float64: θ is near
sqrt(2 g), so that for a near pair a small gap in the precision of Θ keeps all its digits, where a cosine near 1 would
have lost them. In y = 2 g - 1, on [-1, 1], θ / sqrt(g) and E / (g sqrt(g)) are smooth and have short polynomials.

Names: `k` and `theta` are vectors of K and Θ, `k_bar` and `theta_bar` of their cotangents K̄ and Θ̄.
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.vectors import (
    FAST,
    INLINE,
    absolute,
    at,
    convert,
    full,
    load,
    maximum,
    polynomial,
    select,
    sqrt,
    store,
)
from ntklens.kernels.rules.safe import COINCIDENT

# Printed by tools/make_arc_polynomials.py: θ = sqrt(g) ANGLE(2 g - 1), sqrt(1 - c²) - |c| θ = g sqrt(g) EXCESS(2 g - 1).
_ANGLE_32 = (
    1.4809609589295243, 0.07601608545693156, 0.011029966269837582, 0.0021493202634401826, 0.0004788339995501214,
    0.00011650348193192883, 3.516311303575214e-05, 9.466701328175732e-06,
)  # fmt: skip
_ANGLE_64 = (
    1.480960979386122, 0.07601609123466604, 0.011029313317957985, 0.002149135858985546, 0.0004820541011458775,
    0.00011741250446072784, 3.0187163990135413e-05, 8.063537664996473e-06, 2.2160511345801716e-06,
    6.225408682680339e-07, 1.778819229754103e-07, 5.158517500022495e-08, 1.528766263283538e-08, 4.526234631055193e-09,
    1.2042582214179218e-09, 3.658500047021608e-10, 1.8980075290632236e-10, 5.6995001311103475e-11,
)  # fmt: skip
_EXCESS_32 = (
    0.9685287617127247, 0.028167833862185142, 0.002798306540881281, 0.0004118232368986105, 7.3732289480169e-05,
    1.4945205846772502e-05, 3.7184429266257082e-06, 8.764433792052274e-07,
)  # fmt: skip
_EXCESS_64 = (
    0.9685287633970557, 0.02816783429053863, 0.002798252754158521, 0.0004118095594585881, 7.399821035763351e-05,
    1.5012788867231282e-05, 3.304896218692054e-06, 7.714919600230533e-07, 1.8823149801019078e-07,
    4.7537449803356314e-08, 1.2340822336915313e-08, 3.274057841827311e-09, 8.877847243874961e-10,
    2.4728899379905685e-10, 6.59712543218772e-11, 1.6921129270691466e-11, 7.163774698512383e-12,
    2.4253192047278077e-12,
)  # fmt: skip

angle_over_root = polynomial(_ANGLE_32, _ANGLE_64)
"""θ / sqrt(g) at y = 2 g - 1."""
excess_over_power = polynomial(_EXCESS_32, _EXCESS_64)
"""E / (g sqrt(g)) at y = 2 g - 1."""


@njit(**INLINE)
@no_type_check
def gap(k, s, like):
    """Return 1 - |k| / s in the precision of `like`, which is s in that precision; 1 where a variance vanishes."""
    one, positive = full(like, 1.0), like > 0.0
    # The difference is taken in float64 and only then rounded, so that a small gap keeps its relative precision.
    g = convert(s - absolute(k), like) / select(positive, like, one)
    return select(positive, select(g > COINCIDENT, g, full(like, 0.0)), one)


@njit(**FAST)
@no_type_check
def gap_row(gaps, products, nngp, std_x, std_z, width, step):
    """Write the gaps along a row and the products of the standard deviations, in the precision of `gaps`."""
    for p in range(width):
        i = p * LANES
        s = std_x[p * step] * load(std_z, i)
        s_rounded = convert(s, load(products, i))
        store(gaps, i, gap(load(nngp, i), s, s_rounded))
        store(products, i, s_rounded)


@njit(**FAST)
@no_type_check
def relu_row(nngp, ntk, std_x, std_z, width, step, slope, scratch):
    """Replace K by E[φφ] and Θ by Θ E[φ'φ'] along a row.

    Args:
        nngp: the row of K.
        ntk: the row of Θ.
        std_x: standard deviations of x, one number per position, or one for all positions with step 0.
        std_z: standard deviations of z, one vector per position.
        width: positions.
        step: 0 or 1.
        slope: a.
        scratch: two rows in the precision of the corrections E and θ: that of Θ, or float64 for maps that a pooling mixes.
    """
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    top, positive = both * math.pi + slope, both * math.pi  # E[φ'φ'] at θ = 0; the factor of max(K, 0)
    gaps, products = scratch, at(scratch, width * LANES)
    # Two short loops: the processor looks far enough ahead in them to overlap the long chains of several positions.
    gap_row(gaps, products, nngp, std_x, std_z, width, step)
    for p in range(width):
        i = p * LANES
        k, theta, g = load(nngp, i), load(ntk, i), load(gaps, i)
        y, root = g + g - 1.0, both * sqrt(g)
        # Angle and excess, times `both`: (1 - a)² / 2π θ and (1 - a)² / 2π s E.
        angle = root * angle_over_root(y)
        excess = (load(products, i) * root) * (g * excess_over_power(y))
        derivative = select(k < 0.0, angle + slope, top - angle)
        store(ntk, i, theta * convert(derivative, theta))
        store(nngp, i, positive * maximum(k, full(k, 0.0)) + (slope * k + convert(excess, k)))


@njit(**FAST)
@no_type_check
def relu_row_adjoint(nngp, ntk, value, tangent, std_x, std_z, width, step, slope, log_std_bar, scratch):
    """Go back through `relu_row`, cotangents in place.

    With F = E[φ'φ'] and σ = sqrt(1 - c²), the derivatives are

        dE[φφ] / dK = F,   dE[φφ] / d(log s) = (1 - a)² / 2π σ s,
        dF / dK = (1 - a)² / (2π σ s),   dF / d(log s) = -K dF / dK.

    Let A = Θ̄ Θ dF/dK, which is set to 0 for coincident pairs, where the kink has no derivative. Then

        K̄ <- K̄ F + A,   Θ̄ <- Θ̄ F,   and x's log standard deviation gets K̄ (1 - a)² / 2π σ s - A K.

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        std_x: as in `relu_row`.
        std_z: as in `relu_row`.
        width: as in `relu_row`.
        step: as in `relu_row`.
        slope: as in `relu_row`.
        log_std_bar: cotangents of the logarithms of `std_x`, as many as these; added to.
        scratch: three rows in the precision of Θ.
    """
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    top = both * math.pi + slope
    # Three rows of scratch, each used twice: gaps, then angles; products s, then sines; and A.
    angles, sines, shares = scratch, at(scratch, width * LANES), at(scratch, 2 * width * LANES)
    gap_row(angles, sines, value, std_x, std_z, width, step)
    # In the precision of Θ: `both` θ, `both` σ, A, and Θ̄. From here on σ² = 1 - c² = g (2 - g).
    for p in range(width):
        i = p * LANES
        g, theta_bar = load(angles, i), load(ntk, i)
        sine = both * sqrt(g * (2.0 - g))
        angle = both * sqrt(g) * angle_over_root(g + g - 1.0)
        # A = both Θ̄ Θ / (σ s), from both² Θ̄ Θ / (both σ s).
        denominator = sine * load(sines, i)
        regular = denominator > 0.0
        share = (both * both) * theta_bar * load(tangent, i) / select(regular, denominator, full(g, 1.0))
        store(angles, i, angle)
        store(sines, i, sine)
        store(shares, i, select(regular, share, full(g, 0.0)))
        store(ntk, i, theta_bar * select(load(value, i) < 0.0, angle + slope, top - angle))
    # In float64: K̄ and the standard deviation. The two get large terms from a near pair, which cancel up to what the
    # variances' own recursion leaves, and that is in float64.
    for p in range(width):
        i = p * LANES
        k, k_bar = load(value, i), load(nngp, i)
        s, angle, share = std_x[p * step] * load(std_z, i), convert(load(angles, i), k), convert(load(shares, i), k)
        # Where a variance vanishes so does K, and what has a derivative of E[φφ] is a K.
        derivative = select(s > 0.0, select(k < 0.0, angle + slope, top - angle), full(k, slope))
        add_lanes(log_std_bar, p * step, 1.0, k_bar * (convert(load(sines, i), k) * s) - share * k)
        store(nngp, i, k_bar * derivative + share)


@njit(**FAST)
@no_type_check
def times_row(nngp, ntk, factor_x, factor_z, width, step):
    """Multiply K and Θ by the product of two factors, as a normalisation does."""
    for p in range(width):
        i = p * LANES
        s, theta = factor_x[p * step] * load(factor_z, i), load(ntk, i)
        store(nngp, i, load(nngp, i) * s)
        store(ntk, i, theta * convert(s, theta))


@njit(**FAST)
@no_type_check
def times_row_adjoint(nngp, ntk, value, tangent, factor_x, factor_z, width, step, log_factor_bar):
    """Go back through `times_row`: cotangents times the product; x's log factor gets s (K̄ K + Θ̄ Θ)."""
    for p in range(width):
        i = p * LANES
        s, k_bar, theta_bar = factor_x[p * step] * load(factor_z, i), load(nngp, i), load(ntk, i)
        share = s * (k_bar * load(value, i) + convert(theta_bar * load(tangent, i), s))
        add_lanes(log_factor_bar, p * step, 1.0, share)
        store(nngp, i, k_bar * s)
        store(ntk, i, theta_bar * convert(s, theta_bar))
