"""Inner products of rows, computed anew where two rows are nearly parallel."""

from __future__ import annotations

from typing import Any, no_type_check

import numpy as np
from numba import njit

from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.vectors import FAST, broadcast, convert, load, maximum, pointer, select, store, total

_SUMS: Any = FAST | {"fastmath": {"contract", "nsz", "nnan", "ninf", "reassoc"}}
"""With sums in the order that vectors like."""

_STRETCH = 256
"""Columns that are looked at together for near pairs."""


@njit(**_SUMS)
@no_type_check
def dot(a, b):
    """Product of two rows in float64."""
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return total


@njit(**FAST)
@no_type_check
def add_multiple(dst, src, factor):
    """Add factor src."""
    for i in range(len(dst)):
        dst[i] += factor * src[i]


@njit(**FAST)
@no_type_check
def squares(out, x):
    """|x|² / d of each row, in float64."""
    for i in range(len(x)):
        out[i] = dot(x[i], x[i]) / x.shape[1]


@njit(**FAST)
@no_type_check
def refine(panel, product, x, z, square1, square2, near):
    """<x, z> / d in float64: from the product given, but anew for pairs nearly parallel, where its rounding shows.

    Args:
        panel: (rows, columns) float64, filled.
        product: (rows, columns) in the dtype of x.
        x: (rows, d) float32 or float64.
        z: (columns, d), likewise.
        square1: |x|² / d of the rows.
        square2: |z|² / d of the columns.
        near: pairs with cosine² above (1 - near)² are computed anew.
    """
    n, d = panel.shape[1], x.shape[1]
    bound, share = (1.0 - near) ** 2, 1.0 / x.shape[1]
    for i in range(len(x)):
        out, limit = panel[i], bound * square1[i]
        given, made, squares_z = pointer(product[i]), pointer(out), pointer(square2)
        for start in range(0, n, _STRETCH):
            stop = min(start + _STRETCH, n)
            whole = start + (stop - start) // LANES * LANES
            excess = broadcast(-1.0)
            for j in range(start, whole, LANES):
                value = share * convert(load(given, j), excess)
                store(made, j, value)
                excess = maximum(excess, value * value - limit * load(squares_z, j))
            for j in range(whole, stop):
                out[j] = share * given[j]
            if whole == stop and not total(select(excess > 0.0, broadcast(1.0), broadcast(0.0))) > 0.0:
                continue
            for j in range(start, stop):
                if out[j] * out[j] > limit * square2[j]:
                    out[j] = dot(x[i], z[j]) / d


@njit(**FAST)
@no_type_check
def split(far, total, kbar, product, z, square1, square2, near):
    """Cotangents of the product as float32 for the far pairs; those of near pairs are carried to x here, in float64.

    Args:
        far: (rows, columns) float32, filled; 0 for near pairs.
        total: (rows, d) float64, to which the near pairs' kbar z is added.
        kbar: (rows, columns) float64.
        product: (rows, columns) float64, <x, z> / d.
        z: (columns, d) float32.
        square1: |x|² / d of the rows.
        square2: |z|² / d of the columns.
        near: as in `refine`.
    """
    bound = (1.0 - near) ** 2
    for i in range(len(kbar)):
        limit = bound * square1[i]
        for j in range(len(z)):
            value = kbar[i, j]
            if product[i, j] * product[i, j] > limit * square2[j]:
                add_multiple(total[i], z[j], value)
                value = 0.0
            far[i, j] = value
