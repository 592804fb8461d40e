"""Kernel matrices by the fused programs: blocks of inputs in the layout of the lanes, spread over threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels import reference
from ntklens.kernels.fused import vm
from ntklens.kernels.fused.program import FLAT_WIDTH, Program, compile_graph, supported
from ntklens.kernels.graph import Graph
from ntklens.kernels.operations import Normalise

Array = NDArray[np.float64]
Out = dict[str, Tensor]
Progress = Callable[[float], None]

_TILE = 256
"""Rows and columns of a tile of the input's matrix product, for inputs without positions."""
_BLOCK = FLAT_WIDTH * vm.LANES
"""Columns that a flat program takes at a time."""
_log = logging.getLogger("ntklens")

_ITEMS = 64
"""Items of a task at most, so that threads end together."""


def usable(graph: Graph, x: Tensor) -> bool:
    """Whether this engine takes the graph on this device."""
    return x.device.type == "cpu" and supported(graph)


def matrices(
    graph: Graph,
    a: Tensor,
    b: Tensor | None,
    kinds: tuple[str, ...],
    dtype: torch.dtype,
    progress: Progress | None = None,
) -> dict[str, Tensor]:
    """The kernel matrices between two batches, or of one with itself, exactly symmetric.

    Args:
        graph: a supported graph.
        a: (n1, ...), float64.
        b: (n2, ...), float64, or None for a itself.
        kinds: "nngp", "ntk" or both.
        dtype: of the result, and of Θ's arithmetic.
        progress: called with the share done.

    Returns:
        For each kind a tensor (n1, n2).
    """
    _announce()
    program, z = program_of(graph), a if b is None else b
    out = {kind: a.new_zeros(len(a), len(z), dtype=dtype) for kind in kinds}
    one = _Side(graph, program, a)
    other = _Side(graph, program, z, blocks=True, rows=one.rows if b is None else None)
    (_flat if graph.input.flat else _images)(program, one, other, out, dtype, b is None, progress)
    if b is None:
        for matrix in out.values():
            _mirror(matrix)
    return out


def _mirror(matrix: Tensor, side: int = 1024) -> None:
    """Fill the lower triangle from the upper, a tile at a time."""
    n = len(matrix)
    for i in range(0, n, side):
        for j in range(i, n, side):
            tile = matrix[i : i + side, j : j + side]
            if i == j:
                tile.copy_(tile.triu() + tile.triu(1).T)
            else:
                matrix[j : j + side, i : i + side] = tile.T


def _announce() -> None:
    """Say, before the first use on a machine, that there is a wait."""
    folder = vm.run.stats.cache_path
    if not vm.run.signatures and not (folder and list(Path(folder).glob("vm.run-*.nbi"))):
        _log.warning("compiling the fast kernels for this machine, once: about ten seconds (kept in %s)", folder)


def program_of(graph: Graph) -> Program:
    """The graph's program, compiled once."""
    if "fused" not in graph.kept:
        graph.kept["fused"] = compile_graph(graph)
    program: Program = graph.kept["fused"]
    return program


class _Side:
    """One batch in the layout of the programs.

    Attributes:
        n: number of inputs.
        x: (n, C, positions), or in blocks (blocks, C, positions * LANES).
        rows: for flat graphs, in its place, (n, d) with zeros up to whole tiles.
        root: standard deviations, (n, m), or (blocks, m * lanes).
    """

    rows: Tensor | None = None

    def __init__(
        self, graph: Graph, program: Program, x: Tensor, *, blocks: bool = False, rows: Tensor | None = None
    ) -> None:
        self.n = len(x)
        root = _marginals(graph, program, x)
        lanes = program.width * vm.LANES
        if graph.input.flat:
            flat = x.flatten(1)
            self.rows = torch.nn.functional.pad(flat, (0, 0, 0, -len(flat) % _TILE)) if rows is None else rows
        else:
            images = reference.positions(graph, x).flatten(2).numpy()
            self.x = _in_lanes(images, lanes) if blocks else np.ascontiguousarray(images)
        self.root = _in_lanes(root[:, None], lanes)[:, 0] if blocks else root


def _marginals(graph: Graph, program: Program, x: Tensor) -> Array:
    """Standard deviations at the nodes that activations read, inverse ones for normalisations, one row an input."""
    root = np.zeros((len(x), program.marginal_size))
    variances = reference.variances(graph, x) if program.marginals else {}
    for (node, norm), start in program.marginals.items():
        q = variances[node]
        if isinstance(norm, Normalise):
            q = norm.eps + (q.mean((1, 2), keepdim=True).expand_as(q) if norm.over_positions else q)
        r = q.clamp(min=0).sqrt().flatten(1).numpy()
        if norm is not None:
            r = np.divide(1.0, r, out=np.zeros_like(r), where=r > 0)
        root[:, start : start + r.shape[1]] = r
    return root


def _in_lanes(x: Array, lanes: int) -> Array:
    """(n, C, p) as (blocks, C, p * lanes); zeros fill the last block."""
    n, c, p = x.shape
    blocks = -(-n // lanes)
    padded = np.zeros((blocks * lanes, c, p))
    padded[:n] = x
    out = aligned(blocks * c * p * lanes, np.float64).reshape(blocks, c, p, lanes)
    out[...] = padded.reshape(blocks, lanes, c, p).transpose(0, 2, 3, 1)
    return out.reshape(blocks, c, p * lanes)


def aligned(n: int, dtype: type) -> NDArray[Any]:
    """An array that starts on a cache line, as vectors of 64 bytes want it."""
    item = np.dtype(dtype).itemsize
    raw: NDArray[Any] = np.empty(n + 64 // item, dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


def _images(
    program: Program,
    one: _Side,
    other: _Side,
    out: Out,
    dtype: torch.dtype,
    symmetric: bool,
    progress: Progress | None,
) -> None:
    """Rows of blocks; each thread takes a few at a time."""
    blocks = len(other.x)
    tasks = []
    for row in range(one.n):
        first = row // vm.LANES if symmetric else 0
        for start in range(first, blocks, _ITEMS):
            stop = min(start + _ITEMS, blocks)
            tasks.append((stop - start, partial(_image_task, program, one, other, out, dtype, row, start, stop)))
    _in_threads(tasks, progress)


def _image_task(
    program: Program, one: _Side, other: _Side, out: Out, dtype: torch.dtype, row: int, start: int, stop: int
) -> None:
    items = np.array([(row, block) for block in range(start, stop)], np.int64)
    k, t = _run(program, items, one.x, other.x, one.root, other.root, dtype)
    _keep(out, k, t, row, slice(start * vm.LANES, min(stop * vm.LANES, other.n)))


def _keep(out: Out, k: Array, t: NDArray[Any], row: int, columns: slice) -> None:
    for kind, values in (("nngp", k), ("ntk", t)):
        if kind in out:
            out[kind][row, columns] = torch.from_numpy(values).flatten()[: columns.stop - columns.start]


def _flat(
    program: Program,
    one: _Side,
    other: _Side,
    out: Out,
    dtype: torch.dtype,
    symmetric: bool,
    progress: Progress | None,
) -> None:
    """Panels of rows: a matrix product in tiles of one shape, then the recursion on what it gave."""
    assert one.rows is not None
    assert other.rows is not None
    blocks, d = len(other.root), one.rows.shape[1]
    panel = torch.zeros(_TILE, blocks * _BLOCK, dtype=torch.float64)
    for top in range(0, one.n, _TILE):
        left = one.rows[top : top + _TILE]
        for column in range(top if symmetric else 0, len(other.rows), _TILE):
            torch.mm(left, other.rows[column : column + _TILE].T, out=panel[:, column : column + _TILE])
        panel /= d
        first = top // _BLOCK if symmetric else 0
        k0 = panel.numpy().reshape(_TILE, blocks, _BLOCK)
        rows = range(top, min(top + _TILE, one.n))
        tasks = [
            (1, partial(_flat_task, program, k0, one, other, out, dtype, top, part, first))
            for part in np.array_split(np.array(rows), 4 * torch.get_num_threads())
        ]
        _in_threads(tasks, None)
        if progress:
            progress(rows.stop / one.n)


def _flat_task(
    program: Program,
    k0: Array,
    one: _Side,
    other: _Side,
    out: Out,
    dtype: torch.dtype,
    top: int,
    rows: NDArray[np.int64],
    first: int,
) -> None:
    none = np.zeros((1, 1, 1))
    for row in rows:
        items = np.array([(0, block) for block in range(first, k0.shape[1])], np.int64)
        k, t = _run(program, items, k0[row - top : row - top + 1], none, one.root[row : row + 1], other.root, dtype)
        _keep(out, k, t, int(row), slice(first * _BLOCK, other.n))


def _run(
    program: Program, items: NDArray[np.int64], x: Array, z: Array, root1: Array, root2: Array, dtype: torch.dtype
) -> tuple[Array, NDArray[Any]]:
    """The program's outputs for these items, (items, entries) each."""
    number = np.float32 if dtype == torch.float32 else np.float64
    k, t = aligned(program.size * vm.LANES, np.float64), aligned(program.size * vm.LANES, number)
    shape = (len(items), program.width * vm.LANES)
    out_k, out_t = np.empty(shape), np.empty(shape, number)
    vm.run(items, program.code, program.consts, program.places, x, z, root1, root2, k, t, out_k, out_t)
    return out_k, out_t


def _in_threads(tasks: Iterable[tuple[int, Callable[[], None]]], progress: Progress | None) -> None:
    """Run the tasks in as many threads as torch has, telling the share done; the loops hold no interpreter lock."""
    tasks = list(tasks)
    total, done = sum(size for size, _ in tasks), 0
    threads = min(torch.get_num_threads(), len(tasks))
    if threads < 2:
        for size, task in tasks:
            task()
            done += size
            if progress:
                progress(done / total)
        return
    with ThreadPoolExecutor(threads) as pool:
        for (size, _), _result in zip(tasks, pool.map(lambda t: t[1](), tasks), strict=True):
            done += size
            if progress:
                progress(done / total)
