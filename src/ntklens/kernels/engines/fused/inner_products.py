"""Inner products of two batches without positions, in tiles of one shape and exact for nearly parallel inputs.

A library picks its order of summation by the shape of a product; tiles of one shape make an entry the same in every batch.
"""

from __future__ import annotations

import copy
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.engines.fused import codes, near_pairs
from ntklens.kernels.engines.fused.layout import Array
from ntklens.kernels.engines.fused.program import FLAT_WIDTH
from ntklens.kernels.engines.fused.threads import in_threads, work_space

TILE = 192
"""Rows and columns of a tile: a multiple of the 48 that MKL takes at a time.

Where columns are left over, as of 256, it adds up those in float64 in another order, so that an entry depends on its place.
"""
_STRIP = 64
"""Rows that a batch's last tile is filled up to a multiple of, where the library multiplies strips as it does tiles."""
BLOCK = FLAT_WIDTH * codes.LANES
"""Columns that a program takes at a time."""
NEAR = 0.02
"""Float32 inputs whose cosine is above 1 - NEAR (angles below 0.2) are multiplied again in float64.

At an angle θ the rounding of the product, about 2e-7, is an error of 2e-7 / sin θ in the angle.
"""
COINCIDENT = 1e-9
"""Float64 inputs as near as this are multiplied again in the order of their squares, so that x with itself is 1 exactly."""


class Batch:
    """Inputs as rows, cut into tiles, with their mean squares.

    Args:
        x: (n, *shape).

    Attributes:
        n: number of inputs.
        rows: (n, d), in the dtype of the inputs.
        square: |x|² / d, (n,), float64.
    """

    def __init__(self, x: Tensor) -> None:
        self.rows = x.flatten(1).contiguous()
        self.n = len(x)
        self.square = self.rows.new_empty(self.n, dtype=torch.float64)
        near_pairs.squares(self.square.numpy(), self.rows.numpy())
        rest = self.n % TILE
        self._last = torch.nn.functional.pad(self.rows[self.n - rest :], (0, 0, 0, TILE - rest)) if rest else None

    def tile(self, start: int) -> Tensor:
        """Return TILE rows from `start` on; zeros fill the last tile, and columns up to a multiple of the lanes."""
        rows = self.rows[start : start + TILE]
        rows = rows if self._last is None or len(rows) == TILE else self._last
        return filled(rows)


class InnerProducts:
    """<x, z> for two batches, or for one with itself on and above the diagonal: what a kernel and its gradient share.

    Args:
        x1: (n1, *shape).
        x2: (n2, *shape), or None for x1 with itself.
        into: a matrix to write the products into, where its dtype allows.

    Attributes:
        x: the first batch.
        z: the second batch.
        single: whether both batches are in float32.
        product: (n1, n2), float32 if `single`, else float64.
    """

    def __init__(self, x1: Tensor, x2: Tensor | None, into: Tensor | None = None) -> None:
        self.x = Batch(x1)
        self.z = self.x if x2 is None else Batch(x2)
        self.single = self.x.rows.dtype == self.z.rows.dtype == torch.float32
        dtype = torch.float32 if self.single else torch.float64
        fits = into is not None and into.dtype == dtype
        self.product: Tensor = into if into is not None and fits else torch.empty(self.x.n, self.z.n, dtype=dtype)
        _multiply(self.x, self.z, self.product, upper=x2 is None)

    def of(self, rows: Tensor) -> InnerProducts:
        """Return the products of some rows of x."""
        chosen = copy.copy(self)
        chosen.x = Batch(self.x.rows[rows])
        chosen.product = self.product[rows]
        return chosen

    def panel(self, rows: slice, first: int) -> Array:
        """Return <x, z> / d in float64 for some rows of x and all z from `first` on, in blocks of columns.

        Returns:
            (rows, blocks, BLOCK), with zeros after the last z; overwritten by this thread's next call.
        """
        x, z = self.x, self.z
        count, columns = rows.stop - rows.start, z.n - first
        blocks = -(-columns // BLOCK)
        panel: Array = work_space("panel", count * blocks * BLOCK, np.float64).reshape(count, blocks * BLOCK)
        panel[:, columns:] = 0
        source = self.product[rows, first:].numpy()
        x_rows, z_rows = (r.to(self.product.dtype).numpy() for r in (x.rows[rows], z.rows[first:]))
        squares = x.square[rows].numpy(), z.square[first:].numpy()
        near = NEAR if self.single else COINCIDENT
        near_pairs.refine(panel[:, :columns], source, x_rows, z_rows, *squares, near)
        return panel.reshape(count, blocks, BLOCK)


def filled(columns: Tensor) -> Tensor:
    """Return a matrix with columns of zeros up to a multiple of the lanes.

    A library multiplies narrow matrices in ways of their own, in which the rounding of a row depends on its place.
    """
    missing = -columns.shape[1] % codes.LANES
    return torch.nn.functional.pad(columns, (0, missing)) if missing else columns


def rows_of_tile(count: int, dtype: torch.dtype, depth: int, columns: int) -> int:
    """Return how many rows a tile with `count` rows of a batch has in a product: all of them, or a few strips.

    Must be asked by a task, as the product itself is made by one.

    Args:
        count: rows that are there; the others are zeros.
        dtype: dtype of the product.
        depth: terms of each entry.
        columns: columns of the product.
    """
    strips = -(-count // _STRIP) * _STRIP
    return strips if strips >= TILE or _strips_are_exact(dtype, depth, columns) else TILE


@lru_cache(maxsize=256)
def _strips_are_exact(dtype: torch.dtype, depth: int, columns: int) -> bool:
    """Return whether the library gives every strip of rows the bits that it gives the rows in a whole tile.

    The order of its sums depends on shapes and not on numbers, so that drawn matrices show it.
    """
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(TILE, depth, generator=generator, dtype=dtype)
    b = torch.randn(columns, depth, generator=generator, dtype=dtype)
    for right in (b.T, b.T.contiguous()):
        whole = a @ right
        for rows in range(_STRIP, TILE, _STRIP):
            if not (torch.equal(a[:rows] @ right, whole[:rows]) and torch.equal(a[-rows:] @ right, whole[-rows:])):
                return False
    return True


def _multiply(x: Batch, z: Batch, product: Tensor, *, upper: bool) -> None:
    """Fill the product <x, z> in its dtype; with `upper`, only the tiles on and above the diagonal."""

    def task(top: int, column: int) -> None:
        target = product[top : top + TILE, column : column + TILE]
        # A tile that the matrix's edge cuts off is multiplied whole, in a tile of its own: its shape fixes the rounding.
        is_whole = target.shape == (TILE, TILE)
        left, right = x.tile(top).to(product.dtype), z.tile(column).to(product.dtype)
        rows = rows_of_tile(len(target), product.dtype, left.shape[1], TILE)
        tile = target if is_whole else product.new_empty(rows, TILE)
        torch.mm(left[:rows], right.T, out=tile)
        if not is_whole:
            target.copy_(tile[: target.shape[0], : target.shape[1]])

    tops, columns = range(0, x.n, TILE), range(0, z.n, TILE)
    in_threads([(1, partial(task, i, j)) for i in tops for j in columns if j >= i or not upper])
