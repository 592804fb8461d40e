"""Kernel matrices of networks with positions: rows of x against blocks of z, spread over threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels import reference
from ntklens.kernels.fused import vm
from ntklens.kernels.fused.layout import Array, Progress, Task, in_lanes, in_threads, roots, run, run_adjoint
from ntklens.kernels.fused.program import Program
from ntklens.kernels.graph import Graph

_ITEMS = 64
"""Rows or blocks that a task takes at most, so that threads end together."""
_STEP = 64
"""Inputs whose variances are differentiated at a time."""


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
    for block in range(len(blocked)):  # a block stays in the cache while rows pass by
        last = min(len(a), (block + 1) * vm.LANES) if b is None else len(a)
        for start in range(0, last, _ITEMS):
            rows = range(start, min(start + _ITEMS, last))
            work = partial(_task, program, x, blocked, root1.numpy(), root2, out, dtype, rows, block)
            tasks.append((len(rows), work))
    in_threads(tasks, progress)


def gradient(
    graph: Graph, program: Program, a: Tensor, b: Tensor, weights: Tensor, ntk: bool, progress: Progress | None
) -> Tensor:
    """d/da of sum(weights * kernel), in float64; Θ's arithmetic is in the dtype of a."""
    root1, root2 = roots(graph, program, a).numpy(), roots(graph, program, b).numpy()
    x, z, second = pixels(graph, a), in_lanes(pixels(graph, b), vm.LANES), in_lanes(root2[:, None], vm.LANES)[:, 0]
    padded = torch.nn.functional.pad(weights.to(torch.float64), (0, len(z) * vm.LANES - len(b)))
    cotangents = padded.reshape(len(a), len(z), vm.LANES).numpy()
    starts = range(0, len(z), _ITEMS)
    xbar, rbar = np.zeros((len(starts), *x.shape)), np.zeros((len(starts), *root1.shape))

    def task(row: int, part: int, start: int, stop: int) -> None:
        items = np.array([(row, block, 0) for block in range(start, stop)], np.int64)
        seeds = cotangents[row, start:stop]
        made = run_adjoint(program, items, x, z, root1, second, seeds, ntk, a.dtype, x.shape[2])
        xbar[part, row], rbar[part, row] = made[0][0], made[1][0]

    tasks: list[Task] = []
    for row in range(len(a)):
        for part, start in enumerate(starts):
            stop = min(start + _ITEMS, len(z))
            tasks.append((stop - start, partial(task, row, part, start, stop)))
    in_threads(tasks, progress)
    direct = torch.from_numpy(xbar.sum(0)).reshape(a.shape)
    return direct + _through_roots(graph, program, a, torch.from_numpy(rbar.sum(0)))


def _through_roots(graph: Graph, program: Program, a: Tensor, rbar: Tensor) -> Tensor:
    """What the standard deviations' cotangents add to the inputs'."""
    if not program.marginals:
        return torch.zeros_like(a, dtype=torch.float64)
    parts = []
    for x, bar in zip(torch.split(a, _STEP), torch.split(rbar, _STEP), strict=True):
        with torch.enable_grad():
            x = x.to(torch.float64).detach().requires_grad_()
            root = roots(graph, program, x)
        parts.append(torch.autograd.grad(root, x, bar)[0])
    return torch.cat(parts)


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
    rows: range,
    block: int,
) -> None:
    items = np.array([(row, block) for row in rows], np.int64)
    k, t = run(program, items, x, z, root1, root2, dtype)
    for kind, values in (("nngp", k), ("ntk", t)):
        if kind in out:
            tile = out[kind][rows.start : rows.stop, block * vm.LANES : (block + 1) * vm.LANES]
            tile.copy_(torch.from_numpy(values)[:, : tile.shape[1]])
