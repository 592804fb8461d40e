"""Loops over contiguous entries, which the compiler turns into vectors; the rules that act on single entries."""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.fused.codes import LANES

FAST: Any = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract", "nsz", "nnan", "ninf"}}
"""How Numba compiles; sums keep their order."""

SUMS: Any = FAST | {"fastmath": {"contract", "nsz", "nnan", "ninf", "reassoc"}}
"""With sums in the order that vectors like."""


@njit(**FAST)
@no_type_check
def copy(dst, src):
    """Copy src into dst."""
    for i in range(len(dst)):
        dst[i] = src[i]


@njit(**FAST)
@no_type_check
def clear(dst):
    """Zeros."""
    for i in range(len(dst)):
        dst[i] = 0.0


@njit(**FAST)
@no_type_check
def add(dst, src):
    """Add src to dst."""
    for i in range(len(dst)):
        dst[i] += src[i]


@njit(**FAST)
@no_type_check
def sum_of_2(dst, a, b):
    """A + b."""
    for i in range(len(dst)):
        dst[i] = a[i] + b[i]


@njit(**FAST)
@no_type_check
def sum_of_3(dst, a, b, c):
    """A + b + c."""
    for i in range(len(dst)):
        dst[i] = a[i] + b[i] + c[i]


@njit(**FAST)
@no_type_check
def add_product(dst, a, b, factor):
    """Add factor a b."""
    for i in range(len(dst)):
        dst[i] += factor * a[i] * b[i]


@njit(**FAST)
@no_type_check
def add_multiple(dst, src, factor):
    """Add factor src."""
    for i in range(len(dst)):
        dst[i] += factor * src[i]


@njit(**SUMS)
@no_type_check
def dot(a, b):
    """Product of two rows in float64."""
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(**FAST)
@no_type_check
def affine(k, t, w, b, own, bias, wt):
    """Θ <- own K + bias + wt Θ, K <- w K + b."""
    for i in range(len(k)):
        t[i] = own * k[i] + bias + wt * t[i]
        k[i] = w * k[i] + b


@njit(**FAST)
@no_type_check
def affine_of_2(k, t, k0, k1, t0, t1, w, b, own, bias, wt):
    """The same of the sum of two rows."""
    for i in range(len(k)):
        v = k0[i] + k1[i]
        t[i] = own * v + bias + wt * (t0[i] + t1[i])
        k[i] = w * v + b


@njit(**FAST)
@no_type_check
def affine_of_3(k, t, k0, k1, k2, t0, t1, t2, w, b, own, bias, wt):
    """The same of the sum of three rows."""
    for i in range(len(k)):
        v = k0[i] + k1[i] + k2[i]
        t[i] = own * v + bias + wt * (t0[i] + t1[i] + t2[i])
        k[i] = w * v + b


@njit(**FAST)
@no_type_check
def affine_t(k, t, w, own, wt):
    """Back through `affine`: K̄ <- w K̄ + own Θ̄, Θ̄ <- wt Θ̄."""
    for i in range(len(k)):
        k[i] = w * k[i] + own * t[i]
        t[i] = wt * t[i]


@njit(**FAST)
@no_type_check
def times(k, t, s):
    """K and Θ times s."""
    for i in range(len(k)):
        k[i] *= s[i]
        t[i] *= s[i]


@njit(**FAST)
@no_type_check
def times_t(k, t, value, tangent, s, out):
    """Back through a product with s: `out` gets s dL/ds."""
    for i in range(len(k)):
        out[i] = s[i] * (k[i] * value[i] + t[i] * tangent[i])
        k[i] *= s[i]
        t[i] *= s[i]


@njit(**FAST)
@no_type_check
def add_lanes(total, src, tmp):
    """Add all positions of a map to a vector of lanes: folded in halves, so that the loops are long."""
    n = len(src)
    step = min(16 * LANES, n)
    copy(tmp[:step], src[:step])
    for p in range(step, n, step):
        m = min(step, n - p)
        add(tmp[:m], src[p : p + m])
    for p in range(0, step, LANES):
        add(total, tmp[p : p + LANES])


@njit(**FAST)
@no_type_check
def gram_row(k, x, z, width, factor, first):
    """Add factor x[p] z[p, lane] to k; the first channel overwrites."""
    for p in range(width):
        v = factor * x[p]
        # slices of one vector, so that the compiler sees no overlap between positions
        here, there = k[p * LANES : (p + 1) * LANES], z[p * LANES : (p + 1) * LANES]
        if first:
            for i in range(LANES):
                here[i] = v * there[i]
        else:
            for i in range(LANES):
                here[i] += v * there[i]


@njit(**FAST)
@no_type_check
def gram_row_of_3(k, x0, x1, x2, z0, z1, z2, width, factor):
    """The same of three channels."""
    for p in range(width):
        a, b, c = factor * x0[p], factor * x1[p], factor * x2[p]
        here = k[p * LANES : (p + 1) * LANES]
        u, v, w = z0[p * LANES : (p + 1) * LANES], z1[p * LANES : (p + 1) * LANES], z2[p * LANES : (p + 1) * LANES]
        for i in range(LANES):
            here[i] = a * u[i] + b * v[i] + c * w[i]
