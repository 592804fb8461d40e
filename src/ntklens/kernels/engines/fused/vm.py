"""The machine: runs a program for LANES pairs at once, one input x against a block of inputs z.

A map is contiguous: rows, then columns, then lanes. K is float64 throughout; Θ has the dtype of the inputs.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.engines.fused import steps
from ntklens.kernels.engines.fused.codes import (
    AFFINE,
    AFFINE_T,
    BOX_T,
    COLUMNS,
    DIL_Y,
    DST,
    FILL,
    FUSED,
    GRAM,
    GRAM_T,
    IN_W,
    KH,
    LANES,
    LOAD,
    LOAD_T,
    MEAN,
    NORMALISE,
    NORMALISE_T,
    NUMBERS,
    OP,
    REDUCE,
    RELU,
    RELU_T,
    SAME,
    SCALE,
    SEED,
    SRC,
    SUM,
    WINDOW,
    WINDOW_T,
    ZERO,
    ZONAL,
    ZONAL_T,
    H,
    W,
)
from ntklens.kernels.engines.fused.loops import copy, write
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, pointer


@njit(**FAST)
@no_type_check
def scratch(code, k):
    """Room for a few rows of the widest map, in the dtype of another array."""
    width, rows = 0, 3
    for n in range(len(code)):
        width = max(width, code[n, W], code[n, IN_W])
        if code[n, OP] in (WINDOW, WINDOW_T):
            rows = max(rows, code[n, DIL_Y] * (code[n, KH] - 1) + 1)
    size = rows * (width + 2) * LANES
    raw = np.empty(size + 64 // k.itemsize, k.dtype)
    skip = (-raw.ctypes.data % 64) // k.itemsize
    return raw[skip : skip + size]


@njit(**INLINE)
@no_type_check
def step(ins, c, k, t, sides, room, panel, x, z, factors, channels, positions):
    """One instruction; the number of instructions done."""
    op = ins[OP]
    if op == WINDOW and ins[SAME]:
        steps.box(ins, c, k, t, sides, room, ins[FUSED] > 0)
        return 1 + ins[FUSED]
    if op in (RELU, NORMALISE):
        steps.activation(ins, c, k, t, sides, room)
    elif op == AFFINE:
        steps.dense(ins, c, k, t)
    elif op == WINDOW:
        steps.sliding(ins, c, k, t, room)
    elif op == GRAM:
        steps.gram(ins, k, t, x, z, channels, positions)
    elif op == LOAD:
        steps.input_given(ins, k, t, panel)
    elif op == SUM:
        steps.plus(ins, k, t)
    elif op == REDUCE:
        steps.reduce(ins, k, t)
    elif op == MEAN:
        steps.mean(ins, c, k, t)
    elif op == ZERO:
        steps.zero(ins, k, t)
    elif op == SCALE:
        steps.times_factors(ins, k, t, factors)
    elif op == ZONAL:
        steps.zonal(ins, c, k, t, sides, room, factors)
    return 1


@njit(**FAST)
@no_type_check
def run(items, code, consts, factors, panel, x, z, r1, r2, k, t, out_k, out_t, stride, columns):
    """Run the program for each item (row of x, block of z).

    Args:
        items: (m, 2) int64.
        code: (n, COLUMNS) int64; the last instruction's destination is the output.
        consts: (n, NUMBERS) float64.
        factors: (p,) float64: factors of positions, for SCALE.
        panel: (n1, blocks, entries) float64, for LOAD the rows of K itself.
        x: (n1, C, positions).
        z: (blocks, C, positions * LANES).
        r1: (n1, m) float64: standard deviations at the nodes that need them (for NORMALISE their inverses).
        r2: (blocks, m * LANES) float64, the same of z.
        k: work space, (size,) float64.
        t: the same for Θ, in its dtype.
        out_k: the rows of the result one after the other; empty where K is not wanted.
        out_t: the same for Θ.
        stride: from one of their rows to the next.
        columns: of a row.
    """
    row_k, row_t = scratch(code, k), scratch(code, t)
    kp, tp, room = pointer(k), pointer(t), (pointer(row_k), pointer(row_t))
    channels, positions = x.shape[1], x.shape[2]
    last = code[len(code) - 1]
    d, entries = last[DST] * LANES, last[H] * last[W] * LANES
    for item in range(len(items)):
        row, block = items[item, 0], items[item, 1]
        sides = (at(pointer(r1), row * r1.shape[1]), at(pointer(r2), block * r2.shape[1]))
        panel_p = at(pointer(panel), (row * panel.shape[1] + block) * panel.shape[2])
        xp = at(pointer(x), row * channels * positions)
        zp = at(pointer(z), block * channels * positions * LANES)
        n = 0
        while n < len(code):
            ins, c = at(pointer(code), n * COLUMNS), at(pointer(consts), n * NUMBERS)
            n += step(ins, c, kp, tp, sides, room, panel_p, xp, zp, pointer(factors), channels, positions)
        first = block * entries
        place, count = row * stride + first, min(entries, columns - first)
        if len(out_k):
            write(at(pointer(out_k), place), at(kp, d), count)
        if len(out_t):
            write(at(pointer(out_t), place), at(tp, d), count)


@njit(**FAST)
@no_type_check
def run_adjoint(
    items, code, consts, factors, panel, x, z, r1, r2, weights, ntk, k, t, xbar, rbar, kbar
):  # fmt: skip
    """Run the program of a gradient for each item (row of x, block of z, place of what it adds to).

    Args:
        items: (m, 3) int64.
        code: (n, COLUMNS) int64.
        consts: as in `run`.
        factors: as in `run`.
        panel: as in `run`.
        x: as in `run`.
        z: as in `run`.
        r1: as in `run`.
        r2: as in `run`.
        weights: (m, entries), the cotangents of the output.
        ntk: whether they are of Θ, or else of K.
        k: work space for K and its cotangents.
        t: the same for Θ.
        xbar: (places, C, positions), to which the cotangents of x are added.
        rbar: (places, m), likewise those of its standard deviations, times these.
        kbar: (m, entries), for LOAD the cotangents of K itself.
    """
    row_k, row_t = scratch(code, k), scratch(code, t)
    kp, tp, room = pointer(k), pointer(t), (pointer(row_k), pointer(row_t))
    channels, positions = x.shape[1], x.shape[2]
    for item in range(len(items)):
        row, block, place = items[item, 0], items[item, 1], items[item, 2]
        sides = (at(pointer(r1), row * r1.shape[1]), at(pointer(r2), block * r2.shape[1]))
        panel_p = at(pointer(panel), (row * panel.shape[1] + block) * panel.shape[2])
        xp = at(pointer(x), row * channels * positions)
        zp = at(pointer(z), block * channels * positions * LANES)
        given = at(pointer(weights), item * weights.shape[1])
        xbar_p = at(pointer(xbar), place * xbar.shape[1] * xbar.shape[2])
        rbar_p = at(pointer(rbar), place * rbar.shape[1])
        n = 0
        while n < len(code):
            ins, c = at(pointer(code), n * COLUMNS), at(pointer(consts), n * NUMBERS)
            op = ins[OP]
            if op < SEED:
                n += step(ins, c, kp, tp, sides, room, panel_p, xp, zp, pointer(factors), channels, positions)
                continue
            n += 1
            if op == BOX_T:
                steps.box_t(ins, c, kp, tp, sides, rbar_p, room, ins[FUSED] > 0)
                n += ins[FUSED]
            elif op in (RELU_T, NORMALISE_T):
                steps.activation_t(ins, c, kp, tp, sides, rbar_p, room)
            elif op == AFFINE_T:
                steps.dense_t(ins, c, kp, tp)
            elif op == WINDOW_T:
                steps.sliding_t(ins, kp, tp, room)
            elif op == SEED:
                steps.seed(ins, kp, tp, given, ntk)
            elif op == FILL:
                steps.fill(ins, c, kp, tp)
            elif op == GRAM_T:
                steps.gram_t(ins, kp, xbar_p, zp, channels, positions)
            elif op == ZONAL_T:
                steps.zonal_t(ins, kp, tp, sides, rbar_p, room, pointer(factors))
            elif op == LOAD_T:
                copy(at(pointer(kbar), item * kbar.shape[1]), at(kp, ins[SRC] * LANES), ins[H] * ins[W])
