"""The operations of the forward pass, one function each, named after the operation or after the loop that it runs.

A step finds its maps in the work spaces and runs the loops over their rows. What the arguments are called:

    ins, c              the columns and the constants of the instruction, as pointers
    nngp, ntk           the work spaces of K and of Θ
    dst, src            first elements of the output and input maps in them
    marginals           pointers to the marginals of x and of z, and to their tables; the lengths of a table's entries
    scratch             pointers to a few rows, in the dtype of K and in that of Θ; a row of zeros lies before them
    sums                the work space of sums, float64
    factors             the program's `factors`
"""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused import loops
from ntklens.kernels.engines.fused.angle import angles_row, zonal_row
from ntklens.kernels.engines.fused.codes import (
    ADDS,
    BIAS,
    BIAS_SHARE,
    COLUMNS,
    CONSTANTS,
    CORNER,
    DST,
    ERF,
    FACTOR,
    FACTORS,
    HARDSWISH,
    HERMITE,
    HINGES,
    IN_FLOAT64,
    IN_H,
    IN_W,
    INVERSE_SQUARE,
    KINKS,
    LANES,
    NNGP_DRIFT_TERMS,
    NNGP_TERMS,
    NORMALISE,
    NTK_DRIFT_TERMS,
    NTK_TERMS,
    NUMBER_STEP,
    OP,
    ORIGIN,
    PARITY,
    POSITION_STEP,
    RELU,
    ROW_STEP,
    SHARP,
    SLOPE,
    SRC,
    SRC2,
    WEIGHT,
    WEIGHT_SHARE,
    X_START,
    Z_START,
    H,
    W,
)
from ntklens.kernels.engines.fused.corner import corner_row
from ntklens.kernels.engines.fused.hardswish import hardswish_row
from ntklens.kernels.engines.fused.hermite import hermite_row
from ntklens.kernels.engines.fused.kinks import kinks_row
from ntklens.kernels.engines.fused.relu import gap_row, relu_row, times_row
from ntklens.kernels.engines.fused.sliding import box_row, rows_around, slide
from ntklens.kernels.engines.fused.smooth import erf_row, gelu_row
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at


@njit(**INLINE)
@no_type_check
def copy_source(ins, nngp, ntk):
    """Copy the source to the destination, unless they are one, for a step that works in place; return the destination."""
    dst, src, n = ins[DST] * LANES, ins[SRC] * LANES, ins[H] * ins[W]
    if src != dst:
        loops.copy(at(nngp, dst), at(nngp, src), n)
        loops.copy(at(ntk, dst), at(ntk, src), n)
    return dst


@njit(**FAST)
@no_type_check
def gram(ins, nngp, ntk, x, z, channels, positions):
    """Write the covariance of the pixels at an offset; Θ is zero."""
    dst, line = ins[DST] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        p, q = ins[X_START] + y * ins[ROW_STEP], ins[Z_START] + y * ins[ROW_STEP]
        loops.gram_row(at(nngp, dst + y * line), at(x, p), at(z, q * LANES), ins[W], channels, positions)
    loops.clear(at(ntk, dst), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def load_panel(ins, nngp, ntk, panel):
    """Copy the covariance of inputs without positions from the panel; Θ is zero."""
    dst, n = ins[DST] * LANES, ins[H] * ins[W]
    loops.copy(at(nngp, dst), panel, n)
    loops.clear(at(ntk, dst), n)


@njit(**FAST)
@no_type_check
def tables_of(ins, y, marginals):
    """Return where the tables' entries of row y of a map begin, and the steps of `hermite.hermite_row` in them."""
    table_x, table_z, entry_x, entry_z = marginals[2:]
    step = ins[POSITION_STEP]
    of_x = at(table_x, (ins[X_START] + y * ins[ROW_STEP] * step) * entry_x)
    of_z = at(table_z, (ins[Z_START] + y * ins[ROW_STEP]) * entry_z * LANES)
    # In a flat map the blocks of lanes of one coefficient lie side by side.
    return of_x, of_z, entry_x * step, LANES * (entry_z if step else 1), LANES * (1 if step else ins[W])


@njit(**INLINE)
@no_type_check
def number_steps(ins):
    """Return the steps from one number of a position to the next in the marginals of x and of z."""
    # In a flat map each number of z has a vector for every block of lanes.
    return ins[NUMBER_STEP], ins[NUMBER_STEP] * LANES * (1 if ins[POSITION_STEP] else ins[W])


@njit(**FAST)
@no_type_check
def nonlinearity_row(ins, c, nngp_row, ntk_row, of_x, of_z, scratch, factors):
    """Apply a nonlinear function to a row, with its corrections in the precision of the scratch."""
    if ins[OP] == RELU:
        relu_row(nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP], c[SLOPE], scratch)
    elif ins[OP] == ERF:
        erf_row(nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP], *number_steps(ins), scratch)
    elif ins[OP] == KINKS:
        step_x, step_z = number_steps(ins)
        kinks_row(
            nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP], step_x, step_z,
            c[ORIGIN], c[SLOPE], at(factors, ins[HINGES]), scratch,
        )  # fmt: skip
    else:
        gelu_row(nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP], *number_steps(ins), scratch)


@njit(**FAST)
@no_type_check
def activation_row(ins, c, y, nngp_row, ntk_row, marginals, scratch, factors):
    """Apply an activation or a normalisation to row y of a map, in place."""
    # x has one number per position, and z one vector. In a flat map the step is 0: one number of x for all blocks of z.
    marginals_x, marginals_z = marginals[0], marginals[1]
    x_first = ins[X_START] + y * ins[ROW_STEP] * ins[POSITION_STEP]
    z_first = (ins[Z_START] + y * ins[ROW_STEP]) * LANES
    of_x, of_z = at(marginals_x, x_first), at(marginals_z, z_first)
    if ins[OP] == NORMALISE:
        times_row(nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP])
    elif ins[OP] == HERMITE:
        table_x, table_z, step_x, step_z, term_z = tables_of(ins, y, marginals)
        hermite_row(nngp_row, ntk_row, table_x, table_z, ins[W], step_x, step_z, term_z, int(c[PARITY]))
    elif ins[OP] == CORNER:
        table_x, table_z, step_x, step_z, term_z = tables_of(ins, y, marginals)
        corner_row(
            nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP],
            table_x, table_z, step_x, step_z, term_z, c[SHARP] > 0.0,
        )  # fmt: skip
    elif ins[OP] == HARDSWISH:
        hardswish_row(nngp_row, ntk_row, of_x, of_z, ins[W], ins[POSITION_STEP], *number_steps(ins))
    elif ins[IN_FLOAT64]:
        nonlinearity_row(ins, c, nngp_row, ntk_row, of_x, of_z, scratch[0], factors)
    else:
        nonlinearity_row(ins, c, nngp_row, ntk_row, of_x, of_z, scratch[1], factors)


@njit(**FAST)
@no_type_check
def activation(ins, c, nngp, ntk, marginals, scratch, factors):
    """Apply an activation or a normalisation."""
    dst, src, line = ins[DST] * LANES, ins[SRC] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        nngp_row, ntk_row = at(nngp, dst + y * line), at(ntk, dst + y * line)
        if src != dst:  # row by row, so that it is still in the first cache
            loops.copy(nngp_row, at(nngp, src + y * line), ins[W])
            loops.copy(ntk_row, at(ntk, src + y * line), ins[W])
        activation_row(ins, c, y, nngp_row, ntk_row, marginals, scratch, factors)


@njit(**FAST)
@no_type_check
def box(ins, c, nngp, ntk, marginals, scratch, factors, fused):
    """Apply a window of 3 x 3 that keeps the size and, with `fused`, the activation after it to each row at once.

    The row is then still in the processor's first cache, and the activation costs no second passage through the map.
    """
    next_ins, next_c = at(ins, COLUMNS), at(c, CONSTANTS)
    line = ins[W] * LANES
    nngp_zeros, ntk_zeros = at(scratch[0], -line), at(scratch[1], -line)
    nngp_src, ntk_src = at(nngp, ins[SRC] * LANES), at(ntk, ins[SRC] * LANES)
    nngp_dst, ntk_dst = at(nngp, ins[DST] * LANES), at(ntk, ins[DST] * LANES)
    for y in range(ins[H]):
        nngp_row, ntk_row = at(nngp_dst, y * line), at(ntk_dst, y * line)
        box_row(
            nngp_row, ntk_row,
            rows_around(nngp_src, nngp_zeros, ins[W], ins[H], y), rows_around(ntk_src, ntk_zeros, ins[W], ins[H], y),
            ins[W], c[WEIGHT], c[BIAS], c[WEIGHT_SHARE], c[BIAS_SHARE],
        )  # fmt: skip
        if fused:
            # The activation may have another destination, as its source is needed again in a gradient's sweep.
            if next_ins[DST] != ins[DST]:
                next_row = next_ins[DST] * LANES + y * line
                loops.copy(at(nngp, next_row), nngp_row, ins[W])
                loops.copy(at(ntk, next_row), ntk_row, ins[W])
                nngp_row, ntk_row = at(nngp, next_row), at(ntk, next_row)
            activation_row(next_ins, next_c, y, nngp_row, ntk_row, marginals, scratch, factors)


@njit(**FAST)
@no_type_check
def window(ins, c, nngp, ntk, scratch):
    """Apply any window."""
    slide(nngp, ntk, ins[DST] * LANES, ins[SRC] * LANES, ins, c, scratch[0], scratch[1])


@njit(**FAST)
@no_type_check
def affine(ins, c, nngp, ntk):
    """Apply the affine rule."""
    dst = copy_source(ins, nngp, ntk)
    n = ins[H] * ins[W]
    loops.affine(at(nngp, dst), at(ntk, dst), n, c[WEIGHT], c[BIAS], c[WEIGHT_SHARE], c[BIAS_SHARE])


@njit(**FAST)
@no_type_check
def add(ins, nngp, ntk):
    """Add two maps."""
    dst, src2, n = copy_source(ins, nngp, ntk), ins[SRC2] * LANES, ins[H] * ins[W]
    loops.add(at(nngp, dst), at(nngp, src2), n)
    loops.add(at(ntk, dst), at(ntk, src2), n)


@njit(**FAST)
@no_type_check
def reduce(ins, nngp, ntk, sums):
    """Add all positions to two sums, that of K and, one vector further, that of Θ."""
    dst, src, n = ins[DST] * LANES, ins[SRC] * LANES, ins[IN_H] * ins[IN_W]
    if not ins[ADDS]:
        loops.clear(at(sums, dst), 2)
    loops.add_positions(at(sums, dst), at(nngp, src), n)
    loops.add_positions(at(sums, dst + LANES), at(ntk, src), n)


@njit(**FAST)
@no_type_check
def mean(ins, c, nngp, ntk, sums):
    """Add up the pairs of sums of `reduce`, multiply by a constant and write a map of one position."""
    dst, src = ins[DST] * LANES, ins[SRC] * LANES
    for part in range(1, ins[IN_H]):
        loops.add(at(sums, src), at(sums, src + 2 * part * LANES), 2)
    for i in range(LANES):
        nngp[dst + i] = c[FACTOR] * sums[src + i]
        ntk[dst + i] = c[FACTOR] * sums[src + LANES + i]


@njit(**FAST)
@no_type_check
def zero(ins, nngp, ntk):
    """Write zeros."""
    loops.clear(at(nngp, ins[DST] * LANES), ins[H] * ins[W])
    loops.clear(at(ntk, ins[DST] * LANES), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def scale(ins, nngp, ntk, factors):
    """Multiply each position by its factor."""
    dst = ins[DST] * LANES
    loops.scale(at(nngp, dst), at(ntk, dst), at(factors, ins[FACTORS]), ins[H] * ins[W])


@njit(**FAST)
@no_type_check
def zonal(ins, c, nngp, ntk, marginals, scratch, factors):
    """Replace the inputs' covariance, on a flat map, by kernels that are series in the angle."""
    dst, width, std_x, std_z = ins[DST] * LANES, ins[W], marginals[0], marginals[1]
    # Three rows in the precision of the series: the gaps, later values of the series; products of deviations; and y.
    row = scratch[1]
    products, ys = at(row, width * LANES), at(row, 2 * width * LANES)
    gap_row(row, products, at(nngp, dst), std_x, std_z, width, 0)
    angles_row(ys, row, at(nngp, dst), width)
    # The coefficients of K and its drift stand first in `factors`, those of Θ and its drift after them.
    ntk_factors = at(factors, ins[NNGP_TERMS] + ins[NNGP_DRIFT_TERMS])
    if ins[NNGP_TERMS]:
        zonal_row(
            at(nngp, dst), products, ys, std_x, std_z, width,
            factors, ins[NNGP_TERMS], ins[NNGP_DRIFT_TERMS], c[INVERSE_SQUARE], row,
        )  # fmt: skip
    if ins[NTK_TERMS]:
        zonal_row(
            at(ntk, dst), products, ys, std_x, std_z, width,
            ntk_factors, ins[NTK_TERMS], ins[NTK_DRIFT_TERMS], c[INVERSE_SQUARE], row,
        )  # fmt: skip
