"""Kernel matrices of networks with positions: a row of x against blocks of z, spread over threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels import reference
from ntklens.kernels.fused import vm
from ntklens.kernels.fused.layout import Array, Progress, Task, in_lanes, in_threads, roots, run
from ntklens.kernels.fused.program import Program
from ntklens.kernels.graph import Graph

_ITEMS = 64
"""Blocks that a task takes at most, so that threads end together."""


def fill(
    graph: Graph,
    program: Program,
    a: Tensor,
    b: Tensor | None,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    progress: Progress | None,
) -> None:
    """Fill the matrices; without b, only the blocks that reach the diagonal or lie above it."""
    z = a if b is None else b
    root1 = roots(graph, program, a)
    root2 = in_lanes((root1 if b is None else roots(graph, program, z)).numpy()[:, None], vm.LANES)[:, 0]
    x, blocked = pixels(graph, a), in_lanes(pixels(graph, z), vm.LANES)
    tasks: list[Task] = []
    for row in range(len(a)):
        for start in range(row // vm.LANES if b is None else 0, len(blocked), _ITEMS):
            stop = min(start + _ITEMS, len(blocked))
            work = partial(_task, program, x, blocked, root1.numpy(), root2, out, dtype, row, start, stop)
            tasks.append((stop - start, work))
    in_threads(tasks, progress)


def pixels(graph: Graph, x: Tensor) -> Array:
    """(n, C, positions) in float64."""
    array: Array = reference.positions(graph, x.to(torch.float64)).flatten(2).contiguous().numpy()
    return array


def _task(
    program: Program,
    x: Array,
    z: Array,
    root1: Array,
    root2: Array,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    row: int,
    start: int,
    stop: int,
) -> None:
    items = np.array([(row, block) for block in range(start, stop)], np.int64)
    k, t = run(program, items, x, z, root1, root2, dtype)
    for kind, values in (("nngp", k), ("ntk", t)):
        if kind in out:
            columns = out[kind][row, start * vm.LANES : stop * vm.LANES]
            columns.copy_(torch.from_numpy(values).flatten()[: len(columns)])
