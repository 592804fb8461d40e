"""Kernel matrices of networks with positions: rows of x against blocks of z, spread over threads."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.layout import (
    NO_PANEL,
    Array,
    Progress,
    Side,
    Task,
    in_lanes,
    in_threads,
    roots,
    roots_of,
    run,
    run_adjoint,
    threads,
)
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.rules.graph import Graph

_ITEMS = 64
"""Rows or blocks that a task takes at most, so that threads end together."""
_INPUTS = _ITEMS * codes.LANES
_ROWS = 8
"""Rows that a gradient's task takes at most: what it adds to stays in the cache too."""
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
        x = _side(graph, program, a[top : top + step], dtype)
        for left in range(top if b is None else 0, len(z), step):
            same = b is None and left == top
            part = x if same else _side(graph, program, z[left : left + step], dtype)
            here = {kind: m[top : top + step, left : left + step] for kind, m in out.items()}
            pairs = len(x.pixels) * len(part.pixels) / (2 if same else 1)
            start = done

            def share(part: float, start: float = start, pairs: float = pairs) -> None:
                if progress:
                    progress(min(1.0, (start + part * pairs) / total))

            _fill_part(program, x, _in_lanes(part), here, dtype, same, share)
            done += pairs


def _side(graph: Graph, program: Program, x: Tensor, dtype: torch.dtype) -> Side:
    """One batch, x in the products."""
    pixels = recursion.positions(graph, x.to(dtype)).flatten(2).contiguous().numpy()
    return Side(pixels, roots(graph, program, x).numpy())


def _in_lanes(side: Side) -> Side:
    """The same in the layout of the lanes, z in the products."""
    return Side(in_lanes(side.pixels, codes.LANES), in_lanes(side.root[:, None], codes.LANES)[:, 0])


def _inputs_within(program: Program, x: Tensor, memory_limit: int) -> int:
    """How many inputs of either side may be laid out at a time: whole tasks of blocks."""
    each = 8 * 4 * (x[0].numel() + program.marginal_size)
    return max(1, memory_limit // each // _INPUTS) * _INPUTS


def _fill_part(
    program: Program,
    x: Side,
    z: Side,
    out: dict[str, Tensor],
    dtype: torch.dtype,
    symmetric: bool,
    progress: Progress,
) -> None:
    tasks: list[Task] = []
    n = len(x.pixels)
    for block in range(len(z.pixels)):  # a block stays in the cache while rows pass by
        last = min(n, (block + 1) * codes.LANES) if symmetric else n
        for start in range(0, last, _ITEMS):
            items = np.array([(row, block) for row in range(start, min(start + _ITEMS, last))], np.int64)
            tasks.append((len(items), partial(run, program, items, NO_PANEL, x, z, dtype, out)))
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
        x = _side(graph, program, a[top : top + step], a.dtype)
        n = len(x.pixels)
        xbar, rbar = np.zeros(x.pixels.shape), np.zeros(x.root.shape)
        for left in range(0, len(b), step):
            z = _in_lanes(_side(graph, program, b[left : left + step], a.dtype))
            given = weights[top : top + n, left : left + step]
            seeds = torch.nn.functional.pad(given, (0, -given.shape[1] % codes.LANES))
            cotangents = seeds.to(torch.float64).reshape(n, -1, codes.LANES).contiguous().numpy()
            start = (top * len(b) + n * left) / (len(a) * len(b))
            share = given.numel() / (len(a) * len(b))

            def tell(part: float, start: float = start, share: float = share) -> None:
                if progress:
                    progress(start + part * share)

            _gradient_part(program, x, z, cotangents, ntk, a.dtype, xbar, rbar, tell)
        direct = torch.from_numpy(xbar).reshape(a[top : top + step].shape)
        parts.append(direct + _through_roots(graph, program, a[top : top + step], torch.from_numpy(rbar)))
    return torch.cat(parts)


def _gradient_part(
    program: Program,
    x: Side,
    z: Side,
    cotangents: Array,
    ntk: bool,
    dtype: torch.dtype,
    xbar: Array,
    rbar: Array,
    progress: Progress,
) -> None:
    """Add what these blocks give: sums over _ITEMS blocks, whatever the rows of a task and the threads' order."""
    n, blocks = len(x.pixels), len(z.pixels)
    count = max(1, min(_ROWS, n // threads()))

    def task(first: int) -> None:
        rows = np.arange(first, min(first + count, n))
        for start in range(0, blocks, _ITEMS):
            part = np.arange(start, min(start + _ITEMS, blocks))
            grid = np.meshgrid(part, rows, indexing="ij")  # a block stays in the cache while rows pass by
            items = np.stack([grid[1], grid[0], grid[1] - first], -1).reshape(-1, 3)
            seeds = cotangents[items[:, 0], items[:, 1]]
            made = run_adjoint(program, items, NO_PANEL, x, z, seeds, ntk, dtype)
            xbar[rows] += made[0]
            rbar[rows] += made[1]

    in_threads([(min(count, n - first), partial(task, first)) for first in range(0, n, count)], progress)


def _through_roots(graph: Graph, program: Program, a: Tensor, rbar: Tensor) -> Tensor:
    """What the standard deviations' cotangents add to the inputs'."""
    if not program.marginals:
        return torch.zeros_like(a, dtype=torch.float64)
    out = torch.empty(a.shape, dtype=torch.float64)

    def task(rows: Tensor, x: Tensor, bar: Tensor) -> None:
        with torch.enable_grad():
            x = x.to(torch.float64).detach().requires_grad_()
            root = torch.cat(roots_of(program, recursion.variances(graph, x)), 1)
        rows[:] = torch.autograd.grad(root, x, bar)[0]

    parts = zip(*(torch.split(t, _STEP) for t in (out, a, rbar)), strict=True)
    in_threads([(len(x), partial(task, rows, x, bar)) for rows, x, bar in parts])
    return out
