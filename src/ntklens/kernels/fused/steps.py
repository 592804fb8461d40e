"""The instructions, one function each: they find their maps in the work space and run the loops."""

from __future__ import annotations

import math
from typing import no_type_check

from numba import njit

from ntklens.kernels.fused.codes import (
    ADD,
    AFFINE,
    DST,
    GRAM,
    IN_H,
    IN_W,
    LANES,
    LOAD,
    MEAN,
    MX,
    MZ,
    NORMALISE,
    OP,
    REDUCE,
    RELU,
    RELU_T,
    ROW,
    SAME,
    SCALE,
    SRC,
    SRC2,
    STEP,
    SUM,
    WINDOW,
    ZERO,
    H,
    W,
)
from ntklens.kernels.fused.loops import (
    FAST,
    add,
    add_lanes,
    add_product,
    affine,
    affine_t,
    clear,
    copy,
    gram_row,
    gram_row_of_3,
    times_t,
)
from ntklens.kernels.fused.relu import activate, gaps, outer_roots, relu_t, slopes_t
from ntklens.kernels.fused.sliding import box_of_3, window, window_t


@njit(**FAST)
@no_type_check
def map_at(n, code, column):
    """First and last element of a map of an instruction's size, from the place in this column."""
    start = code[n, column] * LANES
    return start, start + code[n, H] * code[n, W] * LANES


@njit(**FAST)
@no_type_check
def moved(n, code, k, t):
    """Where the result goes, with the source copied there if that is elsewhere."""
    d, e = map_at(n, code, DST)
    a, b = map_at(n, code, SRC)
    if a != d:
        copy(k[d:e], k[a:b])
        copy(t[d:e], t[a:b])
    return d, e


@njit(**FAST)
@no_type_check
def do_gram(n, code, row, block, x, z, k, t):
    """Covariance of the pixels at an offset; Θ is zero."""
    d, e = map_at(n, code, DST)
    line, stride, inverse = code[n, W] * LANES, code[n, ROW], 1.0 / x.shape[1]
    for y in range(code[n, H]):
        p, q = code[n, MX] + y * stride, (code[n, MZ] + y * stride) * LANES
        out, f = k[d + y * line : d + (y + 1) * line], q + line
        if x.shape[1] == 3:
            z0, z1, z2 = z[block, 0, q:f], z[block, 1, q:f], z[block, 2, q:f]
            gram_row_of_3(out, x[row, 0, p:], x[row, 1, p:], x[row, 2, p:], z0, z1, z2, code[n, W], inverse)
        else:
            for c in range(x.shape[1]):
                gram_row(out, x[row, c, p:], z[block, c, q:f], code[n, W], inverse, c == 0)
    clear(t[d:e])


@njit(**FAST)
@no_type_check
def do_load(n, code, row, block, x, k, t):
    """Covariance of inputs without positions, made before; Θ is zero."""
    d, e = map_at(n, code, DST)
    copy(k[d:e], x[row, block])
    clear(t[d:e])


@njit(**FAST)
@no_type_check
def do_box(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt):
    """A 3 x 3 window that keeps the size, with the activation after it; whether there was one."""
    number = t.dtype.type
    d, e = map_at(n, code, DST)
    a, b = map_at(n, code, SRC)
    m = min(n + 1, len(code) - 1)
    done = n + 1 < len(code) and code[m, OP] == RELU and code[m, SRC] == code[n, DST]
    fused = (1 if code[m, DST] == code[n, DST] else 2) if done else 0
    f = code[m, DST] * LANES if done else d
    box_of_3(
        k[d:e], t[d:e], k[f : f + e - d], t[f : f + e - d], k[a:b], t[a:b], code[n, H], code[n, W],
        consts[n, 0], consts[n, 1], number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4]), tmpk, tmpt, len(s),
        code[m], fused, consts[m, 0], x_root, z_root, s, gap, scale, excess,
    )  # fmt: skip
    return done


@njit(**FAST)
@no_type_check
def do_window(n, code, consts, k, t, tmpk, tmpt):
    """Any window."""
    number = t.dtype.type
    own, bias, wt = number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4])
    window(k, t, code[n, DST], code[n, SRC], code[n], consts[n, 0], consts[n, 1], own, bias, wt, tmpk, tmpt)


@njit(**FAST)
@no_type_check
def do_affine(n, code, consts, k, t):
    """The dense rule."""
    number = t.dtype.type
    d, e = moved(n, code, k, t)
    own, bias, wt = number(consts[n, 2]), number(consts[n, 3]), number(consts[n, 4])
    affine(k[d:e], t[d:e], consts[n, 0], consts[n, 1], own, bias, wt)


@njit(**FAST)
@no_type_check
def do_activation(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess):
    """An activation or a normalisation."""
    d, _ = moved(n, code, k, t)
    line, height = code[n, W] * LANES, code[n, H]
    rows = len(s) // line
    for y0 in range(0, height, rows):
        y1 = min(height, y0 + rows)
        a, b = d + y0 * line, d + y1 * line
        activate(k[a:b], t[a:b], y0, y1, code[n], consts[n, 0], x_root, z_root, s, gap, scale, excess)


@njit(**FAST)
@no_type_check
def do_sum(n, code, k, t):
    """The sum of two maps."""
    d, e = moved(n, code, k, t)
    a, b = map_at(n, code, SRC2)
    add(k[d:e], k[a:b])
    add(t[d:e], t[a:b])


@njit(**FAST)
@no_type_check
def do_reduce(n, code, k, t, s):
    """Add all positions to a sum, K and Θ side by side in float64."""
    d, a = code[n, DST] * LANES, code[n, SRC] * LANES
    b = a + code[n, IN_H] * code[n, IN_W] * LANES
    if not code[n, ADD]:
        clear(k[d : d + 2 * LANES])
    add_lanes(k[d : d + LANES], k[a:b], s)
    add_lanes(k[d + LANES : d + 2 * LANES], t[a:b], s)


@njit(**FAST)
@no_type_check
def do_mean(n, code, consts, k, t):
    """The sum times a constant, as a map of one position."""
    d, a, share = code[n, DST] * LANES, code[n, SRC] * LANES, consts[n, 0]
    for i in range(LANES):
        k[d + i] = share * k[a + i]
        t[d + i] = share * k[a + LANES + i]


@njit(**FAST)
@no_type_check
def do_zero(n, code, k, t):
    """Zeros."""
    d, e = map_at(n, code, DST)
    clear(k[d:e])
    clear(t[d:e])


@njit(**FAST)
@no_type_check
def do_scale(n, code, places, k, t):
    """Each entry times its factor."""
    number = t.dtype.type
    d, e = map_at(n, code, DST)
    for p in range(d, e, LANES):
        factor = places[code[n, SRC2] + (p - d) // LANES, 0]
        for i in range(p, p + LANES):
            k[i] *= factor
            t[i] *= number(factor)


@njit(**FAST)
@no_type_check
def step(n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt):
    """One instruction; whether it has done the next one too."""
    op = code[n, OP]
    if op == GRAM:
        do_gram(n, code, row, block, x, z, k, t)
    elif op == LOAD:
        do_load(n, code, row, block, x, k, t)
    elif op == WINDOW and code[n, SAME]:
        return do_box(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt)
    elif op == WINDOW:
        do_window(n, code, consts, k, t, tmpk, tmpt)
    elif op == AFFINE:
        do_affine(n, code, consts, k, t)
    elif op in (RELU, NORMALISE):
        do_activation(n, code, consts, x_root, z_root, k, t, s, gap, scale, excess)
    elif op == SUM:
        do_sum(n, code, k, t)
    elif op == REDUCE:
        do_reduce(n, code, k, t, s)
    elif op == MEAN:
        do_mean(n, code, consts, k, t)
    elif op == ZERO:
        do_zero(n, code, k, t)
    elif op == SCALE:
        do_scale(n, code, places, k, t)
    return False


@njit(**FAST)
@no_type_check
def do_seed(n, code, weights, ntk, k, t):
    """The cotangents of the output."""
    d, e = map_at(n, code, DST)
    for i in range(e - d):
        k[d + i] = 0.0 if ntk else weights[i]
        t[d + i] = weights[i] if ntk else 0.0


@njit(**FAST)
@no_type_check
def do_fill(n, code, consts, k, t):
    """Back through a mean: the same for all positions."""
    d, e = map_at(n, code, DST)
    a, share = code[n, SRC] * LANES, consts[n, 0]
    first, second = k[a : a + LANES], t[a : a + LANES]
    for p in range(d, e, LANES):
        ko, to = k[p : p + LANES], t[p : p + LANES]
        for i in range(LANES):
            ko[i] = share * first[i]
            to[i] = share * second[i]


@njit(**FAST)
@no_type_check
def do_affine_t(n, code, consts, k, t):
    """Back through the dense rule."""
    d, e = map_at(n, code, DST)
    affine_t(k[d:e], t[d:e], consts[n, 0], consts[n, 2], consts[n, 4])


@njit(**FAST)
@no_type_check
def do_window_t(n, code, k, t, tmpk, tmpt):
    """Back through a window, added to what is there."""
    a, b = map_at(n, code, SRC)
    d = code[n, DST] * LANES
    e = d + code[n, IN_H] * code[n, IN_W] * LANES
    window_t(k[d:e], k[a:b], code[n], tmpk)
    window_t(t[d:e], t[a:b], code[n], tmpt)


@njit(**FAST)
@no_type_check
def do_activation_t(n, code, consts, x_root, z_root, rbar, k, t, s, gap, scale, angle, sine, share, out, tmp):
    """Back through an activation or a normalisation, with x's marginals' share."""
    number, slope = t.dtype.type, consts[n, 0]
    both = (1.0 - slope) ** 2 / (2 * math.pi)
    d, v = code[n, DST] * LANES, code[n, SRC2] * LANES
    width, line, height, step = code[n, W], code[n, W] * LANES, code[n, H], code[n, STEP]
    rows = len(s) // line
    for y0 in range(0, height, rows):
        y1 = min(height, y0 + rows)
        for y in range(y0, y1):
            e, m1, m2 = (y - y0) * line, code[n, MX] + y * code[n, ROW] * step, (code[n, MZ] + y * code[n, ROW]) * LANES
            outer_roots(s[e : e + line], x_root[m1:], z_root[m2 : m2 + line], width, step)
        ko, to = k[d + y0 * line : d + y1 * line], t[d + y0 * line : d + y1 * line]
        value, tangent = k[v + y0 * line : v + y1 * line], t[v + y0 * line : v + y1 * line]
        if code[n, OP] == RELU_T:
            gaps(value, s, gap, scale)
            slopes_t(gap, scale, to, tangent, number(both), number(slope), angle, sine, share)
            relu_t(ko, value, s, both, slope, angle, sine, share, out)
        else:
            times_t(ko, to, value, tangent, s, out)
        for y in range(y0, y1):
            e, m1 = (y - y0) * line, (code[n, MX] + y * code[n, ROW] * step) * LANES
            if step == 0:
                add_lanes(rbar[m1 : m1 + LANES], out[e : e + line], tmp)
            else:
                add(rbar[m1 : m1 + line], out[e : e + line])


@njit(**FAST)
@no_type_check
def do_gram_t(n, code, block, xbar, z, k):
    """Back to the pixels of x."""
    a, line, inverse = code[n, SRC] * LANES, code[n, W] * LANES, 1.0 / len(xbar)
    for c in range(len(xbar)):
        for y in range(code[n, H]):
            p, q = (code[n, MX] + y * code[n, ROW]) * LANES, (code[n, MZ] + y * code[n, ROW]) * LANES
            add_product(xbar[c, p : p + line], k[a + y * line : a + (y + 1) * line], z[block, c, q : q + line], inverse)
