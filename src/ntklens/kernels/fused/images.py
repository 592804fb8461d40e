"""Kernel matrices of networks with positions: rows of x against blocks of z, spread over threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels import reference
from ntklens.kernels.fused import codes
from ntklens.kernels.fused.layout import Array, Progress, Task, in_lanes, in_threads, roots, run, run_adjoint
from ntklens.kernels.fused.program import Program
from ntklens.kernels.graph import Graph

_ITEMS = 64
"""Rows or blocks that a task takes at most, so that threads end together."""
_INPUTS = _ITEMS * codes.LANES
_STEP = 64
"""Inputs whose variances are differentiated at a time."""


def fill(
    graph: Graph,
    program: Program,
    a: Tensor,
    b: Tensor | None,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    memory_limit: int,
    progress: Progress | None,
) -> None:
    """Fill the matrices; without b, only the blocks that reach the diagonal or lie above it."""
    z = a if b is None else b
    step = _inputs_within(program, a, memory_limit)
    done, total = 0.0, len(a) * len(z) / (2 if b is None else 1)
    for top in range(0, len(a), step):
        x = _Side(graph, program, a[top : top + step])
        for left in range(top if b is None else 0, len(z), step):
            same = b is None and left == top
            blocks = _Blocks(x if same else _Side(graph, program, z[left : left + step]))
            here = {kind: m[top : top + x.n, left : left + blocks.n] for kind, m in out.items()}
            pairs = x.n * blocks.n / (2 if same else 1)
            start = done

            def share(part: float, start: float = start, pairs: float = pairs) -> None:
                if progress:
                    progress(min(1.0, (start + part * pairs) / total))

            _fill_part(program, x, blocks, here, dtype, same, share)
            done += pairs


class _Side:
    """One batch: its pixels, (n, C, positions), and standard deviations, (n, m), in float64."""

    def __init__(self, graph: Graph, program: Program, x: Tensor) -> None:
        self.n = len(x)
        self.pixels: Array = reference.positions(graph, x.to(torch.float64)).flatten(2).contiguous().numpy()
        self.root: Array = roots(graph, program, x).numpy()


class _Blocks:
    """The same in the layout of the lanes."""

    def __init__(self, side: _Side) -> None:
        self.n = side.n
        self.pixels, self.root = in_lanes(side.pixels, codes.LANES), in_lanes(side.root[:, None], codes.LANES)[:, 0]


def _inputs_within(program: Program, x: Tensor, memory_limit: int) -> int:
    """How many inputs of either side may be laid out at a time: whole tasks of blocks."""
    each = 8 * 4 * (x[0].numel() + program.marginal_size)
    return max(1, memory_limit // each // _INPUTS) * _INPUTS


def _fill_part(
    program: Program,
    x: _Side,
    z: _Blocks,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    symmetric: bool,
    progress: Progress,
) -> None:
    tasks: list[Task] = []
    for block in range(len(z.pixels)):  # a block stays in the cache while rows pass by
        last = min(x.n, (block + 1) * codes.LANES) if symmetric else x.n
        for start in range(0, last, _ITEMS):
            rows = range(start, min(start + _ITEMS, last))
            tasks.append((len(rows), partial(_task, program, x, z, out, dtype, rows, block)))
    in_threads(tasks, progress)


def gradient(
    graph: Graph,
    program: Program,
    a: Tensor,
    b: Tensor,
    weights: Tensor,
    ntk: bool,
    memory_limit: int,
    progress: Progress | None,
) -> Tensor:
    """d/da of sum(weights * kernel), in float64; Θ's arithmetic is in the dtype of a."""
    step = _inputs_within(program, a, memory_limit)
    parts = []
    for top in range(0, len(a), step):
        x = _Side(graph, program, a[top : top + step])
        xbar, rbar = np.zeros_like(x.pixels), np.zeros_like(x.root)
        for left in range(0, len(b), step):
            z = _Blocks(_Side(graph, program, b[left : left + step]))
            seeds = torch.nn.functional.pad(weights[top : top + x.n, left : left + z.n], (0, -z.n % codes.LANES))
            cotangents = seeds.to(torch.float64).reshape(x.n, -1, codes.LANES).contiguous().numpy()
            start = (top * len(b) + x.n * left) / (len(a) * len(b))
            share = x.n * z.n / (len(a) * len(b))

            def tell(part: float, start: float = start, share: float = share) -> None:
                if progress:
                    progress(start + part * share)

            _gradient_part(program, x, z, cotangents, ntk, a.dtype, xbar, rbar, tell)
        direct = torch.from_numpy(xbar).reshape(a[top : top + step].shape)
        parts.append(direct + _through_roots(graph, program, a[top : top + step], torch.from_numpy(rbar)))
    return torch.cat(parts)


def _gradient_part(
    program: Program,
    x: _Side,
    z: _Blocks,
    cotangents: Array,
    ntk: bool,
    dtype: torch.dtype,
    xbar: Array,
    rbar: Array,
    progress: Progress,
) -> None:
    """Add what these blocks give, in the order of the tasks, whatever the threads' order."""
    starts = range(0, len(z.pixels), _ITEMS)

    def task(row: int) -> None:
        for start in starts:
            stop = min(start + _ITEMS, len(z.pixels))
            items = np.array([(row, block, 0) for block in range(start, stop)], np.int64)
            arrays = x.pixels, z.pixels, x.root, z.root, cotangents[row, start:stop]
            made = run_adjoint(program, items, *arrays, ntk, dtype, x.pixels.shape[2])
            xbar[row] += made[0][0]
            rbar[row] += made[1][0]

    in_threads([(1, partial(task, row)) for row in range(x.n)], progress)


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


def _task(
    program: Program, x: _Side, z: _Blocks, out: dict[str, Tensor], dtype: torch.dtype, rows: range, block: int
) -> None:
    items = np.array([(row, block) for row in rows], np.int64)
    for kind, values in run(program, items, x.pixels, z.pixels, x.root, z.root, dtype, out).items():
        tile = out[kind][rows.start : rows.stop, block * codes.LANES : (block + 1) * codes.LANES]
        tile.copy_(torch.from_numpy(values)[:, : tile.shape[1]])
