"""Loops over the positions of a map, which is given by a pointer to its first vector and the number of its positions."""

from __future__ import annotations

from typing import no_type_check

from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import FAST, INLINE, convert, full, load, share_of, store

_COLUMNS = 16
"""Columns that `interleave` takes at a time: a cache line of float32, two of float64."""


@njit(**FAST)
@no_type_check
def copy(dst, src, n):
    """Copy src into dst, in the precision of dst."""
    for i in range(0, n * LANES, LANES):
        store(dst, i, convert(load(src, i), load(dst, i)))


@njit(**FAST)
@no_type_check
def write(dst, src, count):
    """Copy this many numbers, which need not be a whole number of vectors, in the precision of dst."""
    whole = count // LANES * LANES
    for i in range(0, whole, LANES):
        store(dst, i, convert(load(src, i), load(dst, i)))
    for i in range(whole, count):
        dst[i] = src[i]


@njit(**FAST)
@no_type_check
def interleave(out, rows):
    """Write rows (n, p) as blocks (blocks, p, lanes), the numbers of `lanes` rows side by side; zeros fill the last."""
    blocks, p, lanes = out.shape
    for block in range(blocks):
        # A few columns at a time, so that a row's cache line is read once.
        for start in range(0, p, _COLUMNS):
            stop = min(start + _COLUMNS, p)
            for lane in range(lanes):
                i = block * lanes + lane
                for j in range(start, stop):
                    out[block, j, lane] = rows[i, j] if i < len(rows) else 0.0


@njit(**FAST)
@no_type_check
def clear(dst, n):
    """Fill dst with zeros."""
    zero = full(load(dst, 0), 0.0)
    for i in range(0, n * LANES, LANES):
        store(dst, i, zero)


@njit(**FAST)
@no_type_check
def spread(dst, src, n, factor):
    """Write one vector times a factor to every position."""
    value = factor * load(src, 0)
    for i in range(0, n * LANES, LANES):
        store(dst, i, value)


@njit(**FAST)
@no_type_check
def add(dst, src, n):
    """Add src to dst."""
    for i in range(0, n * LANES, LANES):
        store(dst, i, load(dst, i) + load(src, i))


@njit(**INLINE)
@no_type_check
def add_lanes(sums, i, factor, value):
    """Add to the number i of `sums` a factor times the sum over a vector's lanes; or to the vector i, lane by lane."""
    sums[i] = sums[i] + factor * share_of(value, sums)


@njit(**FAST)
@no_type_check
def add_positions(sums, src, n):
    """Add all positions of a map to one vector in float64."""
    # Every fourth position goes to one of four sums: an addition then need not wait for the one before it.
    size = n * LANES
    a = load(sums, 0)
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
    store(sums, 0, (a + b) + (c + d))


@njit(**FAST)
@no_type_check
def affine(nngp, ntk, n, weight, bias, weight_share, bias_share):
    """Replace Θ by weight_share K + bias_share + weight Θ, and K by weight K + bias."""
    for i in range(0, n * LANES, LANES):
        k, theta = load(nngp, i), load(ntk, i)
        store(ntk, i, weight_share * convert(k, theta) + (bias_share + weight * theta))
        store(nngp, i, weight * k + bias)


@njit(**FAST)
@no_type_check
def affine_adjoint(nngp, ntk, n, weight, weight_share):
    """Go back through `affine`: K̄ <- weight K̄ + weight_share Θ̄, Θ̄ <- weight Θ̄."""
    for i in range(0, n * LANES, LANES):
        theta_bar = load(ntk, i)
        store(nngp, i, weight * load(nngp, i) + weight_share * convert(theta_bar, load(nngp, i)))
        store(ntk, i, weight * theta_bar)


@njit(**FAST)
@no_type_check
def scale(nngp, ntk, factors, n):
    """Multiply each position by its factor."""
    for p in range(n):
        i = p * LANES
        store(nngp, i, load(nngp, i) * factors[p])
        store(ntk, i, load(ntk, i) * factors[p])


@njit(**FAST)
@no_type_check
def gram_row(nngp, x, z, width, channels, positions):
    """Write the covariance of the pixels of x and z along a row: the mean over channels of their products.

    Args:
        nngp: the row.
        x: the first channel of x at the row's first position, one number per position.
        z: likewise of z, one vector per position.
        width: positions of the row.
        channels: number of channels.
        positions: positions of an image, that is, from one channel to the next.
    """
    share = 1.0 / channels
    for p in range(width):
        i = p * LANES
        value = full(load(nngp, i), 0.0)
        for c in range(channels):
            value = value + full(value, x[c * positions + p]) * convert(load(z, c * positions * LANES + i), value)
        store(nngp, i, share * value)


@njit(**FAST)
@no_type_check
def gram_row_adjoint(x_bar, nngp, z, width, channels, positions):
    """Go back through `gram_row`: add to x̄ the sum over the lanes of K̄ z / channels."""
    share = 1.0 / channels
    for p in range(width):
        i = p * LANES
        value = share * load(nngp, i)
        for c in range(channels):
            add_lanes(x_bar, c * positions + p, 1.0, value * convert(load(z, c * positions * LANES + i), value))
