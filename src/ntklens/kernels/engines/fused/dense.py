"""Kernels of networks without positions: inner products first, then the recursion as a program on a row of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.allocation import large
from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.base import Kind
from ntklens.kernels.engines.fused import codes, near_pairs, zonal
from ntklens.kernels.engines.fused.adjoint import compile_adjoint
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.coefficients.tables import larger, room_of, with_table
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.inner_products import BLOCK, NEAR, TILE, Batch, InnerProducts, multiplied
from ntklens.kernels.engines.fused.layout import (
    Array,
    Beyond,
    Side,
    marginals_of,
    numpy_dtype,
    run,
    run_adjoint,
)
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.engines.fused.threads import Task, in_threads, threads, work_space
from ntklens.kernels.rules import safe
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN
from ntklens.progress import Progress

_WIDEST = 768
"""Most columns of a tile of the second product of a gradient, which reads the cotangents of its rows anew for each tile."""
_DEEPEST = 8192
"""Most terms of its sums: tiles of every depth are compared once, in memory that grows with it (see `inner_products`)."""
_PANELS = 1 << 23
"""Bytes of the panels of covariances of all threads together, so that they stay in the cache that the threads share."""


@dataclass(frozen=True)
class _Pass:
    """A program and the inputs x that it computes.

    Attributes:
        program: reads its marginals from the next two.
        side1: of x.
        side2: of z, in the layout of rows.
        mask: (n1,), which inputs x.
    """

    program: Program
    side1: Side
    side2: Side
    mask: NDArray[np.bool_]


class DensePairs:
    """All pairs of two batches, for a network without positions.

    Args:
        graph: the traced network, of operations that have an instruction.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._series = zonal.AngleSeries(graph)

    @cached_property
    def _forward(self) -> Program:
        return compile_graph(self.graph)

    @cached_property
    def _adjoint(self) -> Program:
        return compile_adjoint(self.graph)

    def products(self, x1: Tensor, x2: Tensor) -> InnerProducts:
        """Compute the inner products that a matrix and its gradient share."""
        return InnerProducts(x1, x2)

    def fill(
        self,
        x1: Tensor,
        x2: Tensor | None,
        matrices: dict[Kind, Tensor],
        progress: Progress,
        inner: InnerProducts | None = None,
    ) -> Beyond:
        """Fill the matrices, each (n1, n2); without x2, their diagonal and what lies above it.

        Pairs of inputs that are beyond the series are left to the caller.

        Without `inner` the inner products are written into the first matrix, whose rows the kernel then replaces.
        """
        if inner is None:
            inner = InnerProducts(x1, x2, into=next(iter(matrices.values())))
        x, z = inner.x, inner.z
        passes = self._passes(tuple(matrices), x, z, x1.dtype)
        beyond = Beyond(x.n, z.n)
        for each in passes:
            each.side1.note(beyond.first)
            each.side2.note(beyond.second)
        tasks: list[Task] = []
        for top in range(0, x.n, TILE):
            first = top if x2 is None else 0
            sides2 = [_in_blocks(each.side2, first) for each in passes]
            step = _rows_per_task(x.n, z.n - first)
            for row in range(top, min(top + TILE, x.n), step):
                rows = slice(row, min(row + step, top + TILE, x.n))
                work = partial(_fill_rows, passes, sides2, inner, matrices, x1.dtype, rows, first)
                tasks.append(((rows.stop - row) * (z.n - first), work))
        in_threads(tasks, progress)
        if x2 is None:
            # An input with itself: from |x|² alone, whose rounding no angle magnifies.
            exact = recursion.diagonal_of_squares(self.graph, x.square, ntk="ntk" in matrices)
            for kind, matrix in matrices.items():
                maps = exact.nngp if kind == "nngp" else exact.ntk
                assert maps is not None
                matrix.diagonal().copy_(maps[ORIGIN].flatten())
        return beyond

    def gradient(
        self,
        x1: Tensor,
        x2: Tensor,
        weights: Tensor,
        kind: Kind,
        progress: Progress,
        inner: InnerProducts | None = None,
    ) -> tuple[Tensor, Beyond]:
        """Compute d/dx1 of sum(weights * K), float64: two matrix products and one backward pass of the program.

        With k = <x, z> / d, the kernel is a function of k, |x|² / d and |z|² / d. The program's adjoint gives the
        cotangents of k (`k_bar`) and of the marginals of x, which autograd takes to those of |x|² / d (`square_bar`). Then

            dL/dx = (k_bar z + 2 square_bar x) / d.

        In float32 the product k_bar z is in float32 for pairs far apart, whose k is exact enough; for near pairs, where
        large terms cancel, it is added up in float64.

        Without `inner` the first of the two products is computed here. Pairs of inputs that are beyond the series are left
        out, or their rows are undefined.
        """
        program = (self._series.adjoint(kind, x1.dtype) if self._series.homogeneous else None) or self._adjoint
        if inner is None:
            inner = InnerProducts(x1, x2)
        x, z = inner.x, inner.z
        square = x.square.clone().requires_grad_()
        with torch.enable_grad():
            marginals = self._marginals(program, square)
        bare1, bare2 = _side(marginals.detach(), x1.dtype), _side(self._marginals(program, z.square), x1.dtype)
        room = larger(*(room_of(program, side.marginals, x1.dtype) for side in (bare1, bare2)))
        whole1 = with_table(program, bare1, x1.dtype, room, of_x=True, grows=True)
        whole2 = with_table(program, bare2, x1.dtype, room, of_x=False)
        beyond = Beyond(x.n, z.n)
        whole1.note(beyond.first)
        whole2.note(beyond.second)
        side2 = _in_blocks(whole2, 0)
        k_bar = large(x.n, z.n, inner.product.dtype)
        marginals_bar = torch.zeros(marginals.shape, dtype=torch.float64)
        total = torch.zeros(x.rows.shape, dtype=torch.float64)
        seeds = (weights.masked_fill(beyond.second, 0) if beyond else weights).numpy()

        def task(rows: slice) -> None:
            panel = inner.panel(rows, 0)
            items = _grid(panel)
            items = np.concatenate([items, items[:, :1]], 1)  # row, block, and where the row's sums are kept
            room = work_space("seeds", len(items) * BLOCK, np.float64).reshape(len(panel), -1)
            room[:, : z.n], room[:, z.n :] = seeds[rows], 0
            side1 = whole1.rows(rows)
            _, marginals_bar_rows, k_bar_blocks = run_adjoint(
                program, items, panel, side1, side2, room.reshape(-1, BLOCK), kind == "ntk", x1.dtype
            )
            marginals_bar[rows] = torch.from_numpy(marginals_bar_rows)
            k_bar_rows = k_bar_blocks.reshape(len(panel), -1)[:, : z.n]
            if inner.single:
                squares = x.square[rows].numpy(), z.square.numpy()
                k_rows = panel.reshape(len(panel), -1)[:, : z.n]
                near_pairs.split(
                    k_bar[rows].numpy(), total[rows].numpy(), k_bar_rows, k_rows, z.rows.numpy(), *squares, NEAR
                )
            else:
                k_bar[rows] = torch.from_numpy(k_bar_rows)

        step = _rows_per_task(x.n, z.n)
        blocks = [slice(row, min(row + step, x.n)) for row in range(0, x.n, step)]
        in_threads([(1, partial(task, block)) for block in blocks], progress)
        square_bar = torch.zeros_like(square)
        if program.marginals:
            (square_bar,) = torch.autograd.grad(marginals, square, marginals_bar)
        _add_products(total, k_bar, x, z, square_bar)
        return total.reshape(x1.shape), beyond

    def _marginals(self, program: Program, square: Tensor) -> Tensor:
        """Return the marginals of a batch, (n, m), from its mean squares; differentiable."""
        if not program.marginals:
            return square.new_zeros(len(square), 0)
        if set(program.marginals) == {(0, None)}:  # only the inputs' own standard deviations
            return safe.sqrt(square)[:, None]
        return torch.cat(marginals_of(program, recursion.variances_of_squares(self.graph, square)), 1)

    def _passes(self, kinds: tuple[Kind, ...], x: Batch, z: Batch, dtype: torch.dtype) -> list[_Pass]:
        """Choose the series in the angle for the inputs that allow it, and the layers one by one for the others.

        Which inputs those are depends on the whole of z and not on the other rows of x, so a result is the same in every
        batch of x.
        """
        series = self._series
        norm = None if series.homogeneous else zonal.common_square(z.square, dtype)
        mask = np.ones(x.n, bool) if norm is None else zonal.shares_square(x.square, norm, dtype).numpy()
        quick = None
        if series.homogeneous or (norm is not None and mask.any()):
            quick = series.forward(kinds, dtype, norm)
        chosen = [(self._forward, np.ones(x.n, bool))] if quick is None else [(quick, mask), (self._forward, ~mask)]
        return [self._pass(program, x, z, dtype, inputs) for program, inputs in chosen if inputs.any()]

    def _pass(self, program: Program, x: Batch, z: Batch, dtype: torch.dtype, inputs: NDArray[np.bool_]) -> _Pass:
        sides = [_side(self._marginals(program, batch.square), dtype) for batch in (x, z)]
        room = larger(*(room_of(program, side.marginals, dtype) for side in sides))
        side1, side2 = (with_table(program, side, dtype, room, of_x=i == 0) for i, side in enumerate(sides))
        return _Pass(program, side1, side2, inputs)


def _rows_per_task(rows: int, columns: int) -> int:
    """Return how many rows of x a task takes: many, as a task costs a tenth of a millisecond, but all threads have some."""
    fit, share = _PANELS // (8 * max(columns, 1) * threads()), rows // (4 * threads())
    return max(8, min(fit, share, TILE // 4))


def _fill_rows(
    passes: Sequence[_Pass],
    sides2: Sequence[Side],
    inner: InnerProducts,
    matrices: dict[Kind, Tensor],
    dtype: torch.dtype,
    rows: slice,
    first: int,
) -> None:
    """Fill some rows of the matrices from column `first` on, each by the pass that computes it."""
    panel = inner.panel(rows, first)
    targets = {kind: matrix[rows, first:] for kind, matrix in matrices.items()}
    for each, side2 in zip(passes, sides2, strict=True):
        items = _grid(panel)
        items = items[each.mask[rows][items[:, 0]]]
        if len(items):
            run(each.program, items, panel, each.side1.rows(rows), side2, dtype, targets)


def _in_blocks(side: Side, first: int) -> Side:
    """Return the columns z from input `first` on, in blocks of BLOCK inputs; with the coefficients of their lanes."""
    marginals = _columns(side.marginals, first)
    if not side.table.size:
        return Side(side.pixels, marginals)
    _, size, entry = side.table.shape
    table = _columns(side.table.reshape(len(side.table), -1), first)
    return Side(side.pixels, marginals, table.reshape(len(table), size * (BLOCK // LANES), entry * LANES))


def _columns(numbers: Array, first: int) -> Array:
    """Return numbers (n, m) of inputs from input `first` on in blocks of columns: (blocks, m * BLOCK)."""
    n, m = numbers.shape
    blocks = -(-(n - first) // BLOCK)
    lanes = torch.nn.functional.pad(torch.from_numpy(numbers)[first:].T, (0, first + blocks * BLOCK - n))
    array: Array = lanes.reshape(m, blocks, BLOCK).transpose(0, 1).reshape(blocks, m * BLOCK).contiguous().numpy()
    return array


def _side(marginals: Tensor, dtype: torch.dtype) -> Side:
    """Return one side of the pairs as a program reads it, without pixels, since the covariance comes as a panel."""
    return Side(np.zeros((1, 0, 0), numpy_dtype(dtype)), marginals.contiguous().numpy())


def _grid(panel: Array) -> NDArray[np.int64]:
    """Return the items (row, block) of a panel, row by row."""
    grid = np.meshgrid(np.arange(len(panel)), np.arange(panel.shape[1]), indexing="ij")
    return np.stack(grid, -1).reshape(-1, 2)


def _add_products(total: Tensor, k_bar: Tensor, x: Batch, z: Batch, square_bar: Tensor) -> None:
    """Replace total by (total + k_bar z + 2 square_bar x) / d, in tiles whose rounding does not depend on other rows."""
    d = x.rows.shape[1]
    # The columns in an even number of pieces of about the same width, so that two threads have the same work; it depends on
    # d alone. They are whole lanes: a library multiplies narrower matrices in ways of their own. So the last piece begins
    # within the one before, or is filled up with zeros where it is the only one.
    pieces = -(-d // _WIDEST)
    pieces += pieces % 2
    width = -(-d // pieces)
    width += -width % codes.LANES

    def task(top: int, column: int) -> None:
        first = max(0, min(column, d - width))
        rows, columns, new = slice(top, top + TILE), slice(first, first + width), slice(column, column + width)
        target = total[rows, new]
        for start in range(0, z.n, _DEEPEST):
            some = slice(start, start + _DEEPEST)
            product = multiplied(k_bar[rows, some], z.rows[some, columns].to(k_bar.dtype), (TILE, width))
            target += product[:, column - first :]
        target += (2 * square_bar[rows, None]) * x.rows[rows, new]
        target /= d

    tops, columns = range(0, x.n, TILE), range(0, d, width)
    in_threads([(1, partial(task, i, j)) for i in tops for j in columns])
