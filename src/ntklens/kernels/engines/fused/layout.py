"""Inputs in the layout that programs read, and calls of the compiled programs on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.allocation import aligned
from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.base import Kind
from ntklens.kernels.engines.fused import codes, loops, numbers, vm
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.engines.fused.threads import Task, in_threads, work_space
from ntklens.kernels.rules import safe
from ntklens.kernels.rules.operations import Normalise

Array = NDArray[np.float64]

NO_SUMS: Array = np.zeros((1, 1, 1))
"""In the place of the sums of a program's parts, where the whole of it is run."""
NO_PANEL: Array = np.zeros((1, 1, 1))
"""In the place of a panel of covariances, for programs with positions, which compute their own."""
NO_TABLE: Array = np.zeros((1, 0, LANES))
"""In the place of tables of coefficients, for programs that read none."""

_BLOCKS_PER_TASK = 4
"""Blocks of inputs that a task lays out."""


class Beyond:
    """Which inputs of two batches have a variance at which an activation's series is too long.

    Their pairs are computed by another engine. Which these are depends on each input alone.

    Args:
        n1: inputs of the first batch.
        n2: inputs of the second.
    """

    def __init__(self, n1: int, n2: int) -> None:
        self.first, self.second = torch.zeros(n1, dtype=torch.bool), torch.zeros(n2, dtype=torch.bool)

    def __bool__(self) -> bool:
        return bool(self.first.any() or self.second.any())


@dataclass(frozen=True)
class Side:
    """One side of the pairs: the rows x, or the columns z in the layout of the lanes.

    Attributes:
        pixels: (n, C, positions), or (blocks, C, positions * LANES); of rows x that are packed in lanes (see `packed`),
            (items, C, positions, LANES).
        marginals: (n, m) or (blocks, m * LANES), the standard deviations that the program reads, in the dtype of K; of
            packed rows, (items, m, 1, LANES).
        table: (n, t, entry) or (blocks, t, entry * LANES), the coefficients at the first t marginals.
        beyond: (n,), which inputs have a marginal without coefficients; None where none has.
    """

    pixels: NDArray[Any]
    marginals: NDArray[Any]
    table: Array = field(default_factory=lambda: NO_TABLE)
    beyond: NDArray[np.bool_] | None = None

    def note(self, which: Tensor) -> None:
        """Note in `which` (n,) the inputs that are beyond."""
        if self.beyond is not None:
            which |= torch.from_numpy(self.beyond)

    def rows(self, rows: slice) -> Side:
        """Return some inputs of the rows' side, without their pixels."""
        table = self.table[rows] if self.table.size else NO_TABLE
        return Side(self.pixels, self.marginals[rows], table)


def in_lanes(x: NDArray[Any], lanes: int) -> NDArray[Any]:
    """Return inputs (n, C, p) as (blocks, C, p * lanes), `lanes` inputs side by side; zeros fill the last block.

    The entry of channel c, position q and lane l of a block is at [c, q * lanes + l], so that one vector instruction reads
    the same position of all inputs of a block.
    """
    n, c, p = x.shape
    blocks = -(-n // lanes)
    out = aligned(blocks * c * p * lanes, x.dtype).reshape(blocks, c * p, lanes)
    rows = x.reshape(n, c * p)
    tasks: list[Task] = []
    for start in range(0, blocks, _BLOCKS_PER_TASK):
        some = slice(start, min(start + _BLOCKS_PER_TASK, blocks))
        tasks.append((1, partial(loops.interleave, out[some], rows[start * lanes : some.stop * lanes])))
    in_threads(tasks)
    return out.reshape(blocks, c, p * lanes)


def marginals_of(program: Program, variances: recursion.Variances) -> list[Tensor]:
    """Return the marginals that a program reads, (n, positions) for each of its nodes, from the variances; differentiable.

    They are standard deviations where an activation reads them, and inverse ones where a normalisation does.
    """
    marginals = []
    for node, norm in program.marginals:
        q = variances[node]
        if not isinstance(norm, Normalise):
            std = safe.sqrt(q).flatten(1)
            marginals.append(torch.cat([std, *numbers.beside(norm, std)], 1))
            continue
        q = q.mean((1, 2), keepdim=True).expand_as(q) if norm.over_positions else q
        deviation = safe.sqrt(q + norm.eps).flatten(1)
        # 1 / 0 counts as 0, in a form whose gradient is finite, too.
        positive = torch.where(deviation > 0, deviation, 1.0)
        marginals.append(torch.where(deviation > 0, 1 / positive, 0.0))
    return marginals


def run(
    program: Program,
    items: NDArray[np.int64],
    panel: Array,
    x: Side,
    z: Side,
    dtype: torch.dtype,
    matrices: Mapping[Kind, Tensor],
    part: int | None = None,
    sums: Array = NO_SUMS,
) -> None:
    """Write a program's results for some items (row, block) into the matrices.

    Args:
        program: a forward program.
        items: (n, 2), which row of x meets which block of z.
        panel: (rows, blocks, entries), the covariances of the inputs of a dense program; else NO_PANEL.
        x: the rows.
        z: the columns; the last block may reach beyond the matrices.
        dtype: of Θ's arithmetic and of the matrices.
        matrices: (rows, columns) for each kind that is wanted.
        part: the part of the program that is run, which writes its place of the sums alone; the number of parts for the
            rest of the code, which reads them; None for the whole code.
        sums: (items, parts, 2 * LANES).
    """
    # Numba writes through flat arrays and a stride, because the matrices may be parts of larger ones.
    flat = {kind: matrix.as_strided((_extent(matrix),), (1,)).numpy() for kind, matrix in matrices.items()}
    nothing = np.empty(0, numpy_dtype(dtype))
    first = next(iter(matrices.values()))
    spaces = _work_spaces(program, x, dtype)
    targets = flat.get("nngp", nothing), flat.get("ntk", nothing)
    cuts = [0, len(program.code)] if part is None else [*program.parts, len(program.code)][part : part + 2]
    place = np.array([part or 0, program.sums], np.int64)
    vm.run(
        items, *_arrays(program, panel, x, z), *spaces, *targets, first.stride(0), first.shape[1], *cuts, sums, place
    )  # fmt: skip


def run_adjoint(
    program: Program,
    items: NDArray[np.int64],
    panel: Array,
    x: Side,
    z: Side,
    weights: Array,
    ntk: bool,
    dtype: torch.dtype,
) -> tuple[Array, Array, Array]:
    """Compute what some items (row, block, slot) add to the cotangents of x, summed by slot.

    Args:
        program: a gradient's program.
        items: (n, 3), which row of x meets which block of z, and where the row's sums are kept.
        panel: as in `run`.
        x: the rows.
        z: the columns.
        weights: (n, entries of a block), the cotangents of the kernel.
        ntk: whether the kernel is the NTK, else the NNGP.
        dtype: of Θ's arithmetic.

    Returns:
        Cotangents of the pixels (slots, C, positions), empty for a dense program; of the marginals (slots, m), both with
        lanes where the rows are packed; and of the
        inputs' covariances (n, entries), empty for a program with positions and overwritten by this thread's next run.
    """
    entries, slots = program.width * codes.LANES, int(items[:, 2].max()) + 1
    pixels_bar = np.zeros((slots, *x.pixels.shape[1:]))
    marginals_bar = np.zeros((slots, *x.marginals.shape[1:]))
    k_bar = work_space("k_bar", len(items) * entries if program.width > 1 else 0, np.float64).reshape(-1, entries)
    arrays, spaces = _arrays(program, panel, x, z), _work_spaces(program, x, dtype)
    vm.run_adjoint(items, *arrays, weights, ntk, *spaces, pixels_bar, marginals_bar, k_bar)
    # The program gives s dL/ds for each marginal s, which is finite at s = 0; divide by s where that has a meaning.
    rows = np.empty(slots, np.int64)
    rows[items[:, 2]] = items[:, 0]
    s = x.marginals[rows]
    return pixels_bar, np.divide(marginals_bar, s, out=marginals_bar, where=s > 0), k_bar


def numpy_dtype(dtype: torch.dtype) -> Any:
    """Return NumPy's name of a torch dtype."""
    return np.float32 if dtype == torch.float32 else np.float64


def _extent(matrix: Tensor) -> int:
    """Return the count of numbers from a matrix's first entry to its last, strides included."""
    rows, columns = matrix.shape
    return (rows - 1) * matrix.stride(0) + columns


def _arrays(program: Program, panel: Array, x: Side, z: Side) -> tuple[NDArray[Any], ...]:
    """Return what the machine reads, all contiguous because it works on bare pointers."""
    arrays: tuple[NDArray[Any], ...] = (
        program.code,
        program.constants,
        program.factors,
        panel,
        x.pixels,
        z.pixels,
        x.marginals,
        z.marginals,
    )
    # Only programs with K in float64 read tables; the others get empty ones in the dtype that the compiled code expects.
    arrays += tuple(side.table.astype(side.marginals.dtype, copy=False) for side in (x, z))
    return tuple(np.ascontiguousarray(array) for array in arrays)


def _work_spaces(program: Program, x: Side, dtype: torch.dtype) -> tuple[NDArray[Any], NDArray[Any], Array]:
    """Return room for the maps of K, in the dtype of the marginals, for those of Θ, and for sums."""
    size = program.size * codes.LANES
    maps = work_space("k", size, x.marginals.dtype), work_space("theta", size, numpy_dtype(dtype))
    return *maps, work_space("sums", program.sums_size * codes.LANES, np.float64)
