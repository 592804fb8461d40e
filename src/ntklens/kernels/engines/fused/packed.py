"""Few pairs of images: packed so that every lane has a pair, and divided among threads by parts of the program.

A block of lanes usually holds the pairs of one x with LANES inputs z, which leaves lanes idle where z are few. Here a lane
holds any pair: the vectors of both inputs are laid out pair by pair. That takes as much memory as the pairs have pixels and
marginals, so it is done for programs that spend far longer on a pair than on reading its inputs, as those of a global
pooling do. The arithmetic of a pair is the same, to the last bit.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines.base import Kind
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.layout import NO_PANEL, Array, Side, in_lanes, run, run_adjoint
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.engines.fused.threads import Task, in_threads, threads
from ntklens.progress import Progress

Indices = NDArray[np.int64]

_LEAST_WORK = 32
"""Positions that a program writes for each number that it reads of an input, from which on packing pays."""
_ITEMS_PER_THREAD = 4
"""With fewer items than this, threads share each one's parts, so that they end together."""


def can_pack(program: Program, side: Side) -> bool:
    """Return whether laying out each pair takes little time beside its program; never with tables, which are large."""
    if program.table_size:
        return False
    written = int((program.code[:, codes.H] * program.code[:, codes.W]).sum())
    return bool(written > _LEAST_WORK * (side.pixels[0].size + side.marginals[0].size))


def pairs_of(n1: int, n2: int, *, is_symmetric: bool) -> tuple[Indices, Indices]:
    """Return the indices of all pairs; of a batch with itself, of those on the diagonal and above."""
    if is_symmetric:
        rows, columns = np.triu_indices(n1)
        return rows.astype(np.int64), columns.astype(np.int64)
    return np.repeat(np.arange(n1), n2), np.tile(np.arange(n2), n1)


def pack(x: Side, z: Side, rows: Indices, columns: Indices) -> tuple[Side, Side]:
    """Lay out pairs of inputs, LANES to an item; the last item is filled up with its first pair."""
    missing = -len(rows) % codes.LANES
    rows, columns = (np.concatenate([i, np.repeat(i[:1], missing)]) for i in (rows, columns))
    lanes = codes.LANES
    # A number of x is a vector here, so it has to be in the precision of K already.
    pixels = in_lanes(x.pixels[rows].astype(x.marginals.dtype), lanes)
    marginals = in_lanes(x.marginals[rows][:, None], lanes)
    packed_x = Side(pixels.reshape(*pixels.shape[:2], -1, lanes), marginals.reshape(len(marginals), -1, 1, lanes))
    packed_z = Side(in_lanes(z.pixels[columns], lanes), in_lanes(z.marginals[columns][:, None], lanes)[:, 0])
    return packed_x, packed_z


def fill_packed(
    program: Program,
    x: Side,
    z: Side,
    pairs: tuple[Indices, Indices],
    targets: dict[Kind, Tensor],
    dtype: torch.dtype,
    progress: Progress,
) -> None:
    """Fill the entries of these pairs."""
    rows, columns = pairs

    def task(some: slice, progress: Progress | None = None) -> None:
        sides = pack(x, z, rows[some], columns[some])
        n = len(sides[0].pixels)
        items = np.stack([np.arange(n)] * 2, -1)
        # The results of all items one after the other: there is one row, to which a stride of 0 leads back.
        results = {kind: torch.empty(n * codes.LANES, dtype=dtype) for kind in targets}
        matrices = {kind: result.as_strided((n, len(result)), (0, 1)) for kind, result in results.items()}
        if progress is None:
            run(program, items, NO_PANEL, *sides, dtype, matrices)
        else:
            run_parts(program, items, *sides, matrices, dtype, progress)
        places = torch.from_numpy(rows[some]), torch.from_numpy(columns[some])
        for kind, target in targets.items():
            target[places] = results[kind][: len(places[0])]

    if is_divided(program, -(-len(rows) // codes.LANES)):
        task(slice(None), progress)
        return
    slices = [slice(start, start + codes.LANES) for start in range(0, len(rows), codes.LANES)]
    in_threads([(codes.LANES, partial(task, some)) for some in slices], progress)


def is_divided(program: Program, items: int) -> bool:
    """Return whether threads share the parts of the program, as there are few items."""
    return bool(program.parts) and threads() > 1 and items < _ITEMS_PER_THREAD * threads()


def run_parts(
    program: Program,
    items: Indices,
    x: Side,
    z: Side,
    targets: dict[Kind, Tensor],
    dtype: torch.dtype,
    progress: Progress,
) -> None:
    """Run each part of the program for each item in the threads, and then the rest."""
    parts = len(program.parts) - 1
    sums = np.empty((len(items), parts, 2 * codes.LANES))
    run_items = partial(run, program, panel=NO_PANEL, x=x, z=z, dtype=dtype, matrices=targets)
    tasks: list[Task] = [
        (1, partial(run_items, items[i : i + 1], sums=sums[i : i + 1], part=part))
        for i in range(len(items))
        for part in range(parts)
    ]
    in_threads(tasks, progress)
    run_items(items, sums=sums, part=parts)


def can_pack_gradient(program: Program, x: Side, n2: int) -> bool:
    """Return whether the rows of a gradient are packed; it depends on no other row, so that neither does the rounding."""
    return 2 * n2 <= codes.LANES and can_pack(program, x)


def packed_gradient(
    program: Program, x: Side, z: Side, weights: Array, ntk: bool, dtype: torch.dtype, progress: Progress
) -> tuple[Array, Array]:
    """Return the cotangents of x's pixels and marginals, for weights (n1, n2) of a few z."""
    n1, n2 = weights.shape
    width = 1 << (n2 - 1).bit_length()  # lanes of a row, a power of two
    pixels_bar, marginals_bar = np.empty(x.pixels.shape), np.empty(x.marginals.shape)

    def task(first: int) -> None:
        last = min(first + codes.LANES // width, n1)
        rows, columns = np.repeat(np.arange(first, last), width), np.tile(np.arange(width), last - first)
        # Lanes beyond the last z, and beyond the last row, have the weight 0.
        seeds = np.zeros((1, codes.LANES))
        seeds[0, : len(rows)] = np.where(columns < n2, weights[rows, columns % n2], 0.0)
        sides = pack(x, z, rows, columns % n2)
        item = np.zeros((1, 3), np.int64)
        bars = run_adjoint(program, item, NO_PANEL, *sides, seeds, ntk, dtype)
        for whole, bar in ((pixels_bar, bars[0]), (marginals_bar, bars[1])):
            of_rows = bar.reshape(-1, codes.LANES // width, width).sum(-1)[:, : last - first]
            whole[first:last] = of_rows.T.reshape(whole[first:last].shape)

    starts = range(0, n1, codes.LANES // width)
    in_threads([(1, partial(task, first)) for first in starts], progress)
    return pixels_bar, marginals_bar
