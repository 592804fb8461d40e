"""The fused engine as the analytic kernel sees it: which graphs it takes, and their matrices."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import torch
from torch import Tensor

from ntklens.kernels.engines.fused import dense, images, vm
from ntklens.kernels.engines.fused.adjoint import compile_adjoint
from ntklens.kernels.engines.fused.compiler import compile_graph, supported
from ntklens.kernels.engines.fused.layout import Progress, in_threads, own_threads
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.rules.graph import Graph

_log = logging.getLogger("ntklens")


def usable(graph: Graph, x: Tensor) -> bool:
    """Whether this engine takes the graph on this device."""
    return x.device.type == "cpu" and supported(graph)


@own_threads()
def matrices(
    graph: Graph,
    a: Tensor,
    b: Tensor | None,
    kinds: tuple[str, ...],
    memory_limit: int,
    progress: Progress | None = None,
    kept: dense.Products | None = None,
) -> dict[str, Tensor]:
    """The kernel matrices between two batches, or of one with itself, exactly symmetric.

    Args:
        graph: a supported graph.
        a: (n1, ...), float32 or float64, which is the dtype of the result and of Θ's arithmetic.
        b: (n2, ...), or None for a itself.
        kinds: "nngp", "ntk" or both.
        memory_limit: bytes beside the result.
        progress: called with the share done.
        kept: the inner products of a and b, where they are there.

    Returns:
        For each kind a tensor (n1, n2).
    """
    _prepare()
    program = program_of(graph)
    out = {kind: a.new_empty(len(a), len(a if b is None else b)) for kind in kinds}
    if graph.input.flat:
        dense.fill(graph, program, a, b, out, a.dtype, progress, kept)
    else:
        images.fill(graph, program, a, b, out, a.dtype, memory_limit, progress)
    if b is None:
        for matrix in out.values():
            _mirror(matrix)
    return out


@own_threads()
def gradient(
    graph: Graph,
    a: Tensor,
    b: Tensor,
    weights: Tensor,
    kind: str,
    memory_limit: int,
    progress: Progress | None = None,
    kept: dense.Products | None = None,
) -> Tensor:
    """d/da of sum(weights * kernel).

    Args:
        graph: a supported graph.
        a: (n1, ...).
        b: (n2, ...).
        weights: (n1, n2).
        kind: "nngp" or "ntk".
        memory_limit: bytes beside the result.
        progress: called with the share done.
        kept: the inner products of a and b, where they are there.

    Returns:
        Tensor in shape and dtype of a.
    """
    _prepare()
    program = program_of(graph, adjoint=True)
    ntk = kind == "ntk"
    if graph.input.flat:
        made = dense.gradient(graph, program, a, b, weights, ntk, progress, kept)
    else:
        made = images.gradient(graph, program, a, b, weights, ntk, memory_limit, progress)
    return made.to(a.dtype)


@own_threads()
def inner_products(graph: Graph, a: Tensor, b: Tensor, memory_limit: int) -> dense.Products | None:
    """What a kernel matrix and its gradient share, to be kept between them; None where that is nothing, or too large."""
    entry = 4 if a.dtype == b.dtype == torch.float32 else 8
    if not graph.input.flat or entry * len(a) * len(b) > memory_limit:
        return None
    return dense.Products(a, b)


def program_of(graph: Graph, *, adjoint: bool = False) -> Program:
    """The graph's program, or its gradient's, compiled once."""
    name = "adjoint" if adjoint else "forward"
    if name not in graph.kept:
        graph.kept[name] = compile_adjoint(graph) if adjoint else compile_graph(graph)
    program: Program = graph.kept[name]
    return program


def _mirror(matrix: Tensor, side: int = 256) -> None:
    """Fill the lower triangle from the upper, tiles that fit the cache at a time."""
    n = len(matrix)

    def band(i: int) -> None:
        tile = matrix[i : i + side, i : i + side]
        tile.copy_(torch.triu(tile) + torch.triu(tile, 1).T)
        for j in range(i + side, n, side):
            matrix[j : j + side, i : i + side] = matrix[i : i + side, j : j + side].T

    in_threads([(n - i, functools.partial(band, i)) for i in range(0, n, side)])


@functools.cache
def _prepare() -> None:
    """Before the first use in a process: forget what was compiled from older sources, and say when there is a wait.

    Numba looks at the date of one file only, and the engine's code stands in several.
    """
    folder = Path(vm.run.stats.cache_path)
    newest = max(file.stat().st_mtime for file in Path(__file__).parent.glob("*.py"))
    for kept in folder.glob("*.nb[ic]"):
        if kept.stat().st_mtime < newest:
            kept.unlink(missing_ok=True)
    if not list(folder.glob("vm.run-*.nbi")):
        _log.warning("compiling the fast kernels for this machine, once: about ten seconds (kept in %s)", folder)
