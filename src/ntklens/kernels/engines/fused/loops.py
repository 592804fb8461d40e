"""Loops over the positions of a map, which is given by a pointer to its first vector and the number of its positions."""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import FAST, convert, full, load, store, total


@njit(**FAST)
@no_type_check
def copy(dst, src, n):
    """Copy src into dst."""
    for i in range(0, n * LANES, LANES):
        store(dst, i, load(src, i))


@njit(**FAST)
@no_type_check
def write(dst, src, count):
    """Copy this many numbers, which may be no whole number of vectors, in the precision of dst."""
    whole = count // LANES * LANES
    for i in range(0, whole, LANES):
        store(dst, i, convert(load(src, i), load(dst, i)))
    for i in range(whole, count):
        dst[i] = src[i]


@njit(**FAST)
@no_type_check
def clear(dst, n):
    """Zeros."""
    zero = full(load(dst, 0), 0.0)
    for i in range(0, n * LANES, LANES):
        store(dst, i, zero)


@njit(**FAST)
@no_type_check
def spread(dst, src, n, factor):
    """One vector times a factor to every position."""
    value = factor * load(src, 0)
    for i in range(0, n * LANES, LANES):
        store(dst, i, value)


@njit(**FAST)
@no_type_check
def add(dst, src, n):
    """Add src to dst."""
    for i in range(0, n * LANES, LANES):
        store(dst, i, load(dst, i) + load(src, i))


@njit(**FAST)
@no_type_check
def add_positions(total, src, n):
    """Add all positions to a vector in float64: every fourth to one of four sums, so that they need not wait in turn."""
    size = n * LANES
    a = load(total, 0)
    b = full(a, 0.0)
    c, d = b, b
    whole = size - size % (4 * LANES)
    for i in range(0, whole, 4 * LANES):
        a = a + convert(load(src, i), a)
        b = b + convert(load(src, i + LANES), a)
        c = c + convert(load(src, i + 2 * LANES), a)
        d = d + convert(load(src, i + 3 * LANES), a)
    for i in range(whole, size, LANES):
        a = a + convert(load(src, i), a)
    store(total, 0, (a + b) + (c + d))


@njit(**FAST)
@no_type_check
def affine(k, t, n, w, b, own, bias, wt):
    """Θ <- own K + bias + wt Θ, K <- w K + b."""
    for i in range(0, n * LANES, LANES):
        v, tangent = load(k, i), load(t, i)
        store(t, i, own * convert(v, tangent) + (bias + wt * tangent))
        store(k, i, w * v + b)


@njit(**FAST)
@no_type_check
def affine_t(k, t, n, w, own, wt):
    """Back through `affine`: K̄ <- w K̄ + own Θ̄, Θ̄ <- wt Θ̄."""
    for i in range(0, n * LANES, LANES):
        tangent = load(t, i)
        store(k, i, w * load(k, i) + own * convert(tangent, load(k, i)))
        store(t, i, wt * tangent)


@njit(**FAST)
@no_type_check
def scale(k, t, factors, n):
    """Each position times its factor."""
    for p in range(n):
        i = p * LANES
        store(k, i, load(k, i) * factors[p])
        store(t, i, load(t, i) * factors[p])


@njit(**FAST)
@no_type_check
def gram_row(k, x, z, width, channels, positions):
    """Covariance of the pixels of x and z along a row.

    Args:
        k: the row, filled.
        x: the first channel of x at the row's first position.
        z: the same of z, a vector a position.
        width: positions of the row.
        channels: their number.
        positions: of an image, from one channel to the next.
    """
    share = 1.0 / channels
    for p in range(width):
        i = p * LANES
        value = full(load(k, i), 0.0)
        for c in range(channels):
            value = value + (share * x[c * positions + p]) * convert(load(z, c * positions * LANES + i), value)
        store(k, i, value)


@njit(**FAST)
@no_type_check
def gram_row_t(xbar, k, z, width, channels, positions):
    """Back to the pixels of x."""
    share = 1.0 / channels
    for p in range(width):
        i = p * LANES
        value = share * load(k, i)
        for c in range(channels):
            xbar[c * positions + p] += total(value * convert(load(z, c * positions * LANES + i), value))
