"""Kernel matrices of networks without positions: a matrix product in tiles of one shape, then the recursion on it.

A library picks its order of summation by the shape of a product; tiles of one shape make an entry the same in every batch.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.fused import codes, products, zonal
from ntklens.kernels.engines.fused.layout import (
    Array,
    Progress,
    Side,
    Task,
    in_threads,
    number,
    roots_of,
    run,
    run_adjoint,
    work_space,
)
from ntklens.kernels.engines.fused.program import FLAT_WIDTH, Program
from ntklens.kernels.rules import safe
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN

_TILE = 256
"""Rows and columns of a tile."""
_BLOCK = FLAT_WIDTH * codes.LANES
"""Columns that the program takes at a time."""
_ROWS = 32
"""Rows of a panel that a task takes, so that what it makes stays in the cache."""
_NEAR = 0.02
"""Float32 inputs whose cosine is above 1 - this (angles below 0.2) are multiplied anew in float64.

At an angle θ the rounding of the product, about 2e-7, is an error of 2e-7 / sin θ in the angle.
"""
_COINCIDENT = 1e-9
"""Float64 inputs as near as this are multiplied anew in the order of their squares, so that x with itself is 1 exactly."""


def fill(
    graph: Graph,
    program: Program,
    a: Tensor,
    b: Tensor | None,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    progress: Progress | None,
    kept: Products | None = None,
) -> None:
    """Fill the matrices; without b, the diagonal and what lies above it.

    The products are written into the result itself and then read row by row, unless they are given to be kept.
    """
    made = Products(a, b, into=next(iter(out.values()))) if kept is None else kept
    x, z = made.x, made.z
    ways = _ways(graph, program, tuple(out), x, z, dtype)
    tasks: list[Task] = []
    for top in range(0, x.n, _TILE):
        first = top if b is None else 0
        seconds = [_ends(_blocks(way.second, first), dtype) for way in ways]
        for row in range(top, min(top + _TILE, x.n), _ROWS):
            rows = slice(row, min(row + _ROWS, top + _TILE, x.n))
            work = partial(_task, ways, seconds, made, out, dtype, rows, first)
            tasks.append(((rows.stop - row) * (z.n - first), work))
    in_threads(tasks, progress)
    if b is None:
        own = recursion.diagonal_of_squares(graph, x.square, ntk="ntk" in out)
        for kind, maps in (("nngp", own.nngp), ("ntk", own.ntk)):
            if kind in out and maps is not None:
                out[kind].diagonal().copy_(maps[ORIGIN].flatten())


def gradient(
    graph: Graph,
    program: Program,
    a: Tensor,
    b: Tensor,
    weights: Tensor,
    ntk: bool,
    progress: Progress | None,
    kept: Products | None = None,
) -> Tensor:
    """d/da of sum(weights * kernel), in float64: two products, which float32 rows keep to far pairs, and a sweep.

    The first product is not made again where it was kept.
    """
    series = graph.kept.setdefault("series", zonal.AngleSeries(graph))
    if series.homogeneous:
        program = series.adjoint("ntk" if ntk else "nngp", a.dtype) or program
    made = Products(a, b) if kept is None else kept
    x, z, product, single = made.x, made.z, made.product, made.single
    square = x.square.clone().requires_grad_()
    with torch.enable_grad():
        root1 = roots(graph, program, square)
    first = root1.detach().numpy()
    second = _ends(_blocks(roots(graph, program, z.square).T.contiguous(), 0), a.dtype)
    kbar, rbar = torch.empty_like(product), torch.zeros(root1.shape, dtype=torch.float64)
    total = torch.zeros(x.rows.shape, dtype=torch.float64)
    given = weights.numpy()

    def task(rows: slice) -> None:
        k0 = made.scaled(rows, 0)
        items = _grid(k0)
        items = np.concatenate([items, items[:, :1]], 1)
        seeds = work_space("seeds", len(items) * _BLOCK, np.float64).reshape(len(k0), -1)
        seeds[:, : z.n], seeds[:, z.n :] = given[rows], 0
        cotangents = seeds.reshape(-1, _BLOCK)
        swept = run_adjoint(program, items, k0, _ends(first[rows], a.dtype), second, cotangents, ntk, a.dtype)
        rbar[rows] = torch.from_numpy(swept[1])
        wide = swept[2].reshape(len(k0), -1)[:, : z.n]
        if single:
            squares = x.square[rows].numpy(), z.square.numpy()
            flat = k0.reshape(len(k0), -1)[:, : z.n]
            products.split(kbar[rows].numpy(), total[rows].numpy(), wide, flat, z.rows.numpy(), *squares, _NEAR)
        else:
            kbar[rows] = torch.from_numpy(wide)

    parts = [slice(row, min(row + _ROWS, x.n)) for row in range(0, x.n, _ROWS)]
    in_threads([(1, partial(task, part)) for part in parts], progress)
    bar = torch.zeros_like(square)
    if program.marginals:
        (bar,) = torch.autograd.grad(root1, square, rbar)
    _finish(total, kbar, x, z, bar)
    return total.reshape(a.shape)


def roots(graph: Graph, program: Program, square: Tensor) -> Tensor:
    """The marginals of a batch, (n, m), from its mean squares; differentiable."""
    if not program.marginals:
        return square.new_zeros(len(square), 0)
    if set(program.marginals) == {(0, None)}:  # of the inputs themselves
        return safe.sqrt(square)[:, None]
    return torch.cat(roots_of(program, recursion.variances_of_squares(graph, square)), 1)


def _blocks(root: Tensor, first: int) -> Array:
    """The marginals (m, n) from input `first` on, in blocks: (blocks, m * _BLOCK)."""
    m, n = root.shape
    blocks = -(-(n - first) // _BLOCK)
    lanes = torch.nn.functional.pad(root[:, first:], (0, first + blocks * _BLOCK - n))
    array: Array = lanes.reshape(m, blocks, _BLOCK).transpose(0, 1).reshape(blocks, m * _BLOCK).contiguous().numpy()
    return array


def _ends(root: Array, dtype: torch.dtype) -> Side:
    """Marginals as the machine reads them; the covariance itself comes as a panel."""
    return Side(np.zeros((1, 0, 0), number(dtype)), root)


class Rows:
    """A batch as rows, with the tiles of the product and the rows' mean squares.

    Attributes:
        n: number of inputs.
        rows: (n, d), in the dtype of the inputs.
        square: |x|² / d, (n,), float64.
    """

    def __init__(self, x: Tensor) -> None:
        self.rows = x.flatten(1).contiguous()
        self.n = len(x)
        self.square = self.rows.new_empty(self.n, dtype=torch.float64)
        products.squares(self.square.numpy(), self.rows.numpy())
        rest = self.n % _TILE
        self._last = torch.nn.functional.pad(self.rows[self.n - rest :], (0, 0, 0, _TILE - rest)) if rest else None

    def tile(self, start: int) -> Tensor:
        """_TILE rows from here; zeros fill the last tile."""
        part = self.rows[start : start + _TILE]
        return part if self._last is None or len(part) == _TILE else self._last


def multiply(x: Rows, z: Rows, product: Tensor, *, upper: bool = False) -> None:
    """Fill the product <x, z> in its dtype; with `upper`, the tiles on and above the diagonal alone."""

    def task(top: int, column: int) -> None:
        here = product[top : top + _TILE, column : column + _TILE]
        whole = here.shape == (_TILE, _TILE)
        tile = here if whole else product.new_empty(_TILE, _TILE)
        torch.mm(x.tile(top).to(product.dtype), z.tile(column).to(product.dtype).T, out=tile)
        if not whole:
            here.copy_(tile[: here.shape[0], : here.shape[1]])

    tops, columns = range(0, x.n, _TILE), range(0, z.n, _TILE)
    in_threads([(1, partial(task, i, j)) for i in tops for j in columns if j >= i or not upper])


class Products:
    """<x, z> for two batches, or for one with itself on and above the diagonal: what a kernel and its gradient start from.

    Args:
        a: (n1, ...).
        b: (n2, ...), or None for a itself.
        into: a matrix to write them into where its dtype allows.

    Attributes:
        x: a as rows.
        z: b as rows.
        single: whether all is in float32.
        product: (n1, n2), float32 then, else float64.
    """

    def __init__(self, a: Tensor, b: Tensor | None, into: Tensor | None = None) -> None:
        self.x = Rows(a)
        self.z = self.x if b is None else Rows(b)
        self.single = self.x.rows.dtype == self.z.rows.dtype == torch.float32
        dtype = torch.float32 if self.single else torch.float64
        fits = into is not None and into.dtype == dtype
        self.product: Tensor = into if into is not None and fits else torch.empty(self.x.n, self.z.n, dtype=dtype)
        multiply(self.x, self.z, self.product, upper=b is None)

    def of(self, rows: Tensor) -> Products:
        """Those of some of the rows of x."""
        part = copy.copy(self)
        part.x, part.product = Rows(self.x.rows[rows]), self.product[rows]
        return part

    def scaled(self, rows: slice, first: int) -> Array:
        """<x, z> / d in float64 for some rows, columns from `first` on, in blocks: (rows, blocks, _BLOCK)."""
        x, z = self.x, self.z
        count, columns = rows.stop - rows.start, z.n - first
        blocks = -(-columns // _BLOCK)
        made: Array = work_space("panel", count * blocks * _BLOCK, np.float64).reshape(count, blocks * _BLOCK)
        made[:, columns:] = 0
        source = self.product[rows, first:].numpy()
        x_rows, z_rows = (r.to(self.product.dtype).numpy() for r in (x.rows[rows], z.rows[first:]))
        squares = x.square[rows].numpy(), z.square[first:].numpy()
        near = _NEAR if self.single else _COINCIDENT
        products.refine(made[:, :columns], source, x_rows, z_rows, *squares, near)
        return made.reshape(count, blocks, _BLOCK)


def _finish(total: Tensor, kbar: Tensor, x: Rows, z: Rows, bar: Tensor) -> None:
    """(total + kbar z + 2 bar x) / d in place, in tiles whose order of summation does not depend on the rows beside."""
    d = x.rows.shape[1]

    def task(top: int, column: int) -> None:
        columns, given = slice(column, column + _TILE), kbar[top : top + _TILE]
        padded = torch.nn.functional.pad(given, (0, 0, 0, _TILE - len(given)))
        here = total[top : top + _TILE, columns]
        here += (padded @ z.rows[:, columns].to(kbar.dtype))[: len(given)]
        here += (2 * bar[top : top + _TILE, None]) * x.rows[top : top + _TILE, columns]
        here /= d

    tops, columns = range(0, x.n, _TILE), range(0, d, _TILE)
    in_threads([(1, partial(task, i, j)) for i in tops for j in columns])


@dataclass(frozen=True)
class _Way:
    """A program and the rows of x that it is for.

    Attributes:
        program: reads its marginals from the next two.
        first: (n1, m), of x.
        second: (m, n2), of z.
        rows: (n1,), which rows of x.
    """

    program: Program
    first: Array
    second: Tensor
    rows: NDArray[np.bool_]


def _ways(graph: Graph, program: Program, kinds: tuple[str, ...], x: Rows, z: Rows, dtype: torch.dtype) -> list[_Way]:
    """The series in the angle for the rows that allow it, and the layers one by one for the others.

    Which rows those are depends on the whole of z, not on the other rows of x, so that batches of x change nothing.
    """
    series = graph.kept.setdefault("series", zonal.AngleSeries(graph))
    norm = None if series.homogeneous else zonal.common_square(z.square, dtype)
    rows = np.ones(x.n, bool) if norm is None else zonal.shares_square(x.square, norm, dtype).numpy()
    quick = None
    if series.homogeneous or (norm is not None and rows.any()):
        quick = series.forward(kinds, dtype, norm)
    chosen = [(program, np.ones(x.n, bool))] if quick is None else [(quick, rows), (program, ~rows)]
    return [
        _Way(
            each,
            roots(graph, each, x.square).numpy(),
            roots(graph, each, z.square).T.contiguous(),
            mask,
        )
        for each, mask in chosen
        if mask.any()
    ]


def _task(
    ways: list[_Way],
    seconds: list[Side],
    made: Products,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    rows: slice,
    first: int,
) -> None:
    k0 = made.scaled(rows, first)
    here = {kind: matrix[rows, first:] for kind, matrix in out.items()}
    for way, second in zip(ways, seconds, strict=True):
        items = _grid(k0)
        items = items[way.rows[rows][items[:, 0]]]
        if len(items):
            run(way.program, items, k0, _ends(way.first[rows], dtype), second, dtype, here)


def _grid(k0: Array) -> NDArray[np.int64]:
    """Items: every row with every block."""
    grid = np.meshgrid(np.arange(len(k0)), np.arange(k0.shape[1]), indexing="ij")
    return np.stack(grid, -1).reshape(-1, 2)
