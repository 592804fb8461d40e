"""The instructions, one function each: they find their maps in the work space and run the loops over their rows.

`ins` and `c` point to the columns and the constants of an instruction, `k` and `t` to the work spaces; `sides` holds what
depends on the two inputs: pointers to the marginals of x and of z. `room` is for a few rows in float64, and in the dtype
of Θ.
"""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.angle import angles_row, zonal_row, zonal_row_t
from ntklens.kernels.engines.fused.codes import (
    ADD,
    COLUMNS,
    DST,
    EXACT,
    IN_H,
    IN_W,
    KH,
    KW,
    LANES,
    MX,
    MZ,
    NORMALISE,
    NUMBERS,
    OP,
    RELU_T,
    ROW,
    SRC,
    SRC2,
    STEP,
    SX,
    SY,
    H,
    W,
)
from ntklens.kernels.engines.fused.loops import (
    add,
    add_positions,
    affine,
    affine_t,
    clear,
    copy,
    gram_row,
    gram_row_t,
    scale,
    spread,
)
from ntklens.kernels.engines.fused.relu import gap_row, relu_row, relu_row_t, times_row, times_row_t
from ntklens.kernels.engines.fused.sliding import add_rows, box_row, box_row_t, window, window_t
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at


@njit(**INLINE)
@no_type_check
def moved(ins, k, t):
    """Where the result goes, with the source copied there if that is elsewhere."""
    d, a, n = ins[DST] * LANES, ins[SRC] * LANES, ins[H] * ins[W]
    if a != d:
        copy(at(k, d), at(k, a), n)
        copy(at(t, d), at(t, a), n)
    return d


@njit(**FAST)
@no_type_check
def gram(ins, k, t, x, z, channels, positions):
    """Covariance of the pixels at an offset; Θ is zero."""
    d, line = ins[DST] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        p, q = ins[MX] + y * ins[ROW], ins[MZ] + y * ins[ROW]
        gram_row(at(k, d + y * line), at(x, p), at(z, q * LANES), ins[W], channels, positions)
    clear(at(t, d), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def input_given(ins, k, t, panel):
    """Covariance of inputs without positions, made before; Θ is zero."""
    d, n = ins[DST] * LANES, ins[H] * ins[W]
    copy(at(k, d), panel, n)
    clear(at(t, d), n)


@njit(**FAST)
@no_type_check
def activation_row(ins, c, y, k, t, sides, room):
    """An activation or a normalisation on one row."""
    p1, p2 = sides
    here, there = ins[MX] + y * ins[ROW] * ins[STEP], (ins[MZ] + y * ins[ROW]) * LANES
    p1, p2 = at(p1, here), at(p2, there)
    if ins[OP] == NORMALISE:
        times_row(k, t, p1, p2, ins[W], ins[STEP])
    elif ins[EXACT]:
        relu_row(k, t, p1, p2, ins[W], ins[STEP], c[0], room[0])
    else:
        relu_row(k, t, p1, p2, ins[W], ins[STEP], c[0], room[1])


@njit(**FAST)
@no_type_check
def activation(ins, c, k, t, sides, room):
    """An activation or a normalisation."""
    d, line = moved(ins, k, t), ins[W] * LANES
    for y in range(ins[H]):
        activation_row(ins, c, y, at(k, d + y * line), at(t, d + y * line), sides, room)


@njit(**FAST)
@no_type_check
def box(ins, c, k, t, sides, room, fused):
    """A window of 3 x 3 that keeps the size; with `fused` also the activation after it, on rows still in the cache."""
    after, consts, sum_k, sum_t = at(ins, COLUMNS), at(c, NUMBERS), room[0], room[1]
    line = ins[W] * LANES
    ki, ti, ko, to = at(k, ins[SRC] * LANES), at(t, ins[SRC] * LANES), at(k, ins[DST] * LANES), at(t, ins[DST] * LANES)
    for y in range(ins[H]):
        add_rows(sum_k, ki, ins[W], ins[H], y)
        add_rows(sum_t, ti, ins[W], ins[H], y)
        row_k, row_t = at(ko, y * line), at(to, y * line)
        box_row(row_k, row_t, sum_k, sum_t, ins[W], c[0], c[1], c[2], c[3], c[4])
        if fused:
            if after[DST] != ins[DST]:
                d = after[DST] * LANES + y * line
                copy(at(k, d), row_k, ins[W])
                copy(at(t, d), row_t, ins[W])
                row_k, row_t = at(k, d), at(t, d)
            activation_row(after, consts, y, row_k, row_t, sides, room)


@njit(**FAST)
@no_type_check
def sliding(ins, c, k, t, room):
    """Any window."""
    window(k, t, ins[DST] * LANES, ins[SRC] * LANES, ins, c, room[0], room[1])


@njit(**FAST)
@no_type_check
def dense(ins, c, k, t):
    """The dense rule."""
    d = moved(ins, k, t)
    affine(at(k, d), at(t, d), ins[H] * ins[W], c[0], c[1], c[2], c[3], c[4])


@njit(**FAST)
@no_type_check
def plus(ins, k, t):
    """The sum of two maps."""
    d, a, n = moved(ins, k, t), ins[SRC2] * LANES, ins[H] * ins[W]
    add(at(k, d), at(k, a), n)
    add(at(t, d), at(t, a), n)


@njit(**FAST)
@no_type_check
def reduce(ins, k, t):
    """Add all positions to a sum, K and Θ side by side in float64."""
    d, a, n = ins[DST] * LANES, ins[SRC] * LANES, ins[IN_H] * ins[IN_W]
    if not ins[ADD]:
        clear(at(k, d), 2)
    add_positions(at(k, d), at(k, a), n)
    add_positions(at(k, d + LANES), at(t, a), n)


@njit(**FAST)
@no_type_check
def mean(ins, c, k, t):
    """The sum times a constant, as a map of one position."""
    d, a = ins[DST] * LANES, ins[SRC] * LANES
    for i in range(LANES):
        t[d + i] = c[0] * k[a + LANES + i]
        k[d + i] = c[0] * k[a + i]


@njit(**FAST)
@no_type_check
def zero(ins, k, t):
    """Zeros."""
    clear(at(k, ins[DST] * LANES), ins[H] * ins[W])
    clear(at(t, ins[DST] * LANES), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def times_factors(ins, k, t, factors):
    """Each position times its factor."""
    d = ins[DST] * LANES
    scale(at(k, d), at(t, d), at(factors, ins[SRC2]), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def zonal(ins, c, k, t, sides, room, factors):
    """Series in the angle, on a flat map."""
    d, width, (p1, p2), row = ins[DST] * LANES, ins[W], sides, room[1]
    products, ys, c_t = at(row, width * LANES), at(row, 2 * width * LANES), at(factors, ins[KH] + ins[SY])
    gap_row(row, products, at(k, d), p1, p2, width, 0)
    angles_row(ys, row, at(k, d), width)
    if ins[KH]:
        zonal_row(at(k, d), products, ys, p1, p2, width, factors, ins[KH], ins[SY], c[0], row)
    if ins[KW]:
        zonal_row(at(t, d), products, ys, p1, p2, width, c_t, ins[KW], ins[SX], c[0], row)


# Backwards


@njit(**FAST)
@no_type_check
def seed(ins, k, t, weights, ntk):
    """The cotangents of the output."""
    d, n = ins[DST] * LANES, ins[H] * ins[W] * LANES
    for i in range(n):
        k[d + i] = 0.0 if ntk else weights[i]
        t[d + i] = weights[i] if ntk else 0.0


@njit(**FAST)
@no_type_check
def fill(ins, c, k, t):
    """Back through a mean: the same for all positions."""
    d, a, n = ins[DST] * LANES, ins[SRC] * LANES, ins[H] * ins[W]
    spread(at(k, d), at(k, a), n, c[0])
    spread(at(t, d), at(t, a), n, c[0])


@njit(**FAST)
@no_type_check
def dense_t(ins, c, k, t):
    """Back through the dense rule."""
    d = ins[DST] * LANES
    affine_t(at(k, d), at(t, d), ins[H] * ins[W], c[0], c[2], c[4])


@njit(**FAST)
@no_type_check
def sliding_t(ins, k, t, room):
    """Back through a window, added to what is there."""
    a, d = ins[SRC] * LANES, ins[DST] * LANES
    window_t(at(k, d), at(k, a), ins, room[0])
    window_t(at(t, d), at(t, a), ins, room[1])


@njit(**FAST)
@no_type_check
def activation_row_t(ins, c, y, k, t, value, tangent, sides, rbar, room):
    """Back through an activation or a normalisation on one row, with x's marginals' share."""
    p1, p2 = sides
    here, there = ins[MX] + y * ins[ROW] * ins[STEP], (ins[MZ] + y * ins[ROW]) * LANES
    p1, p2, share = at(p1, here), at(p2, there), at(rbar, here)
    if ins[OP] == RELU_T:
        relu_row_t(k, t, value, tangent, p1, p2, ins[W], ins[STEP], c[0], share, room[1])
    else:
        times_row_t(k, t, value, tangent, p1, p2, ins[W], ins[STEP], share)


@njit(**FAST)
@no_type_check
def activation_t(ins, c, k, t, sides, rbar, room):
    """Back through an activation or a normalisation."""
    d, v, line = ins[DST] * LANES, ins[SRC2] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        e, o = d + y * line, v + y * line
        activation_row_t(ins, c, y, at(k, e), at(t, e), at(k, o), at(t, o), sides, rbar, room)


@njit(**FAST)
@no_type_check
def box_t(ins, c, k, t, sides, rbar, room, fused):
    """Back through `box`; with `fused` also through the activation before it."""
    after, consts, sum_k, sum_t = at(ins, COLUMNS), at(c, NUMBERS), room[0], room[1]
    line = ins[W] * LANES
    ki, ti, d = at(k, ins[SRC] * LANES), at(t, ins[SRC] * LANES), ins[DST] * LANES
    for y in range(ins[H]):
        add_rows(sum_k, ki, ins[W], ins[H], y)
        add_rows(sum_t, ti, ins[W], ins[H], y)
        e, o = d + y * line, after[SRC2] * LANES + y * line
        box_row_t(at(k, e), at(t, e), sum_k, sum_t, ins[W], c[0], c[2], c[4])
        if fused:
            activation_row_t(after, consts, y, at(k, e), at(t, e), at(k, o), at(t, o), sides, rbar, room)


@njit(**FAST)
@no_type_check
def zonal_t(ins, k, t, sides, rbar, room, factors):
    """Back through a series in the angle."""
    d, v, (p1, p2) = ins[DST] * LANES, ins[SRC2] * LANES, sides
    zonal_row_t(at(k, d), at(t, d), at(k, v), p1, p2, ins[W], factors, ins[KW], rbar, room[0])


@njit(**FAST)
@no_type_check
def gram_t(ins, k, xbar, z, channels, positions):
    """Back to the pixels of x."""
    a, line = ins[SRC] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        p, q = ins[MX] + y * ins[ROW], ins[MZ] + y * ins[ROW]
        gram_row_t(at(xbar, p), at(k, a + y * line), at(z, q * LANES), ins[W], channels, positions)
