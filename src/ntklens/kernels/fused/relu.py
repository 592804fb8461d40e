"""Piecewise linear activations on a stretch of a map, and the way back through them.

Their corrections are functions of g = 1 - |c|, taken in float64, so that near pairs keep their relative precision in the
precision of Θ.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

import numpy as np
from numba import njit, types
from numba.extending import overload

from ntklens.kernels.fused.codes import EXACT, LANES, MX, MZ, NORMALISE, OP, ROW, STEP, W
from ntklens.kernels.fused.loops import FAST, copy, times

COINCIDENT = 4e-15
"""As in `ntklens.kernels.safe`: a cosine closer to 1 than this is 1."""

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


def angle_over_root(y: Any) -> Any:
    """θ / sqrt(g) at y = 2 g - 1."""


def excess_over_power(y: Any) -> Any:
    """E / (g sqrt(g)) at y = 2 g - 1."""


@no_type_check
def _horner(single: tuple[float, ...], double: tuple[float, ...]) -> Any:
    """A polynomial whose length and precision follow the dtype of its argument."""

    def choose(y: Any) -> Any:
        c = np.array(single, np.float32) if y == types.float32 else np.array(double)
        top = len(c) - 1

        def evaluate(y: Any) -> Any:
            r = c[top]
            for i in range(top - 1, -1, -1):
                r = r * y + c[i]
            return r

        return evaluate

    return choose


overload(angle_over_root, inline="always")(_horner(_ANGLE_32, _ANGLE_64))
overload(excess_over_power, inline="always")(_horner(_EXCESS_32, _EXCESS_64))


@njit(**FAST)
@no_type_check
def outer_roots(s, r1, r2, width, step):
    """Outer product of the two inputs' standard deviations; with step 0 x has one for all positions."""
    if step == 0:
        a = r1[0]
        for i in range(len(s)):
            s[i] = a * r2[i]
        return
    copy(s, r2)
    for p in range(width):
        a = r1[p * step]
        here = s[p * LANES : (p + 1) * LANES]
        for i in range(LANES):
            here[i] *= a


@njit(**FAST)
@no_type_check
def gaps(k, s, gap, scale):
    """The gap s - |k|, in which near pairs keep their digits, and s with the sign of k."""
    for i in range(len(k)):
        gap[i] = s[i] - abs(k[i])
        scale[i] = s[i] if k[i] >= 0.0 else -s[i]


@njit(**FAST)
@no_type_check
def relu_ntk(gap, scale, t, excess, both, slope):
    """Θ times E[φ'φ'], and the part of E[φφ] that the angle adds: E = sqrt(1 - c²) - |c| θ."""
    zero, one = t.dtype.type(0), t.dtype.type(1)
    pi, coincident = t.dtype.type(math.pi), t.dtype.type(COINCIDENT)
    for i in range(len(gap)):
        s = abs(scale[i])
        positive = s > zero  # where a variance vanishes, c = 0
        g = gap[i] / (s if positive else one)
        g = g if g > coincident else zero
        g = g if positive else one
        root = math.sqrt(g)
        y = g + g - one
        theta = root * angle_over_root(y)
        excess[i] = g * root * excess_over_power(y)
        t[i] = t[i] * (both * (theta if scale[i] < zero else pi - theta) + slope)


@njit(**FAST)
@no_type_check
def relu_nngp(k, s, excess, both, slope):
    """K = (1 - a)² (π max(k, 0) + s E) / 2π + a k."""
    for i in range(len(k)):
        v = k[i]
        v = v if v < s[i] else s[i]
        positive = v if v > 0.0 else 0.0
        k[i] = both * (math.pi * positive + s[i] * excess[i]) + slope * v


@njit(**FAST)
@no_type_check
def relu_exact(k, s, t, both, slope):
    """The rule of `relu_ntk` and `relu_nngp` in float64 throughout, for maps that a pooling mixes."""
    for i in range(len(k)):
        v = k[i]
        v = v if v < s[i] else s[i]
        positive = s[i] > 0.0
        g = (s[i] - abs(v)) / (s[i] if positive else 1.0)
        g = g if g > COINCIDENT else 0.0
        g = g if positive else 1.0
        root = math.sqrt(g)
        y = g + g - 1.0
        theta = root * angle_over_root(y)
        t[i] = t[i] * (both * (theta if v < 0.0 else math.pi - theta) + slope)
        k[i] = both * (math.pi * (v if v > 0.0 else 0.0) + s[i] * (g * root * excess_over_power(y))) + slope * v


@njit(**FAST)
@no_type_check
def activate(k, t, y0, y1, ins, slope, r1, r2, s, gap, scale, excess):
    """The activation, or the normalisation, on rows y0 to y1 of a map, given as k and t."""
    width, line = ins[W], ins[W] * LANES
    for y in range(y0, y1):
        e, m1, m2 = (y - y0) * line, ins[MX] + y * ins[ROW] * ins[STEP], (ins[MZ] + y * ins[ROW]) * LANES
        outer_roots(s[e : e + line], r1[m1:], r2[m2 : m2 + line], width, ins[STEP])
    if ins[OP] == NORMALISE:
        times(k, t, s)
        return
    number = t.dtype.type
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    if ins[EXACT]:
        relu_exact(k, s, t, both, slope)
        return
    gaps(k, s, gap, scale)
    relu_ntk(gap[: len(k)], scale, t, excess, number(both), number(slope))
    relu_nngp(k, s, excess, both, slope)


@njit(**FAST)
@no_type_check
def slopes_t(gap, scale, t, tangent, both, slope, angle, sine, share):
    """θ = arccos|c|, σ = sqrt(1 - c²), A = Θ̄ Θ dF/dθ / (σ s), 0 at coincident pairs, and Θ̄ <- Θ̄ F, F = E[φ'φ']."""
    zero, one = t.dtype.type(0), t.dtype.type(1)
    pi, coincident = t.dtype.type(math.pi), t.dtype.type(COINCIDENT)
    for i in range(len(t)):
        s = abs(scale[i])
        positive = s > zero
        g = gap[i] / (s if positive else one)
        g = g if g > coincident else zero
        g = g if positive else one
        sigma = math.sqrt(g * (one + one - g))
        theta = math.sqrt(g) * angle_over_root(g + g - one)
        factor = both * (theta if scale[i] < zero else pi - theta) + slope
        a = t[i] * tangent[i] * both / (sigma * s if sigma > zero and positive else one)
        share[i] = a if (sigma > zero and positive) else zero
        sine[i] = sigma
        t[i] = t[i] * factor
        angle[i] = theta


@njit(**FAST)
@no_type_check
def relu_t(k, value, s, both, slope, angle, sine, share, out):
    """K̄ <- K̄ F + A, and for the standard deviation r of x, times r: K̄ both σ s - A k.

    F is taken in float64: near pairs' large terms cancel to what the variances' own recursion leaves, which is in float64.
    """
    for i in range(len(k)):
        turn = angle[i] if value[i] < 0.0 else math.pi - angle[i]
        f = both * (turn if s[i] > 0.0 else 0.0) + slope
        out[i] = k[i] * both * sine[i] * s[i] - share[i] * value[i]
        k[i] = k[i] * f + share[i]
