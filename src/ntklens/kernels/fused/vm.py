"""The machine: runs a program for LANES pairs at once, one input x against a block of inputs z.

A map is contiguous: rows, then columns, then lanes. K is float64 throughout; Θ has the dtype of the inputs.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.fused.codes import (
    AFFINE_T,
    CHUNK,
    DIL_Y,
    DST,
    FILL,
    GRAM_T,
    IN_W,
    KH,
    LANES,
    LOAD_T,
    NORMALISE_T,
    OP,
    RELU_T,
    SEED,
    SRC,
    WINDOW,
    WINDOW_T,
    W,
)
from ntklens.kernels.fused.loops import FAST, copy
from ntklens.kernels.fused.steps import (
    do_activation_t,
    do_affine_t,
    do_fill,
    do_gram_t,
    do_seed,
    do_window_t,
    map_at,
    step,
)


@njit(**FAST)
@no_type_check
def aligned_like(n, like):
    """An array of n in the dtype of another that starts on a cache line."""
    item = like.itemsize
    raw = np.empty(n + 64 // item, like.dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


@njit(**FAST)
@no_type_check
def scratch(code, k, t):
    """Work arrays of a chunk, and of a window's rows."""
    chunk, ring = CHUNK, CHUNK
    for n in range(len(code)):
        chunk = max(chunk, code[n, W] * LANES, code[n, IN_W] * LANES)
        if code[n, OP] in (WINDOW, WINDOW_T):
            ring = max(ring, (code[n, DIL_Y] * (code[n, KH] - 1) + 1) * code[n, W] * LANES)
    size = max(chunk, ring)
    row_k, row_t = aligned_like(size, k), aligned_like(size, t)
    return aligned_like(chunk, k), aligned_like(chunk, t), aligned_like(chunk, t), aligned_like(chunk, t), row_k, row_t


@njit(**FAST)
@no_type_check
def run(items, code, consts, places, x, z, r1, r2, k, t, out_k, out_t):
    """Run the program for each item (row of x, block of z).

    Args:
        items: (m, 2) int64.
        code: (n, COLUMNS) int64; the last instruction's destination is the output.
        consts: (n, 5) float64.
        places: (p, LANES) float64: factors an entry, for SCALE.
        x: (n1, C, positions) float64, or for LOAD the rows of K itself, (n1, blocks, entries).
        z: (blocks, C, positions * LANES) float64.
        r1: (n1, m) standard deviations at the nodes that need them (for NORMALISE their inverses).
        r2: (blocks, m * LANES), the same of z.
        k: work space, (size,) float64.
        t: the same for Θ, in its dtype.
        out_k: (items, entries), filled; or (items, 0) where K is not wanted.
        out_t: the same for Θ.
    """
    s, gap, scale, excess, tmpk, tmpt = scratch(code, k, t)
    d = code[len(code) - 1, DST] * LANES
    for item in range(len(items)):
        row, block = items[item, 0], items[item, 1]
        x_root, z_root = r1[row], r2[block]
        done = False
        for n in range(len(code)):
            if done:
                done = False
                continue
            done = step(
                n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt
            )
        copy(out_k[item], k[d : d + out_k.shape[1]])
        copy(out_t[item], t[d : d + out_t.shape[1]])


@njit(**FAST)
@no_type_check
def run_adjoint(items, code, consts, places, x, z, r1, r2, weights, ntk, k, t, xbar, rbar, kbar):
    """Run the program of a gradient for each item (row of x, block of z, place of what it adds to).

    Args:
        items: (m, 3) int64.
        code: (n, COLUMNS) int64.
        consts: as in `run`.
        places: as in `run`.
        x: as in `run`.
        z: as in `run`.
        r1: as in `run`.
        r2: as in `run`.
        weights: (m, entries), the cotangents of the output.
        ntk: whether they are of Θ, or else of K.
        k: work space for K and its cotangents.
        t: the same for Θ.
        xbar: (places, C, positions * LANES), to which the cotangents of x are added; lanes are apart.
        rbar: (places, m * LANES), likewise those of its standard deviations, times these.
        kbar: (m, entries), for LOAD the cotangents of K itself.
    """
    s, gap, scale, excess, tmpk, tmpt = scratch(code, k, t)
    out, sine, share = aligned_like(len(s), k), aligned_like(len(s), t), aligned_like(len(s), t)
    for item in range(len(items)):
        row, block, place = items[item, 0], items[item, 1], items[item, 2]
        x_root, z_root = r1[row], r2[block]
        done = False
        for n in range(len(code)):
            if done:
                done = False
                continue
            op = code[n, OP]
            if op < SEED:
                done = step(
                    n, code, consts, places, row, block, x, z, x_root, z_root, k, t, s, gap, scale, excess, tmpk, tmpt
                )
            elif op == SEED:
                do_seed(n, code, weights[item], ntk, k, t)
            elif op == FILL:
                do_fill(n, code, consts, k, t)
            elif op == AFFINE_T:
                do_affine_t(n, code, consts, k, t)
            elif op == WINDOW_T:
                do_window_t(n, code, k, t, tmpk, tmpt)
            elif op in (RELU_T, NORMALISE_T):
                do_activation_t(
                    n, code, consts, x_root, z_root, rbar[place], k, t, s, gap, scale, excess, sine, share, out, tmpk
                )
            elif op == GRAM_T:
                do_gram_t(n, code, block, xbar[place], z, k)
            elif op == LOAD_T:
                a, b = map_at(n, code, SRC)
                copy(kbar[item], k[a:b])
