"""Piecewise linear activations with kinks anywhere on a row of a map, and the way back through them.

`ntklens.kernels.rules.piecewise` tells the formulas: the activation is a line and hinges; the expectation of two hinges is
that of parallel inputs, in float64, plus corrections C and C' that vanish with the angle, in the precision of Θ. Where both
kinks are at zero, the corrections are those of a ReLU. An activation that is bounded, or nearly so, is a sum of hinges that
are large for inputs of a large variance and cancel: the corrections of such pairs are taken in float64.

What the rows read:

    of_x, of_z  numbers of each input, `step_x` and `step_z` numbers or vectors apart: its standard deviation s and then,
                for each distance |t| of hinges, a = |t| / s, the tail Q(a), s n(a) and a n(a); see `numbers.beside`
    hinges      the number of distances; the standard deviation beyond which a sum of hinges is small beside each of them;
                for each distance |t| and the sums `jumps` and `turns`; and for each two of them the weights of hinges that
                open to the same side and to opposite sides; see `numbers.factors`
    origin      φ(0)
    slope       ℓ, the slope on the left side of zero

Names: `k` and `theta` are vectors of K and Θ, `k_bar` and `theta_bar` of their cotangents K̄ and Θ̄; `like` is a vector in
the precision of the corrections.
"""

from __future__ import annotations

import math
from typing import Any, no_type_check

from llvmlite import ir
from numba import njit, types
from numba.core.extending import intrinsic

from ntklens.kernels.engines.fused.codes import LANES, PER_DISTANCE
from ntklens.kernels.engines.fused.loops import add_lanes
from ntklens.kernels.engines.fused.relu import angle_over_root, excess_over_power, gap
from ntklens.kernels.engines.fused.tails import exponential, tail
from ntklens.kernels.engines.fused.vectors import (
    FAST,
    INLINE,
    absolute,
    at,
    convert,
    full,
    largest,
    load,
    maximum,
    minimum,
    select,
    sqrt,
    store,
)
from ntklens.kernels.engines.fused.wedges import wedge


@njit(**INLINE)
@no_type_check
def _exponents(a, b, opposite, like):
    """Return A and B in the precision of `like`; they are taken from float64, in which near kinks keep their digits."""
    near, far = a - b, a + b
    near, far = 0.125 * (near * near), 0.125 * (far * far)
    return convert(select(opposite, far, near), like), convert(select(opposite, near, far), like)


@njit(**INLINE)
@no_type_check
def _wedge(of_near, of_far, g):
    """Return C and C' g for A, B and the gap, not yet bounded."""
    factor, sum1, sum2, _ = wedge(of_near, of_far, 0.5 * g)
    return factor * sum1, (factor * g) * sum2


@njit(**INLINE)
@no_type_check
def _wedge_at_zero(g):
    """Return C and C' g where both kinks are at zero: θ / 2π and (sqrt(1 - c²) - |c| θ) / 2π."""
    y, root = g + g - 1.0, (0.5 / math.pi) * sqrt(g)
    return root * angle_over_root(y), root * (g * excess_over_power(y))


@njit(**INLINE)
@no_type_check
def _corrections(of_near, of_far, g, both_at_zero, smaller, like):
    """Return C and C' g in the precision of `like`, bounded by the smaller tail and by its product with the gap."""
    if both_at_zero:
        first, second = _wedge_at_zero(g)
    else:
        first, second = _wedge(of_near, of_far, g)
    nothing = full(like, 0.0)
    first, second = convert(first, like), convert(second, like)
    return minimum(maximum(first, nothing), smaller), minimum(maximum(second, nothing), smaller * convert(g, like))


@intrinsic
def _is_single(context: Any, like: Any) -> Any:
    """Return whether a vector is of float32; a constant of the compiled code."""
    single = ir.Constant(ir.IntType(1), int(like.dtype == types.float32))
    return types.boolean(like), lambda context, builder, sig, args: single


@njit(**INLINE)
@no_type_check
def _any(mask, like):
    """Return whether a condition holds in any lane."""
    return largest(select(mask, full(like, 1.0), full(like, 0.0))) > 0.0


@njit(**INLINE)
@no_type_check
def _is_large(x, z, hinges, k):
    """Return where a standard deviation of x or z is so large that sums of hinges cancel."""
    return maximum(full(k, 0.0) + x[0], load(z, 0)) > hinges[1]


@njit(**INLINE)
@no_type_check
def _lines(x, z, step_x, step_z, origin, slope, hinges, k):
    """Return the expectations of the line alone and of the line with each hinge: E[φφ] and E[φ'φ']."""
    # What φ(0) and ℓ are multiplied by, of both inputs: the sums of E[h] and of E[h'].
    means, turns = full(k, 0.0), full(k, 0.0)
    for m in range(int(hinges[0])):
        of_x, of_z = at(x, (1 + PER_DISTANCE * m) * step_x), at(z, (1 + PER_DISTANCE * m) * step_z)
        tails = of_x[step_x] + load(of_z, step_z)
        densities = of_x[2 * step_x] + load(of_z, 2 * step_z)
        means = means + hinges[3 + 3 * m] * (densities - hinges[2 + 3 * m] * tails)
        turns = turns + hinges[4 + 3 * m] * tails
    return (origin * means + origin * origin) + slope * (k * (turns + slope)), slope * (turns + slope)


@njit(**INLINE)
@no_type_check
def _expectations(k, x, z, step_x, step_z, origin, slope, hinges, like):
    """Return E[φφ] and E[φ'φ'] in float64, with corrections in the precision of `like`."""
    count = int(hinges[0])
    weights = at(hinges, 2 + 3 * count)
    s = x[0] * load(z, 0)
    g = gap(k, s, convert(s, like))
    lack = select(convert(g, k) > 0.0, s - absolute(k), full(k, 0.0))  # s r g in float64
    value, derivative = _lines(x, z, step_x, step_z, origin, slope, hinges, k)
    for m in range(count):
        of_x, t = at(x, (1 + PER_DISTANCE * m) * step_x), hinges[2 + 3 * m]
        tail_x, density_x = full(k, 0.0) + of_x[step_x], full(k, 0.0) + of_x[2 * step_x]
        for n in range(count):
            of_z, other = at(z, (1 + PER_DISTANCE * n) * step_z), hinges[2 + 3 * n]
            tail_z, density_z = load(of_z, step_z), load(of_z, 2 * step_z)
            smaller = minimum(tail_x, tail_z)
            parallel = (s + t * other) * smaller - select(tail_x < tail_z, other * density_x, t * density_z)
            for side in range(2):
                weight = weights[2 * (m * count + n) + side]
                if weight == 0.0:
                    continue
                sign = 1.0 - 2.0 * side
                opposite = sign * k < 0.0
                of_near, of_far = _exponents(of_x[0], load(of_z, 0), opposite, like)
                first, second = _corrections(of_near, of_far, g, t + other == 0.0, smaller, k)
                excess = s * second
                value = value + weight * select(opposite, excess, (parallel - lack * smaller) + excess)
                derivative = derivative + (sign * weight) * select(opposite, first, smaller - first)
    return value, derivative


@njit(**FAST)
@no_type_check
def kinks_row(nngp, ntk, of_x, of_z, width, step, step_x, step_z, origin, slope, hinges, scratch):
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
        origin: φ(0).
        slope: ℓ.
        hinges: as told above.
        scratch: a row in the precision of the corrections: that of Θ, or float64 for maps that a pooling mixes.
    """
    for p in range(width):
        i = p * LANES
        k, theta, like, x, z = load(nngp, i), load(ntk, i), load(scratch, i), at(of_x, p * step), at(of_z, i)
        value, derivative = _expectations(k, x, z, step_x, step_z, origin, slope, hinges, like)
        large = _is_large(x, z, hinges, k)
        if _is_single(like) and _any(large, k):
            better_value, better_derivative = _expectations(k, x, z, step_x, step_z, origin, slope, hinges, k)
            value, derivative = select(large, better_value, value), select(large, better_derivative, derivative)
        store(ntk, i, theta * convert(derivative, theta))
        store(nngp, i, value)


@njit(**INLINE)
@no_type_check
def _cotangents(k_bar, through, k, x, z, step_x, step_z, origin, slope, hinges, like):
    """Return F, A and what the logarithm of x's standard deviation gets, in float64.

    Args:
        k_bar: K̄.
        through: Θ̄ Θ, in float64.
        k: K before the activation.
        x: numbers of x at this position.
        z: vectors of numbers of z, likewise.
        step_x: as in `kinks_row`.
        step_z: as in `kinks_row`.
        origin: as in `kinks_row`.
        slope: as in `kinks_row`.
        hinges: as in `kinks_row`.
        like: a vector in the precision of what is not K.
    """
    count = int(hinges[0])
    weights = at(hinges, 2 + 3 * count)
    r = load(z, 0)
    s = x[0] * r
    product = convert(s, like)
    g = gap(k, s, product)
    t, wide_gap, sine = 0.5 * g, convert(g, k), sqrt(g * (2.0 - g))
    wide_sine = convert(sine, k)
    inverse, inverse_rest = 1.0 / maximum(t, full(t, 1e-20)), 1.0 / (1.0 - t)
    _, derivative = _lines(x, z, step_x, step_z, origin, slope, hinges, k)
    densities = full(g, 0.0)  # Σ w 2π s r σ p
    # Every term of the sum is a product of vectors, which packed pairs round alike.
    bar = full(k, 0.0)
    for m in range(count):
        of_x = at(x, (1 + PER_DISTANCE * m) * step_x)
        a, density, steep = of_x[0], of_x[2 * step_x], of_x[3 * step_x]
        bar = bar + (origin * hinges[3 + 3 * m]) * (k_bar * density)
        bar = bar + (slope * hinges[4 + 3 * m]) * ((k_bar * k) * steep)
        bar = bar + (slope * hinges[4 + 3 * m]) * (through * steep)
        for n in range(count):
            of_z = at(z, (1 + PER_DISTANCE * n) * step_z)
            b, both_at_zero = load(of_z, 0), hinges[2 + 3 * m] + hinges[2 + 3 * n] == 0.0
            smaller = minimum(full(k, 0.0) + of_x[step_x], load(of_z, step_z))
            for side in range(2):
                weight = weights[2 * (m * count + n) + side]
                if weight == 0.0:
                    continue
                sign = 1.0 - 2.0 * side
                opposite = sign * k < 0.0
                of_near, of_far = _exponents(a, b, opposite, like)
                first, _ = _corrections(of_near, of_far, g, both_at_zero, smaller, k)
                derivative = derivative + (sign * weight) * select(opposite, first, smaller - first)
                of_pair = exponential(maximum(-1.0 * (of_near * inverse + of_far * inverse_rest), full(g, -1e4)))
                densities = densities + weight * of_pair
                # b - ρ a, where near kinks keep their digits: ρ = ±(1 - g).
                share = a * wide_gap
                distance = select(opposite, (a + b) - share, share - (a - b))
                zeta = distance / maximum(wide_sine, full(k, 1e-150))
                zeta = maximum(minimum(zeta, full(k, 50.0)), full(k, -50.0))
                beyond = convert(tail(convert(zeta, like)), k)
                bar = bar + (weight * (0.5 / math.pi)) * (k_bar * (s * convert(sine * of_pair, k)))
                bar = bar - weight * ((k_bar * beyond) * ((r * distance) * density))
                bar = bar + (sign * weight) * ((through * beyond) * steep)
    denominator = (2.0 * math.pi) * (sine * product)
    regular = denominator > 0.0
    slopes = select(regular, densities / select(regular, denominator, full(g, 1.0)), full(g, 0.0))
    share = convert(convert(through, like) * slopes, k)
    return derivative, share, bar - share * k


@njit(**FAST)
@no_type_check
def kinks_row_adjoint(
    nngp, ntk, value, tangent, of_x, of_z, width, step, step_x, step_z, origin, slope, hinges, log_std_bar, scratch
):  # fmt: skip
    """Go back through `kinks_row`, cotangents in place.

    Let F = E[φ'φ'], σ = sqrt(1 - c²), ζ = (b - ρ a) / σ with the correlation ρ = ±c of two hinges that open to the right,
    and let sums run over pairs of hinges with their weights w; those of opposite sides count negatively in Σ±. Then

        dE[φφ] / dK = F,   dF / dK = Σ w p,   2π s r σ p = exp(-A/T - B/(1 - T)),
        dE[φφ] / d(log s) = φ(0) Σ_i s_i s n(a_i) + ℓ K Σ± s_i a_i n(a_i) + Σ w (s r σ)² p - Σ w s n(a) r (b - ρ a) Q(ζ),
        dF / d(log s) = ℓ Σ± s_i a_i n(a_i) + Σ± w a n(a) Q(ζ) - K dF/dK,

    because Q(ζ) is the probability that the other input is beyond its kink while u is at its own. Let A = Θ̄ Θ dF/dK, which
    is set to 0 for coincident pairs, where kinks have no derivative. Then K̄ <- K̄ F + A and Θ̄ <- Θ̄ F.

    Args:
        nngp: the row of K̄.
        ntk: the row of Θ̄.
        value: the row of K before the activation.
        tangent: the row of Θ before the activation.
        of_x: as in `kinks_row`.
        of_z: as in `kinks_row`.
        width: as in `kinks_row`.
        step: as in `kinks_row`.
        step_x: as in `kinks_row`.
        step_z: as in `kinks_row`.
        origin: as in `kinks_row`.
        slope: as in `kinks_row`.
        hinges: as in `kinks_row`.
        log_std_bar: cotangents of the logarithms of x's standard deviations, added to.
        scratch: as in `kinks_row`.
    """
    for p in range(width):
        i = p * LANES
        k, k_bar, theta_bar, like = load(value, i), load(nngp, i), load(ntk, i), load(scratch, i)
        x, z = at(of_x, p * step), at(of_z, i)
        through = convert(theta_bar * load(tangent, i), k)
        derivative, share, bar = _cotangents(
            k_bar, through, k, x, z, step_x, step_z, origin, slope, hinges, like
        )  # fmt: skip
        large = _is_large(x, z, hinges, k)
        if _is_single(like) and _any(large, k):
            better_derivative, better_share, better_bar = _cotangents(
                k_bar, through, k, x, z, step_x, step_z, origin, slope, hinges, k
            )  # fmt: skip
            derivative, share = select(large, better_derivative, derivative), select(large, better_share, share)
            bar = select(large, better_bar, bar)
        add_lanes(log_std_bar, p * step, 1.0, bar)
        store(nngp, i, k_bar * derivative + share)
        store(ntk, i, theta_bar * convert(derivative, theta_bar))
