"""Sums over windows that slide over a map, and the way back through them.

A sum over a window is separable: sums along each row, then sums of these over the rows (or the reverse), take h + w
additions per window where its places one by one take h w. `slide` takes any window: it sums along the rows first, and as
neighbouring windows share rows, it keeps these sums for as many rows as the window spans. A "box" is the window of 3 x 3,
stride 1 and padding 1, whose map keeps its size: `box_row` adds up three rows, column by column, and three of these.

Neither divides by the number of places: `compiler` has put that into the weight of the affine rule.
The readable version is `Window.slide` in `ntklens.kernels.rules.windows`.
"""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import (
    ADDS,
    BIAS,
    BIAS_SHARE,
    DILATION_H,
    DILATION_W,
    IN_H,
    IN_W,
    KERNEL_H,
    KERNEL_W,
    LANES,
    START_H,
    START_W,
    STRIDE_H,
    STRIDE_W,
    WEIGHT,
    WEIGHT_SHARE,
    H,
    W,
)
from ntklens.kernels.engines.fused.loops import add, affine, clear
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, at, convert, full, load, store


@njit(**INLINE)
@no_type_check
def rows_around(src, zeros, width, height, y):
    """Return the rows y - 1, y and y + 1 of a map, and a row of zeros for those beyond it."""
    line = width * LANES
    row = at(src, y * line)
    return (at(row, -line) if y > 0 else zeros), row, (at(row, line) if y < height - 1 else zeros)


@njit(**INLINE)
@no_type_check
def _column(rows, i):
    return load(rows[0], i) + load(rows[1], i) + load(rows[2], i)


@njit(**INLINE)
@no_type_check
def _write_affine(nngp, ntk, i, k, theta, weight, bias, weight_share, bias_share):
    store(ntk, i, weight_share * convert(k, theta) + (bias_share + weight * theta))
    store(nngp, i, weight * k + bias)


@njit(**FAST)
@no_type_check
def box_row(nngp, ntk, nngp_rows, ntk_rows, width, weight, bias, weight_share, bias_share):
    """Write sums over three rows and three columns along a row, with the affine rule; see `rows_around`."""
    # The sums of three columns stay in registers: the next window shares two of them.
    k_left, theta_left = full(load(nngp_rows[1], 0), 0.0), full(load(ntk_rows[1], 0), 0.0)
    k, theta = _column(nngp_rows, 0), _column(ntk_rows, 0)
    last = (width - 1) * LANES
    for i in range(0, last, LANES):
        k_right, theta_right = _column(nngp_rows, i + LANES), _column(ntk_rows, i + LANES)
        _write_affine(
            nngp, ntk, i, k_left + k + k_right, theta_left + theta + theta_right, weight, bias, weight_share, bias_share
        )  # fmt: skip
        k_left, theta_left, k, theta = k, theta, k_right, theta_right
    _write_affine(nngp, ntk, last, k_left + k, theta_left + theta, weight, bias, weight_share, bias_share)


@njit(**INLINE)
@no_type_check
def _write_affine_adjoint(nngp, ntk, i, k_bar, theta_bar, weight, weight_share):
    store(nngp, i, weight * k_bar + weight_share * convert(theta_bar, k_bar))
    store(ntk, i, weight * theta_bar)


@njit(**FAST)
@no_type_check
def box_row_adjoint(nngp, ntk, nngp_rows, ntk_rows, width, weight, weight_share):
    """Go back through `box_row` on one row: a box is its own adjoint, the affine rule has the transposed one."""
    k_left, theta_left = full(load(nngp_rows[1], 0), 0.0), full(load(ntk_rows[1], 0), 0.0)
    k, theta = _column(nngp_rows, 0), _column(ntk_rows, 0)
    last = (width - 1) * LANES
    for i in range(0, last, LANES):
        k_right, theta_right = _column(nngp_rows, i + LANES), _column(ntk_rows, i + LANES)
        _write_affine_adjoint(
            nngp, ntk, i, k_left + k + k_right, theta_left + theta + theta_right, weight, weight_share
        )  # fmt: skip
        k_left, theta_left, k, theta = k, theta, k_right, theta_right
    _write_affine_adjoint(nngp, ntk, last, k_left + k, theta_left + theta, weight, weight_share)


@njit(**FAST)
@no_type_check
def columns_within(first, stride, width, in_width):
    """Return the range of output columns whose input column, first + stride * column, lies inside the map."""
    low = 0 if first >= 0 else (-first + stride - 1) // stride
    high = 0 if first >= in_width else min(width, (in_width - 1 - first) // stride + 1)
    return low, high


@njit(**FAST)
@no_type_check
def slide_row(dst, src, ins):
    """Write the sums over a window's columns along one row; what lies outside the map is zero."""
    clear(dst, ins[W])
    for place in range(ins[KERNEL_W]):
        first = ins[START_W] + place * ins[DILATION_W]
        low, high = columns_within(first, ins[STRIDE_W], ins[W], ins[IN_W])
        for column in range(low, high):
            o, i = column * LANES, (first + ins[STRIDE_W] * column) * LANES
            store(dst, o, load(dst, o) + load(src, i))


@njit(**FAST)
@no_type_check
def slide(nngp, ntk, dst, src, ins, c, nngp_ring, ntk_ring):
    """Write the sums over a window and apply the affine rule, or add the sums to what is at dst.

    Args:
        nngp: the work space of K.
        ntk: the work space of Θ.
        dst: first element of the output map.
        src: first element of the input map.
        ins: columns of the instruction.
        c: constants of the instruction.
        nngp_ring: for as many output rows as the window spans input rows, for the sums along rows of K.
        ntk_ring: likewise for Θ.
    """
    size_in, size = ins[IN_W] * LANES, ins[W] * LANES
    start, stride, dilation = ins[START_H], ins[STRIDE_H], ins[DILATION_H]
    span = dilation * (ins[KERNEL_H] - 1) + 1
    done = -1  # the ring holds the sums along all input rows up to this one that are read from now on
    for y in range(ins[H]):
        # The window reads the rows first, first + dilation, ..., at most first + span - 1, of which some are padding.
        first = start + stride * y
        last = min(first + span - 1, ins[IN_H] - 1)
        # Sums along the rows that this window is the first to reach. Row r has slot r modulo the span: whatever is
        # overwritten lies above this window.
        for r in range(max(done + 1, first, 0), last + 1):
            if dilation > 1 and (r - first) % dilation != 0 and stride % dilation == 0:
                continue  # a row between the window's places, for this output row and all others
            slot = (r % span) * size
            slide_row(at(nngp_ring, slot), at(nngp, src + r * size_in), ins)
            slide_row(at(ntk_ring, slot), at(ntk, src + r * size_in), ins)
        done = max(done, last)
        # The sum over the window's rows.
        nngp_row, ntk_row = at(nngp, dst + y * size), at(ntk, dst + y * size)
        if not ins[ADDS]:
            clear(nngp_row, ins[W])
            clear(ntk_row, ins[W])
        for place in range(ins[KERNEL_H]):
            r = first + dilation * place
            if 0 <= r < ins[IN_H]:
                slot = (r % span) * size
                add(nngp_row, at(nngp_ring, slot), ins[W])
                add(ntk_row, at(ntk_ring, slot), ins[W])
        if not ins[ADDS]:
            affine(nngp_row, ntk_row, ins[W], c[WEIGHT], c[BIAS], c[WEIGHT_SHARE], c[BIAS_SHARE])


@njit(**FAST)
@no_type_check
def slide_row_adjoint(dst, src, ins):
    """Add each entry of an output row to the entries of an input row that its window read."""
    for place in range(ins[KERNEL_W]):
        first = ins[START_W] + place * ins[DILATION_W]
        low, high = columns_within(first, ins[STRIDE_W], ins[W], ins[IN_W])
        for column in range(low, high):
            o, i = (first + ins[STRIDE_W] * column) * LANES, column * LANES
            store(dst, o, load(dst, o) + load(src, i))


@njit(**FAST)
@no_type_check
def slide_adjoint(dst, src, ins, row):
    """Add each entry of the output map src to the entries of the input map dst that its window read."""
    size_in, size = ins[IN_W] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        # Along the row first, once; then the result goes to every row of the window.
        clear(row, ins[IN_W])
        slide_row_adjoint(row, at(src, y * size), ins)
        for place in range(ins[KERNEL_H]):
            r = ins[START_H] + ins[STRIDE_H] * y + ins[DILATION_H] * place
            if 0 <= r < ins[IN_H]:
                add(at(dst, r * size_in), row, ins[IN_W])
