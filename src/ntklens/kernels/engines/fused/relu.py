"""Piecewise linear activations on a row of a map, normalisations, and the way back through them.

The corrections of an activation are functions of g = 1 - |c|, taken from K in float64, so that near pairs keep their
relative precision in the precision of Θ.
"""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
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
    total,
)
from ntklens.kernels.rules.safe import COINCIDENT

# Printed by tools/make_arccos_polynomials.py: θ = sqrt(g) ANGLE(2 g - 1), sqrt(1 - c²) - |c| θ = g sqrt(g) EXCESS(2 g - 1).
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
"""E / (g sqrt(g)) at y = 2 g - 1, where E = sqrt(1 - c²) - |c| θ."""


@njit(**INLINE)
@no_type_check
def gap(v, s, c):
    """1 - |v| / s in the precision of c, which is s again; 1 where a variance vanishes."""
    one, positive = full(c, 1.0), c > 0.0
    g = convert(s - absolute(v), c) / select(positive, c, one)
    return select(positive, select(g > COINCIDENT, g, full(c, 0.0)), one)


@njit(**FAST)
@no_type_check
def gap_row(gaps, products, k, p1, p2, width, step):
    """`gap` along a row, and the products of the standard deviations, in the precision of where they go."""
    for p in range(width):
        i = p * LANES
        s = p1[p * step] * load(p2, i)
        c = convert(s, load(products, i))
        store(gaps, i, gap(load(k, i), s, c))
        store(products, i, c)


@njit(**FAST)
@no_type_check
def relu_row(k, t, p1, p2, width, step, slope, room):
    """K <- E[φφ] = (1 - a)² (π max(K, 0) + s E) / 2π + a K, and Θ times E[φ'φ'].

    Two short loops: the processor sees far enough ahead in them to overlap the positions' long chains of operations.

    Args:
        k: a row of K, in place.
        t: the same of Θ.
        p1: standard deviations of x at the row's positions, or one for all with step 0.
        p2: those of z, a vector a position.
        width: positions.
        step: 0 or 1.
        slope: a.
        room: for two rows in the precision of the corrections: that of Θ, or float64 for maps that a pooling mixes.
    """
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    top, positive = both * math.pi + slope, both * math.pi
    gaps, products = room, at(room, width * LANES)
    gap_row(gaps, products, k, p1, p2, width, step)
    for p in range(width):
        i = p * LANES
        v, tangent, g = load(k, i), load(t, i), load(gaps, i)
        y, root = g + g - 1.0, both * sqrt(g)
        theta = root * angle_over_root(y)
        more = (load(products, i) * root) * (g * excess_over_power(y))
        factor = select(v < 0.0, theta + slope, top - theta)
        store(t, i, tangent * convert(factor, tangent))
        store(k, i, positive * maximum(v, full(v, 0.0)) + (slope * v + convert(more, v)))


@njit(**FAST)
@no_type_check
def relu_row_t(k, t, value, tangent, p1, p2, width, step, slope, out, room):
    """Back through `relu_row`: cotangents in place, and in `out` what x's standard deviations get, times these.

    With F = E[φ'φ'], σ = sqrt(1 - c²) and A = Θ̄ Θ dF/dK, which is 0 at coincident pairs: K̄ <- K̄ F + A, Θ̄ <- Θ̄ F, and for
    the standard deviation r of x, times r: K̄ both σ s - A K. K̄'s F is taken in float64: near pairs' large terms cancel to
    what the variances' own recursion leaves, which is in float64.

    Args:
        k: a row of K̄, in place.
        t: the same of Θ̄.
        value: the row of K before the activation.
        tangent: the same of Θ.
        p1: as in `relu_row`.
        p2: as in `relu_row`.
        width: as in `relu_row`.
        step: as in `relu_row`.
        slope: as in `relu_row`.
        out: a number a position, or one with step 0; added to.
        room: for three rows in the precision of Θ.
    """
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    top = both * math.pi + slope
    thetas, sines, shares = room, at(room, width * LANES), at(room, 2 * width * LANES)
    gap_row(thetas, sines, value, p1, p2, width, step)
    for p in range(width):
        i = p * LANES
        g, tbar = load(thetas, i), load(t, i)
        sine = both * sqrt(g * (2.0 - g))
        theta = both * sqrt(g) * angle_over_root(g + g - 1.0)
        apart = sine * load(sines, i)
        regular = apart > 0.0
        share = (both * both) * tbar * load(tangent, i) / select(regular, apart, full(g, 1.0))
        store(thetas, i, theta)
        store(sines, i, sine)
        store(shares, i, select(regular, share, full(g, 0.0)))
        store(t, i, tbar * select(load(value, i) < 0.0, theta + slope, top - theta))
    for p in range(width):
        i = p * LANES
        v, kbar = load(value, i), load(k, i)
        s, theta, share = p1[p * step] * load(p2, i), convert(load(thetas, i), v), convert(load(shares, i), v)
        f = select(s > 0.0, select(v < 0.0, theta + slope, top - theta), full(v, slope))
        out[p * step] += total(kbar * (convert(load(sines, i), v) * s) - share * v)
        store(k, i, kbar * f + share)


@njit(**FAST)
@no_type_check
def times_row(k, t, p1, p2, width, step):
    """K and Θ times the product of two factors."""
    for p in range(width):
        i = p * LANES
        s, tangent = p1[p * step] * load(p2, i), load(t, i)
        store(k, i, load(k, i) * s)
        store(t, i, tangent * convert(s, tangent))


@njit(**FAST)
@no_type_check
def times_row_t(k, t, value, tangent, p1, p2, width, step, out):
    """Back through `times_row`; `out` gets what x's factor gets, times it."""
    for p in range(width):
        i = p * LANES
        s, kbar, tbar = p1[p * step] * load(p2, i), load(k, i), load(t, i)
        more = s * (kbar * load(value, i) + convert(tbar * load(tangent, i), s))
        out[p * step] += total(more)
        store(k, i, kbar * s)
        store(t, i, tbar * convert(s, tbar))
