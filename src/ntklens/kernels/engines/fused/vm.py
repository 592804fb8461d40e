"""The machine: runs a program for LANES pairs at once, one input x against a block of LANES inputs z.

Each pair of a row of x and a block of z is an item. The machine runs the whole program for one item and then goes on to
the next: all maps of an item stay in the cache, and nothing but the result is written to memory.
"""

from __future__ import annotations

from typing import no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.engines.fused import codes, steps, steps_adjoint
from ntklens.kernels.engines.fused.codes import (
    COLUMNS,
    CONSTANTS,
    DILATION_H,
    DST,
    FUSED,
    IN_W,
    IS_BOX,
    KERNEL_H,
    LANES,
    OP,
    H,
    W,
)
from ntklens.kernels.engines.fused.loops import copy, write
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, pointer


@njit(**FAST)
@no_type_check
def scratch_rows(code, like):
    """Return room for a row of zeros and for the rows that any instruction of the program needs at a time.

    Returns:
        The room, in the dtype of another array, and how many numbers its row of zeros has, which comes first.
    """
    # Three rows for activations and series, and the ring of row sums for windows.
    width, rows = 0, 3
    for n in range(len(code)):
        width = max(width, code[n, W], code[n, IN_W])
        if code[n, OP] in (codes.WINDOW, codes.WINDOW_ADJOINT):
            rows = max(rows, code[n, DILATION_H] * (code[n, KERNEL_H] - 1) + 1)
    line = width * LANES
    size = (1 + rows) * line
    # Begin on a cache line of 64 bytes.
    raw = np.empty(size + 64 // like.itemsize, like.dtype)
    skip = (-raw.ctypes.data % 64) // like.itemsize
    room = raw[skip : skip + size]
    room[:line] = 0
    return room, line


@njit(**INLINE)
@no_type_check
def step(ins, c, nngp, ntk, sums, marginals, scratch, panel, x, z, factors, channels, positions):
    """Run one instruction of the forward pass, and return how many instructions have been run with it."""
    op = ins[OP]
    # The operations that take most time come first.
    if op == codes.WINDOW and ins[IS_BOX]:
        steps.box(ins, c, nngp, ntk, marginals, scratch, factors, ins[FUSED] > 0)
        return 1 + ins[FUSED]
    if op in codes.ACTIVATIONS:
        steps.activation(ins, c, nngp, ntk, marginals, scratch, factors)
    elif op == codes.AFFINE:
        steps.affine(ins, c, nngp, ntk)
    elif op == codes.WINDOW:
        steps.window(ins, c, nngp, ntk, scratch)
    elif op == codes.GRAM:
        steps.gram(ins, nngp, ntk, x, z, channels, positions)
    elif op == codes.LOAD:
        steps.load_panel(ins, nngp, ntk, panel)
    elif op == codes.SUM:
        steps.add(ins, nngp, ntk)
    elif op == codes.REDUCE:
        steps.reduce(ins, nngp, ntk, sums)
    elif op == codes.MEAN:
        steps.mean(ins, c, nngp, ntk, sums)
    elif op == codes.ZERO:
        steps.zero(ins, nngp, ntk)
    elif op == codes.SCALE:
        steps.scale(ins, nngp, ntk, factors)
    elif op == codes.ZONAL:
        steps.zonal(ins, c, nngp, ntk, marginals, scratch, factors)
    return 1


@njit(**INLINE)
@no_type_check
def inputs_of(row, block, panel, x, z, marginals_x, marginals_z, table_x, table_z):
    """Return what the program reads of an item: marginals and tables of both sides, panel, pixels of x and of z."""
    marginals = (
        at(pointer(marginals_x), row * marginals_x.shape[1]),
        at(pointer(marginals_z), block * marginals_z.shape[1]),
        at(pointer(table_x), row * table_x.shape[1] * table_x.shape[2]),
        at(pointer(table_z), block * table_z.shape[1] * table_z.shape[2]),
        table_x.shape[2],
        table_z.shape[2] // LANES,
    )
    item_panel = at(pointer(panel), (row * panel.shape[1] + block) * panel.shape[2])
    item_x = at(pointer(x), row * x.shape[1] * x.shape[2])
    item_z = at(pointer(z), block * x.shape[1] * x.shape[2] * LANES)
    return marginals, item_panel, item_x, item_z


@njit(**FAST)
@no_type_check
def run(
    items, code, constants, factors, panel, x, z, marginals_x, marginals_z, table_x, table_z, nngp_space, ntk_space,
    sums_space, nngp_out, ntk_out, stride, columns, first, last, of_parts, sums_at,
):  # fmt: skip
    """Run the program for each item and write its results into the matrices.

    Args:
        items: (m, 2) int64: row of x, block of z.
        code: (n, COLUMNS) int64; the last instruction's destination is the output.
        constants: (n, CONSTANTS) float64.
        factors: (p,) float64: factors of positions for SCALE, hinges for KINKS, or coefficients for ZONAL.
        panel: (n1, blocks, entries) float64: for LOAD, the covariances of the inputs.
        x: (n1, C, positions); or (items, C, positions, LANES) float64, where every lane has an x of its own.
        z: (blocks, C, positions * LANES).
        marginals_x: (n1, marginal_size) in the dtype of K: standard deviations, or inverse ones for NORMALISE; or, where
            every lane has an x, (items, marginal_size, 1, LANES).
        marginals_z: (blocks, marginal_size * LANES), likewise of z.
        table_x: (n1, table_size, entry) float64: entries of the tables of Hermite coefficients.
        table_z: (blocks, table_size, entry * LANES) float64, likewise of z; of flat maps, the entries of all lanes.
        nngp_space: work space of K, (size * LANES,), float64 or, where the program allows it, float32.
        ntk_space: work space of Θ, likewise in its dtype.
        sums_space: work space of sums, (sums_size * LANES,) float64.
        nngp_out: the rows of the matrix one after the other; empty where K is not wanted.
        ntk_out: likewise for Θ.
        stride: numbers from one row of the matrices to the next.
        columns: numbers of a row; the last block may reach beyond it.
        first: the first instruction to run.
        last: the one before which to stop; where it is not the end of the code, nothing is written but `of_parts`.
        of_parts: (m, parts, 2 * LANES) float64, or empty for the whole code: the sums of the part that is run, in its
            place, or those of all parts for the rest of the code.
        sums_at: (part, address): which part is run, and where the sums of all parts lie in the work space of sums.
    """
    (nngp_scratch, line), (ntk_scratch, _) = scratch_rows(code, nngp_space), scratch_rows(code, ntk_space)
    nngp, ntk = pointer(nngp_space), pointer(ntk_space)
    scratch = at(pointer(nngp_scratch), line), at(pointer(ntk_scratch), line)
    sums, channels, positions = pointer(sums_space), x.shape[1], x.shape[2]
    final = code[len(code) - 1]
    dst, entries = final[DST] * LANES, final[H] * final[W] * LANES
    part, place_of_sums = sums_at[0], sums_at[1] * LANES
    for item in range(len(items)):
        row, block = items[item, 0], items[item, 1]
        marginals, item_panel, item_x, item_z = inputs_of(
            row, block, panel, x, z, marginals_x, marginals_z, table_x, table_z
        )
        item_sums, pair = at(pointer(of_parts), item * of_parts.shape[1] * 2 * LANES), part * 2 * LANES
        if first > 0 and last == len(code):
            copy(at(sums, place_of_sums), item_sums, 2 * of_parts.shape[1])
        n = first
        while n < last:
            ins, c = at(pointer(code), n * COLUMNS), at(pointer(constants), n * CONSTANTS)
            n += step(
                ins, c, nngp, ntk, sums, marginals, scratch, item_panel, item_x, item_z,
                pointer(factors), channels, positions,
            )  # fmt: skip
        if last < len(code):
            copy(at(item_sums, pair), at(sums, place_of_sums + pair), 2)
            continue
        # The output map has one position with one entry per lane; a flat one, FLAT_WIDTH blocks of lanes.
        column = block * entries
        place, count = row * stride + column, min(entries, columns - column)
        if len(nngp_out):
            write(at(pointer(nngp_out), place), at(nngp, dst), count)
        if len(ntk_out):
            write(at(pointer(ntk_out), place), at(ntk, dst), count)
    # Numba frees an array after its last use, and a pointer does not count as one.
    nngp_scratch[0], ntk_scratch[0] = 0, 0


@njit(**FAST)
@no_type_check
def run_adjoint(
    items, code, constants, factors, panel, x, z, marginals_x, marginals_z, table_x, table_z, weights, of_ntk,
    nngp_space, ntk_space, sums_space, x_bar, log_marginals_bar, panel_bar,
):  # fmt: skip
    """Run the program of a gradient for each item, and add its results to the cotangents of x.

    Args:
        items: (m, 3) int64: row of x, block of z, and the slot of x̄ and of the marginals' cotangents that is added to.
        code: as in `run`.
        constants: as in `run`.
        factors: as in `run`.
        panel: as in `run`.
        x: as in `run`.
        z: as in `run`.
        marginals_x: as in `run`.
        marginals_z: as in `run`.
        table_x: as in `run`, with the coefficients' growth.
        table_z: as in `run`.
        weights: (m, entries) float64, the cotangents of the output.
        of_ntk: whether they are cotangents of Θ; otherwise they are of K.
        nngp_space: as in `run`, for values of K and for K̄.
        ntk_space: as in `run`, for values of Θ and for Θ̄.
        sums_space: as in `run`.
        x_bar: (slots, C, positions) float64: cotangents of x, added to; with lanes where x has them.
        log_marginals_bar: (slots, marginal_size) float64: cotangents of the logarithms of x's marginals, likewise.
        panel_bar: (m, entries) float64: for LOAD_ADJOINT, the cotangents of the panel, written.
    """
    (nngp_scratch, line), (ntk_scratch, _) = scratch_rows(code, nngp_space), scratch_rows(code, ntk_space)
    nngp, ntk = pointer(nngp_space), pointer(ntk_space)
    scratch = at(pointer(nngp_scratch), line), at(pointer(ntk_scratch), line)
    sums, channels, positions = pointer(sums_space), x.shape[1], x.shape[2]
    for item in range(len(items)):
        row, block, slot = items[item, 0], items[item, 1], items[item, 2]
        marginals, item_panel, item_x, item_z = inputs_of(
            row, block, panel, x, z, marginals_x, marginals_z, table_x, table_z
        )
        item_weights = at(pointer(weights), item * weights.shape[1])
        item_x_bar = at(pointer(x_bar), slot * x_bar.shape[1] * x_bar.shape[2])
        item_log_bar = at(pointer(log_marginals_bar), slot * log_marginals_bar.shape[1])
        item_panel_bar = at(pointer(panel_bar), item * panel_bar.shape[1])
        n = 0
        while n < len(code):
            ins, c = at(pointer(code), n * COLUMNS), at(pointer(constants), n * CONSTANTS)
            op = ins[OP]
            # Values are computed as in `run`.
            if op < codes.SEED:
                n += step(
                    ins, c, nngp, ntk, sums, marginals, scratch, item_panel, item_x, item_z,
                    pointer(factors), channels, positions,
                )  # fmt: skip
                continue
            n += 1
            if op == codes.BOX_ADJOINT:
                steps_adjoint.box(ins, c, nngp, ntk, marginals, item_log_bar, scratch, pointer(factors), ins[FUSED] > 0)
                n += ins[FUSED]
            elif op in codes.ACTIVATION_ADJOINTS:
                steps_adjoint.activation(ins, c, nngp, ntk, marginals, item_log_bar, scratch, pointer(factors))
            elif op == codes.AFFINE_ADJOINT:
                steps_adjoint.affine(ins, c, nngp, ntk)
            elif op == codes.WINDOW_ADJOINT:
                steps_adjoint.window(ins, nngp, ntk, scratch)
            elif op == codes.SEED:
                steps_adjoint.seed(ins, nngp, ntk, item_weights, of_ntk)
            elif op == codes.FILL:
                steps_adjoint.fill(ins, c, nngp, ntk)
            elif op == codes.GRAM_ADJOINT:
                steps_adjoint.gram(ins, nngp, item_x_bar, item_z, channels, positions)
            elif op == codes.ZONAL_ADJOINT:
                steps_adjoint.zonal(ins, nngp, ntk, marginals, item_log_bar, scratch, pointer(factors))
            elif op == codes.LOAD_ADJOINT:
                steps_adjoint.store_panel(ins, nngp, item_panel_bar)
    nngp_scratch[0], ntk_scratch[0] = 0, 0  # as in `run`
