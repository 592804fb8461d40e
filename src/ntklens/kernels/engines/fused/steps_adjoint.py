"""The operations of the backward pass, one function each; the arguments are called as in `steps`.

In `nngp` and `ntk`, dst and src hold cotangents K̄ and Θ̄. `log_marginals_bar` points to the cotangents of the logarithms
of x's marginals: a marginal m enters every rule as a factor of m, and m m̄, which is the cotangent of log m, is what the
rules yield without a division.
"""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused import loops
from ntklens.kernels.engines.fused.angle import zonal_row_adjoint
from ntklens.kernels.engines.fused.codes import (
    COLUMNS,
    CONSTANTS,
    CORNER_ADJOINT,
    DST,
    ERF_ADJOINT,
    FACTOR,
    GELU_ADJOINT,
    HARDSWISH_ADJOINT,
    HERMITE_ADJOINT,
    HINGES,
    IN_FLOAT64,
    KINKS_ADJOINT,
    LANES,
    LEAD,
    OP,
    ORIGIN,
    PARITY,
    POSITION_STEP,
    RELU_ADJOINT,
    ROW_STEP,
    SHARP,
    SLOPE,
    SRC,
    TERMS,
    VALUE,
    WEIGHT,
    WEIGHT_SHARE,
    X_START,
    Z_START,
    H,
    W,
)
from ntklens.kernels.engines.fused.corner import corner_row_adjoint
from ntklens.kernels.engines.fused.hardswish import hardswish_row_adjoint
from ntklens.kernels.engines.fused.hermite import hermite_row_adjoint
from ntklens.kernels.engines.fused.kinks import kinks_row_adjoint
from ntklens.kernels.engines.fused.relu import relu_row_adjoint, times_row_adjoint
from ntklens.kernels.engines.fused.sliding import box_row_adjoint, rows_around, slide_adjoint
from ntklens.kernels.engines.fused.smooth import erf_row_adjoint, gelu_row_adjoint
from ntklens.kernels.engines.fused.steps import number_steps, tables_of
from ntklens.kernels.engines.fused.vectors import FAST, at


@njit(**FAST)
@no_type_check
def seed(ins, nngp, ntk, weights, of_ntk):
    """Write the cotangents of the output: the weights for one kernel, zero for the other."""
    dst, n = ins[DST] * LANES, ins[H] * ins[W] * LANES
    for i in range(n):
        nngp[dst + i] = 0.0 if of_ntk else weights[i]
        ntk[dst + i] = weights[i] if of_ntk else 0.0


@njit(**FAST)
@no_type_check
def fill(ins, c, nngp, ntk):
    """Go back through a mean: every position gets the same share."""
    dst, src, n = ins[DST] * LANES, ins[SRC] * LANES, ins[H] * ins[W]
    loops.spread(at(nngp, dst), at(nngp, src), n, c[FACTOR])
    loops.spread(at(ntk, dst), at(ntk, src), n, c[FACTOR])


@njit(**FAST)
@no_type_check
def affine(ins, c, nngp, ntk):
    """Go back through the affine rule."""
    dst = ins[DST] * LANES
    loops.affine_adjoint(at(nngp, dst), at(ntk, dst), ins[H] * ins[W], c[WEIGHT], c[WEIGHT_SHARE])


@njit(**FAST)
@no_type_check
def window(ins, nngp, ntk, scratch):
    """Go back through a window, and add the result to what is at the destination."""
    dst, src = ins[DST] * LANES, ins[SRC] * LANES
    slide_adjoint(at(nngp, dst), at(nngp, src), ins, scratch[0])
    slide_adjoint(at(ntk, dst), at(ntk, src), ins, scratch[1])


@njit(**FAST)
@no_type_check
def activation_row(ins, c, y, nngp_row, ntk_row, value, tangent, marginals, log_marginals_bar, scratch, factors):
    """Go back through an activation or a normalisation on row y, in place; `value` and `tangent` are K and Θ before it."""
    marginals_x, marginals_z = marginals[0], marginals[1]
    x_first = ins[X_START] + y * ins[ROW_STEP] * ins[POSITION_STEP]
    z_first = (ins[Z_START] + y * ins[ROW_STEP]) * LANES
    of_x, of_z, bar = at(marginals_x, x_first), at(marginals_z, z_first), at(log_marginals_bar, x_first)
    step = ins[POSITION_STEP]
    if ins[OP] == RELU_ADJOINT:
        relu_row_adjoint(nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, c[SLOPE], bar, scratch[1])
    elif ins[OP] == ERF_ADJOINT and ins[IN_FLOAT64]:
        erf_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins), bar, scratch[0]
        )  # fmt: skip
    elif ins[OP] == ERF_ADJOINT:
        erf_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins), bar, scratch[1]
        )  # fmt: skip
    elif ins[OP] == GELU_ADJOINT and ins[IN_FLOAT64]:
        gelu_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins), bar, scratch[0]
        )  # fmt: skip
    elif ins[OP] == GELU_ADJOINT:
        gelu_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins), bar, scratch[1]
        )  # fmt: skip
    elif ins[OP] == KINKS_ADJOINT and ins[IN_FLOAT64]:
        kinks_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins),
            c[ORIGIN], c[SLOPE], at(factors, ins[HINGES]), bar, scratch[0],
        )  # fmt: skip
    elif ins[OP] == KINKS_ADJOINT:
        kinks_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins),
            c[ORIGIN], c[SLOPE], at(factors, ins[HINGES]), bar, scratch[1],
        )  # fmt: skip
    elif ins[OP] == HARDSWISH_ADJOINT:
        hardswish_row_adjoint(nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, *number_steps(ins), bar)
    elif ins[OP] == HERMITE_ADJOINT:
        table_x, table_z, step_x, step_z, term_z = tables_of(ins, y, marginals)
        length = (marginals[4] - LEAD) // 2
        hermite_row_adjoint(
            nngp_row, ntk_row, value, tangent, table_x, table_z, ins[W], step_x, step_z, term_z,
            length, int(c[PARITY]), bar, step,
        )  # fmt: skip
    elif ins[OP] == CORNER_ADJOINT:
        table_x, table_z, step_x, step_z, term_z = tables_of(ins, y, marginals)
        corner_row_adjoint(
            nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, table_x, table_z, step_x, step_z, term_z,
            (marginals[4] - LEAD) // 2, c[SHARP] > 0.0, bar,
        )  # fmt: skip
    else:
        times_row_adjoint(nngp_row, ntk_row, value, tangent, of_x, of_z, ins[W], step, bar)


@njit(**FAST)
@no_type_check
def activation(ins, c, nngp, ntk, marginals, log_marginals_bar, scratch, factors):
    """Go back through an activation or a normalisation."""
    dst, value, line = ins[DST] * LANES, ins[VALUE] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        row, value_row = dst + y * line, value + y * line
        activation_row(
            ins, c, y, at(nngp, row), at(ntk, row), at(nngp, value_row), at(ntk, value_row),
            marginals, log_marginals_bar, scratch, factors,
        )  # fmt: skip


@njit(**FAST)
@no_type_check
def box(ins, c, nngp, ntk, marginals, log_marginals_bar, scratch, factors, fused):
    """Go back through a window of 3 x 3 that keeps the size and, with `fused`, through the activation before it."""
    next_ins, next_c = at(ins, COLUMNS), at(c, CONSTANTS)
    line = ins[W] * LANES
    nngp_zeros, ntk_zeros = at(scratch[0], -line), at(scratch[1], -line)
    nngp_src, ntk_src, dst = at(nngp, ins[SRC] * LANES), at(ntk, ins[SRC] * LANES), ins[DST] * LANES
    for y in range(ins[H]):
        # The window is symmetric, so the sum over a window is its own adjoint; see `steps.box`.
        row, value_row = dst + y * line, next_ins[VALUE] * LANES + y * line
        box_row_adjoint(
            at(nngp, row), at(ntk, row),
            rows_around(nngp_src, nngp_zeros, ins[W], ins[H], y), rows_around(ntk_src, ntk_zeros, ins[W], ins[H], y),
            ins[W], c[WEIGHT], c[WEIGHT_SHARE],
        )  # fmt: skip
        if fused:
            activation_row(
                next_ins, next_c, y, at(nngp, row), at(ntk, row), at(nngp, value_row), at(ntk, value_row),
                marginals, log_marginals_bar, scratch, factors,
            )  # fmt: skip


@njit(**FAST)
@no_type_check
def zonal(ins, nngp, ntk, marginals, log_marginals_bar, scratch, factors):
    """Go back through a series in the angle."""
    dst, value, std_x, std_z = ins[DST] * LANES, ins[VALUE] * LANES, marginals[0], marginals[1]
    zonal_row_adjoint(
        at(nngp, dst), at(ntk, dst), at(nngp, value), std_x, std_z, ins[W],
        factors, ins[TERMS], log_marginals_bar, scratch[0],
    )  # fmt: skip


@njit(**FAST)
@no_type_check
def gram(ins, nngp, x_bar, z, channels, positions):
    """Go back to the pixels of x."""
    src, line = ins[SRC] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        p, q = ins[X_START] + y * ins[ROW_STEP], ins[Z_START] + y * ins[ROW_STEP]
        loops.gram_row_adjoint(at(x_bar, p), at(nngp, src + y * line), at(z, q * LANES), ins[W], channels, positions)


@njit(**FAST)
@no_type_check
def store_panel(ins, nngp, panel_bar):
    """Go back to the panel of inputs without positions."""
    loops.copy(panel_bar, at(nngp, ins[SRC] * LANES), ins[H] * ins[W])
