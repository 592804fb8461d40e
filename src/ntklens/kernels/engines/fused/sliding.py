"""Sums over windows that slide over a map, and the way back through them."""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import (
    ADD,
    DIL_X,
    DIL_Y,
    IN_H,
    IN_W,
    KH,
    KW,
    LANES,
    STRIDE_X,
    STRIDE_Y,
    SX,
    SY,
    H,
    W,
)
from ntklens.kernels.engines.fused.loops import add, affine, clear, copy
from ntklens.kernels.engines.fused.vectors import FAST, at, convert, full, load, store


@njit(**FAST)
@no_type_check
def add_rows(dst, src, width, height, y):
    """Sum of the rows y - 1 to y + 1 that the map has, with a position of zeros on either side."""
    line = width * LANES
    row = at(src, y * line)
    zero = full(load(src, 0), 0.0)
    store(dst, 0, zero)
    store(dst, line + LANES, zero)
    dst = at(dst, LANES)
    if 0 < y < height - 1:
        for i in range(0, line, LANES):
            store(dst, i, load(row, i - line) + load(row, i) + load(row, i + line))
    elif height > 1:
        other = line if y == 0 else -line
        for i in range(0, line, LANES):
            store(dst, i, load(row, i) + load(row, i + other))
    else:
        copy(dst, row, width)


@njit(**FAST)
@no_type_check
def box_row(k, t, sum_k, sum_t, width, w, b, own, bias, wt):
    """Sums over three columns of `add_rows`, then the affine rule."""
    for i in range(0, width * LANES, LANES):
        v = load(sum_k, i) + load(sum_k, i + LANES) + load(sum_k, i + 2 * LANES)
        tangent = load(sum_t, i) + load(sum_t, i + LANES) + load(sum_t, i + 2 * LANES)
        store(t, i, own * convert(v, tangent) + (bias + wt * tangent))
        store(k, i, w * v + b)


@njit(**FAST)
@no_type_check
def box_row_t(k, t, sum_k, sum_t, width, w, own, wt):
    """The same with the transposed rule."""
    for i in range(0, width * LANES, LANES):
        v = load(sum_k, i) + load(sum_k, i + LANES) + load(sum_k, i + 2 * LANES)
        tangent = load(sum_t, i) + load(sum_t, i + LANES) + load(sum_t, i + 2 * LANES)
        store(k, i, w * v + own * convert(tangent, v))
        store(t, i, wt * tangent)


@njit(**FAST)
@no_type_check
def columns_within(first, stride, width, in_width):
    """The columns of a result whose place of a window, at first + stride * column, lies inside."""
    low = 0 if first >= 0 else (-first + stride - 1) // stride
    high = 0 if first >= in_width else min(width, (in_width - 1 - first) // stride + 1)
    return low, high


@njit(**FAST)
@no_type_check
def slide_row(dst, src, ins):
    """Sum over a window along one row; what lies outside is zero."""
    clear(dst, ins[W])
    for place in range(ins[KW]):
        first = ins[SX] + place * ins[DIL_X]
        low, high = columns_within(first, ins[STRIDE_X], ins[W], ins[IN_W])
        for column in range(low, high):
            o, i = column * LANES, (first + ins[STRIDE_X] * column) * LANES
            store(dst, o, load(dst, o) + load(src, i))


@njit(**FAST)
@no_type_check
def window(k, t, dst, src, ins, c, ring_k, ring_t):
    """Sum over a window, rows by a ring of row sums; then the affine rule, or added to what is there."""
    size_in, size = ins[IN_W] * LANES, ins[W] * LANES
    start, stride, dilation = ins[SY], ins[STRIDE_Y], ins[DIL_Y]
    span = dilation * (ins[KH] - 1) + 1
    done = -1  # sums of rows up to this one are in the ring
    for y in range(ins[H]):
        first = start + stride * y
        last = min(first + span - 1, ins[IN_H] - 1)
        for r in range(max(done + 1, first, 0), last + 1):
            if dilation > 1 and (r - first) % dilation != 0 and stride % dilation == 0:
                continue  # never read
            slot = (r % span) * size
            slide_row(at(ring_k, slot), at(k, src + r * size_in), ins)
            slide_row(at(ring_t, slot), at(t, src + r * size_in), ins)
        done = max(done, last)
        ko, to = at(k, dst + y * size), at(t, dst + y * size)
        if not ins[ADD]:
            clear(ko, ins[W])
            clear(to, ins[W])
        for place in range(ins[KH]):
            r = first + dilation * place
            if 0 <= r < ins[IN_H]:
                slot = (r % span) * size
                add(ko, at(ring_k, slot), ins[W])
                add(to, at(ring_t, slot), ins[W])
        if not ins[ADD]:
            affine(ko, to, ins[W], c[0], c[1], c[2], c[3], c[4])


@njit(**FAST)
@no_type_check
def slide_row_t(dst, src, ins):
    """Add each entry of a row to the places that its window saw."""
    for place in range(ins[KW]):
        first = ins[SX] + place * ins[DIL_X]
        low, high = columns_within(first, ins[STRIDE_X], ins[W], ins[IN_W])
        for column in range(low, high):
            o, i = (first + ins[STRIDE_X] * column) * LANES, column * LANES
            store(dst, o, load(dst, o) + load(src, i))


@njit(**FAST)
@no_type_check
def window_t(dst, src, ins, row):
    """Add each entry of a map to the places that its window saw."""
    size_in, size = ins[IN_W] * LANES, ins[W] * LANES
    for y in range(ins[H]):
        clear(row, ins[IN_W])
        slide_row_t(row, at(src, y * size), ins)
        for place in range(ins[KH]):
            r = ins[SY] + ins[STRIDE_Y] * y + ins[DIL_Y] * place
            if 0 <= r < ins[IN_H]:
                add(at(dst, r * size_in), row, ins[IN_W])
