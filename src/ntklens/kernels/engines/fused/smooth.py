"""erf and GELU on a row of a map, and the way back through them.

With the variances q and p of x and z (of which the machine has the roots), K their covariance and Θ their NTK:

    erf:   a = 1 + 2 q, b = 1 + 2 p, C = 2 K / sqrt(a b), σ = sqrt(1 - C²)
           E[φφ] = (2/π) arcsin C,   F = E[φ'φ'] = (4/π) / (σ sqrt(a b))
    GELU:  a = 1 + q, b = 1 + p, C = K / sqrt(a b), σ = sqrt(1 - C²), A = a b σ²
           P = 1/4 + arcsin C / 2π, D = 1 / (2π sqrt(A)), e = 1/a + 1/b - 1, M = q p + e K²
           E[φφ] = K P + D M,   F = P + K D B,   B = 1 + 2 e + M / A = 1/a + 1/b + 1/A

(Williams 1997; Tsuchida et al. 2021; `ntklens.kernels.rules.duals` has the plain formulas.) B has no terms that cancel, as
M = 1 - e A. Here arcsin C = 2 arctan t with t = C / (1 + σ), and arctan t = t T(t²) is one short polynomial, because |t| is
at most 1. σ² = g (2 - g) is taken from the gap g = 1 - |C| in the precision of K, so that it keeps its digits where C is
near 1. As K² is at most q p, the gap is at least (1/a + 1/b) / 2, which coincident inputs of large variance would lose to
rounding.

Names: `k` and `theta` are vectors of K and Θ, `k_bar` and `theta_bar` of their cotangents K̄ and Θ̄; `like` is a vector in
the precision of what is not K.
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
    convert,
    full,
    load,
    maximum,
    polynomial,
    sqrt,
    store,
)

# Printed by tools/make_arc_polynomials.py: arctan t = t ARCTAN(2 t² - 1).
_ARCTAN_32 = (
    0.8704197513671036, -0.10187642831740543, 0.020851816629879574, -0.005032373525698424, 0.0013160437243524472,
    -0.00035564846474150154, 0.00010065994020599447, -3.645402433361933e-05, 1.0805794935670076e-05,
)  # fmt: skip
_ARCTAN_64 = (
    0.8704197513671029, -0.10187654235022055, 0.02085185120710562, -0.005030863660157172, 0.0013155859498295472,
    -0.00036098208823710304, 0.00010227655810700948, -2.9650033305832263e-05, 8.744958763973635e-06,
    -2.6140993130038163e-06, 7.897908305765816e-07, -2.4074141378968137e-07, 7.410751160650179e-08,
    -2.2884857163117668e-08, 6.868281720711017e-09, -2.204355135147516e-09, 8.866992221848388e-10,
    -2.068583288238398e-10, -2.2454092681013838e-11, -3.2558434387470084e-11, 2.694491121721663e-11,
)  # fmt: skip

arctan_over_t = polynomial(_ARCTAN_32, _ARCTAN_64)
"""arctan t / t at y = 2 t² - 1."""


@njit(**INLINE)
@no_type_check
def _shares(root_x, root_z, root):
    """Return 1/a + 1/b from 1 / sqrt(a), 1 / sqrt(b) and their product."""
    # Not as the sum of two squares: the compiler would join the one or the other with the sum, as x has one number or many,
    # and the last bit would depend on that.
    difference = root_x - root_z
    return difference * difference + 2.0 * root


@njit(**INLINE)
@no_type_check
def _sine(c, shares, like):
    """Return sqrt(1 - c²) in the precision of `like`, where 1/a + 1/b are the `shares`."""
    g = convert(maximum(1.0 - absolute(c), 0.5 * shares), like)
    return sqrt(g * (2.0 - g))


@njit(**INLINE)
@no_type_check
def _half_arcsine(c, sine):
    """Return arcsin(c) / 2."""
    t = c / (1.0 + sine)
    return t * arctan_over_t(2.0 * (t * t) - 1.0)


@njit(**FAST)
@no_type_check
def erf_row(nngp, ntk, of_x, of_z, width, step, step_x, step_z, scratch):
    """Replace K by E[φφ] and Θ by Θ F along a row.

    Args:
        nngp: the row of K.
        ntk: the row of Θ.
        of_x: standard deviations of x, one number per position, or one for all positions with step 0; and `step_x` numbers
            further 1 / sqrt(a) for each.
        of_z: standard deviations of z, one vector per position; and `step_z` numbers further 1 / sqrt(b) for each.
        width: positions.
        step: 0 or 1.
        step_x: see `of_x`.
        step_z: see `of_z`.
        scratch: a row in the precision of the arcsine: that of Θ, or that of K for maps that a pooling mixes.
    """
    for p in range(width):
        i = p * LANES
        k, theta, like = load(nngp, i), load(ntk, i), load(scratch, i)
        root_x, root_z = full(k, of_x[step_x + p * step]), load(of_z, step_z + i)
        root = root_x * root_z
        c = 2.0 * (k * root)
        sine = _sine(c, _shares(root_x, root_z, root), like)
        half = _half_arcsine(convert(c, like), sine)
        store(nngp, i, convert((4.0 / math.pi) * half, k))
        store(ntk, i, theta * convert((4.0 / math.pi) * (convert(root, like) / sine), theta))


@njit(**FAST)
@no_type_check
def erf_row_adjoint(nngp, ntk, value, tangent, of_x, of_z, width, step, step_x, step_z, log_std_bar, scratch):
    """Go back through `erf_row`, cotangents in place.

    With the share u = 2 q / a of x's variance, ℓ the logarithm of its standard deviation and G = Θ̄ Θ F / σ²:

        dE[φφ] / dℓ = -(4/2π) C u / σ,   dF / dK = 2 F C / (σ² sqrt(a b)),   dF / dℓ = -F u / σ²,
        K̄ <- K̄ F + 2 G C / sqrt(a b),   Θ̄ <- Θ̄ F,   ℓ gets -u ((2/π) K̄ C / σ + G).

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        of_x: as in `erf_row`.
        of_z: as in `erf_row`.
        width: as in `erf_row`.
        step: as in `erf_row`.
        step_x: as in `erf_row`.
        step_z: as in `erf_row`.
        log_std_bar: cotangents of the logarithms of x's standard deviations; added to.
        scratch: a row in the precision of what is not K: that of Θ, or float64 where a kink follows, from which near pairs
            have large K̄ that cancel.
    """
    for p in range(width):
        i = p * LANES
        k, k_bar, theta_bar, like = load(value, i), load(nngp, i), load(ntk, i), load(scratch, i)
        s, root_x = of_x[p * step], of_x[step_x + p * step]
        share, root_z = 2.0 * (s * root_x) * (s * root_x), load(of_z, step_z + i)
        root = root_x * root_z
        c = 2.0 * (k * root)
        sine = _sine(c, _shares(root_x, root_z, root), like)
        inverse = 1.0 / sine
        slope = (4.0 / math.pi) * (convert(root, like) * inverse)
        steep = convert(convert(theta_bar * load(tangent, i), like) * slope * (inverse * inverse), k)
        bent = convert(inverse, k) * c
        add_lanes(log_std_bar, p * step, -1.0 * share, (2.0 / math.pi) * (k_bar * bent) + steep)
        store(nngp, i, k_bar * convert(slope, k) + 2.0 * (steep * c * root))
        store(ntk, i, theta_bar * convert(slope, theta_bar))


@njit(**FAST)
@no_type_check
def gelu_row(nngp, ntk, of_x, of_z, width, step, step_x, step_z, scratch):
    """Replace K by E[φφ] and Θ by Θ F along a row; the arguments are those of `erf_row`."""
    for p in range(width):
        i = p * LANES
        k, theta, like = load(nngp, i), load(ntk, i), load(scratch, i)
        x, z = full(k, of_x[p * step]), load(of_z, i)
        root_x, root_z = full(k, of_x[step_x + p * step]), load(of_z, step_z + i)
        root = root_x * root_z
        c = k * root
        shares = _shares(root_x, root_z, root)
        mixed = (x * x) * (z * z) + (shares - 1.0) * (k * k)
        sine = _sine(c, shares, like)
        cosine, inverse = convert(c, like), 1.0 / sine
        level = 0.25 + (1.0 / math.pi) * _half_arcsine(cosine, sine)  # P
        # M D, K D and 1 / A: with sqrt(A) = σ / root.
        over = convert(mixed * root, like) * inverse
        store(nngp, i, k * convert(level, k) + convert((0.5 / math.pi) * over, k))
        bare = convert(root, like) * inverse
        b = convert(shares, like) + bare * bare
        store(ntk, i, theta * convert(level + (0.5 / math.pi) * (cosine * inverse) * b, theta))


@njit(**FAST)
@no_type_check
def gelu_row_adjoint(nngp, ntk, value, tangent, of_x, of_z, width, step, step_x, step_z, log_std_bar, scratch):
    """Go back through `gelu_row`, cotangents in place; the arguments are those of `erf_row_adjoint`.

    With H = p - K² / a, R = K² / A and ℓ the logarithm of x's standard deviation:

        dE[φφ] / dq = D (H (1 + b / A) / 2 - K² / a²),
        dF / dK = D (1 + B + R (B + 2 / A)),
        dF / dq = -K D (1 / 2a + 1 / a² + (b / A) (B / 2 + 1 / A)),   d / dℓ = 2 q d / dq.

    H alone has terms that cancel, and they are in the precision of K.
    """
    for p in range(width):
        i = p * LANES
        k, k_bar, theta_bar, like = load(value, i), load(nngp, i), load(ntk, i), load(scratch, i)
        q, z = of_x[p * step] * of_x[p * step], load(of_z, i)
        root_x, root_z = of_x[step_x + p * step], load(of_z, step_z + i)
        over_a, p_z = root_x * root_x, z * z
        b, root = 1.0 + p_z, root_x * root_z
        c, shares = k * root, _shares(root_x, root_z, root)
        sine = convert(_sine(c, shares, like), k)
        inverse = root / sine  # 1 / sqrt(A)
        density, square = (0.5 / math.pi) * inverse, inverse * inverse  # D and 1 / A
        factor = shares + square  # B
        half = convert(_half_arcsine(convert(c, like), convert(sine, like)), k)
        slope = 0.25 + (1.0 / math.pi) * half + k * (density * factor)
        in_value = density * (0.5 * (p_z - (k * k) * over_a) * (1.0 + b * square) - (k * over_a) * (k * over_a))
        in_k = density * (1.0 + factor + (k * k * square) * (factor + 2.0 * square))
        in_q = -1.0 * ((0.5 + over_a) * over_a + (b * square) * (0.5 * factor + square))
        weight = convert(theta_bar * load(tangent, i), k)
        add_lanes(log_std_bar, p * step, 2.0 * q, k_bar * in_value + weight * (k * density * in_q))
        store(nngp, i, k_bar * slope + weight * in_k)
        store(ntk, i, theta_bar * convert(slope, theta_bar))
