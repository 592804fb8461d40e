"""Inner products of two batches without positions: an entry is the same in every batch, and exact for near pairs."""

from __future__ import annotations

import copy
import threading
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.allocation import large
from ntklens.kernels.engines.fused import codes, eight_bit, near_pairs
from ntklens.kernels.engines.fused.layout import Array
from ntklens.kernels.engines.fused.program import FLAT_WIDTH
from ntklens.kernels.engines.fused.threads import in_threads, work_space

TILE = 384
"""Rows and columns of a tile: a multiple of the 48 that MKL takes at a time, as OpenBLAS takes 16.

Where columns are left over, as of 256, MKL adds up those in float64 in another order: an entry depends on its place.
"""
_STRIP = 64
"""Rows, and columns, that a tile is filled up to a multiple of, where the library multiplies strips as it does tiles."""
_MANY = 32
"""Tiles from which on a few threads have about the same work."""
_one_comparison = threading.Lock()
_ROWS_PER_TASK = 1024
"""Inputs that a task reads for their squares and whole numbers."""
_PIXELS_AT_A_TIME = 1 << 17
"""Pixels that are read twice in a row, from the cache of a core: half a megabyte."""
BLOCK = FLAT_WIDTH * codes.LANES
"""Columns that a program takes at a time."""
NEAR = 0.02
"""Float32 inputs whose cosine is above 1 - NEAR (angles below 0.2) are multiplied again in float64.

At an angle θ the rounding of the product, about 2e-7, is an error of 2e-7 / sin θ in the angle.
"""
COINCIDENT = 1e-9
"""Float64 inputs as near as this are multiplied again in the order of their squares, so that x with itself is 1 exactly."""


class Batch:
    """Inputs as rows, with their mean squares.

    Args:
        x: (n, *shape).
        search: whether to look for whole numbers.

    Attributes:
        n: number of inputs.
        rows: (n, d), in the dtype of the inputs.
        square: |x|² / d, (n,), float64.
        whole: whole numbers of 8-bit images until they are multiplied; None where there are none or were not looked for.
    """

    def __init__(self, x: Tensor, *, search: bool = False) -> None:
        self.rows = x.flatten(1).contiguous()
        self.n, d = self.rows.shape
        self.square = self.rows.new_empty(self.n, dtype=torch.float64)
        search = search and self.rows.dtype == torch.float32 and eight_bit.fits(d)
        whole = eight_bit.WholeNumbers(self.n, d) if search else None
        square, rows = self.square.numpy(), self.rows.numpy()
        step = max(1, _PIXELS_AT_A_TIME // max(d, 1))

        def task(start: int) -> None:
            stop = min(start + _ROWS_PER_TASK, self.n)
            for first in range(start, stop, step):
                some = slice(first, min(first + step, stop))
                near_pairs.squares(square[some], rows[some])
                if whole is not None:
                    whole.find(rows, square, some)

        in_threads([(1, partial(task, start)) for start in range(0, self.n, _ROWS_PER_TASK)])
        self.whole = whole if whole else None


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
        places: which rows of the product belong to the rows of x; None for all of them.
    """

    places: Tensor | None = None

    def __init__(self, x1: Tensor, x2: Tensor | None, into: Tensor | None = None) -> None:
        self.x = Batch(x1, search=x2 is None or x2.dtype == x1.dtype)
        self.z = self.x if x2 is None else Batch(x2, search=self.x.whole is not None)
        self.single = self.x.rows.dtype == self.z.rows.dtype == torch.float32
        dtype = torch.float32 if self.single else torch.float64
        fits = into is not None and into.dtype == dtype
        self.product: Tensor = into if into is not None and fits else large(self.x.n, self.z.n, dtype)
        _multiply(self.x, self.z, self.product, upper=x2 is None)
        self.x.whole = self.z.whole = None  # a pullback keeps the batches, and needs no more than their pixels

    def of(self, rows: Tensor) -> InnerProducts:
        """Return the products of some rows of x."""
        chosen = copy.copy(self)
        chosen.x = Batch(self.x.rows[rows])
        chosen.places = rows if self.places is None else self.places[rows]
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
        source = self.product[rows if self.places is None else self.places[rows], first:].numpy()
        x_rows, z_rows = (r.to(self.product.dtype).numpy() for r in (x.rows[rows], z.rows[first:]))
        squares = x.square[rows].numpy(), z.square[first:].numpy()
        near = NEAR if self.single else COINCIDENT
        near_pairs.refine(panel[:, :columns], source, x_rows, z_rows, *squares, near)
        return panel.reshape(count, blocks, BLOCK)


def multiplied(left: Tensor, right: Tensor, whole: tuple[int, int], out: Tensor | None = None) -> Tensor:
    """Return left @ right, with a rounding that does not depend on the place of a row or a column.

    A library picks its order of summation by the shape of a product, and by its threads, of which torch's takes one in the
    threads of the engine. So a tile that a matrix's edge cuts off is filled up with zeros to a shape in which the entries
    have the bits that they have in a whole tile.

    Args:
        left: (n1, d), on the processor.
        right: (d, n2), in the dtype of left.
        whole: the number of rows and of columns of a whole tile, from n1 and n2 on.
        out: (n1, n2), written; a view of any strides.
    """
    shape = (left.shape[0], right.shape[1])
    # In the other layout, rows along memory or columns, a product may have another order of summation.
    in_rows = right.stride(1) == 1
    rows, columns = _filled_up(shape, whole, left.shape[1], left.dtype, in_rows)
    if (rows, columns) == shape:
        return torch.mm(left, right, out=out)
    left = torch.nn.functional.pad(left, (0, 0, 0, rows - shape[0]))
    if columns > shape[1]:
        missing = columns - shape[1]
        right = (
            torch.nn.functional.pad(right, (0, missing))
            if in_rows
            else torch.nn.functional.pad(right.T, (0, 0, 0, missing)).T
        )
    product = torch.mm(left, right)[: shape[0], : shape[1]]
    return product if out is None else out.copy_(product)


def _filled_up(
    shape: tuple[int, int], whole: tuple[int, int], depth: int, dtype: torch.dtype, in_rows: bool
) -> tuple[int, int]:
    """Return the shape in which a tile is multiplied: whole strips of rows and of columns, or else a whole tile."""
    rows, columns = (
        -(-n // _STRIP) * _STRIP if n < all_of_them else n for n, all_of_them in zip(shape, whole, strict=True)
    )
    strips = min(rows, whole[0]), min(columns, whole[1])
    return strips if strips == whole or _is_exact(strips, whole, depth, dtype, in_rows) else whole


def _is_exact(strips: tuple[int, int], whole: tuple[int, int], depth: int, dtype: torch.dtype, in_rows: bool) -> bool:
    """Return whether the library gives the entries of such strips the bits that it gives them in a whole tile.

    Must be asked by a task, as the product itself is made by one.
    """
    with _one_comparison:  # of threads that ask at the same time, one compares
        return _compared(strips, whole, depth, dtype, in_rows)


@lru_cache(maxsize=1024)
def _compared(strips: tuple[int, int], whole: tuple[int, int], depth: int, dtype: torch.dtype, in_rows: bool) -> bool:
    """Return whether strips at both ends of a whole tile have its bits.

    The order of the sums depends on shapes and not on numbers, so that drawn matrices show it. That an entry of a whole
    tile has the same bits at every place is taken for granted; the tests hold the library of this machine to it.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.empty(n, depth, dtype=dtype).uniform_(-0.5, 0.5, generator=generator) for n in whole)
    rows, columns = strips
    right = b.T.contiguous() if in_rows else b.T
    product = a @ right
    first, last = a[:rows] @ right[:, :columns], a[-rows:] @ right[:, -columns:]
    return torch.equal(first, product[:rows, :columns]) and torch.equal(last, product[-rows:, -columns:])


def _multiply(x: Batch, z: Batch, product: Tensor, *, upper: bool) -> None:
    """Fill the product <x, z> in its dtype; with `upper`, only the tiles on and above the diagonal."""
    # Few tiles are cut in two, so that threads have about the same work.
    width = TILE if -(-x.n // TILE) * -(-z.n // TILE) >= _MANY else TILE // 2

    def task(top: int, column: int) -> None:
        rows, columns = slice(top, top + TILE), slice(column, column + width)
        out = product[rows, columns]

        def multiply_pixels() -> None:
            left, right = x.rows[rows].to(product.dtype), z.rows[columns].to(product.dtype)
            multiplied(left, right.T, (TILE, TILE), out=out)

        if x.whole is None or z.whole is None or not (x.whole.has_any(rows) and z.whole.has_any(columns)):
            multiply_pixels()
            return
        is_mixed = not (x.whole.has_all(rows) and z.whole.has_all(columns))
        if is_mixed:
            multiply_pixels()
        if not eight_bit.multiply(x.whole, z.whole, rows, columns, out) and not is_mixed:
            multiply_pixels()

    tops, columns = range(0, x.n, TILE), range(0, z.n, width)
    in_threads([(1, partial(task, i, j)) for i in tops for j in columns if j >= i or not upper])
