"""Inner products of rows in float64, which cost their full precision only where two rows are nearly parallel."""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import FAST, broadcast, convert, load, maximum, pointer, select, store, total

_SUMS: Any = FAST | {"fastmath": {"contract", "nsz", "nnan", "ninf", "reassoc"}}
"""Compiler options for a loop that may add up its terms in any order, and so in vectors."""

_STRETCH = 256
"""Columns of a row that are searched for near pairs together: if there are none, nothing else is done."""


@njit(**_SUMS)
@no_type_check
def dot(a, b):
    """Return the inner product of two rows, in float64."""
    result = 0.0
    for i in range(len(a)):
        result += np.float64(a[i]) * np.float64(b[i])
    return result


@njit(**FAST)
@no_type_check
def add_multiple(dst, src, factor):
    """Add factor * src to dst."""
    for i in range(len(dst)):
        dst[i] += factor * src[i]


@njit(**FAST)
@no_type_check
def squares(out, x):
    """Write |x|² / d of each row, in float64."""
    for i in range(len(x)):
        out[i] = dot(x[i], x[i]) / x.shape[1]


@njit(**FAST)
@no_type_check
def refine(panel, product, x, z, square1, square2, near):
    """Write <x, z> / d in float64: from a product in lower precision, and from the rows themselves for near pairs.

    A pair is near, that is, nearly parallel or nearly opposite, where cos² > (1 - near)². The rounding of its product
    would show in its small angle.

    Args:
        panel: (rows, columns) float64, written.
        product: (rows, columns), <x, z> in the dtype of x.
        x: (rows, d) float32 or float64.
        z: (columns, d), likewise.
        square1: |x|² / d of the rows, float64.
        square2: |z|² / d of the columns, float64.
        near: the bound on 1 - |cos|.
    """
    n, d = panel.shape[1], x.shape[1]
    bound, share = (1.0 - near) ** 2, 1.0 / x.shape[1]
    for i in range(len(x)):
        # The pair (i, j) is near where p² > (1 - near)² |x|² |z|² / d², with p = <x, z> / d.
        out, limit = panel[i], bound * square1[i]
        source, target, squares_z = pointer(product[i]), pointer(out), pointer(square2)
        for start in range(0, n, _STRETCH):
            stop = min(start + _STRETCH, n)
            whole = start + (stop - start) // LANES * LANES
            # Convert the stretch, and keep in each lane the largest excess of p² over its limit.
            excess = broadcast(-1.0)
            for j in range(start, whole, LANES):
                value = share * convert(load(source, j), excess)
                store(target, j, value)
                excess = maximum(excess, value * value - limit * load(squares_z, j))
            for j in range(whole, stop):
                out[j] = share * source[j]
            # No lane has an excess, and no column was left over: there is no near pair in the stretch.
            if whole == stop and not total(select(excess > 0.0, broadcast(1.0), broadcast(0.0))) > 0.0:
                continue
            for j in range(start, stop):
                if out[j] * out[j] > limit * square2[j]:
                    out[j] = dot(x[i], z[j]) / d


@njit(**FAST)
@no_type_check
def split(far, x_bar, panel_bar, panel, z, square1, square2, near):
    """Go back through `refine`: separate the cotangents of far pairs, and carry those of near pairs to x in float64.

    Args:
        far: (rows, columns) float32, written: the cotangents of far pairs, and 0 for near ones.
        x_bar: (rows, d) float64, to which panel_bar z of the near pairs is added.
        panel_bar: (rows, columns) float64, the cotangents of the panel.
        panel: (rows, columns) float64, as `refine` has written it.
        z: (columns, d) float32.
        square1: |x|² / d of the rows, float64.
        square2: |z|² / d of the columns, float64.
        near: the bound on 1 - |cos|.
    """
    bound = (1.0 - near) ** 2
    for i in range(len(panel_bar)):
        limit = bound * square1[i]
        for j in range(len(z)):
            value = panel_bar[i, j]
            if panel[i, j] * panel[i, j] > limit * square2[j]:
                add_multiple(x_bar[i], z[j], value)
                value = 0.0
            far[i, j] = value
