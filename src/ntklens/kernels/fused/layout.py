"""What both kinds of programs share: arrays on cache lines, inputs in the layout of the lanes, work space, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels import reference, safe
from ntklens.kernels.fused import codes, vm
from ntklens.kernels.fused.program import Program
from ntklens.kernels.graph import Graph

Array = NDArray[np.float64]
Progress = Callable[[float], None]
Task = tuple[int, Callable[[], None]]
"""Pairs, and what computes them."""

_STEP = 128
"""Inputs whose variances are taken at a time."""


def aligned(n: int, dtype: Any) -> NDArray[Any]:
    """An array that starts on a cache line, as vectors of 64 bytes want it."""
    item = np.dtype(dtype).itemsize
    raw: NDArray[Any] = np.empty(n + 64 // item, dtype)
    skip = (-raw.ctypes.data % 64) // item
    return raw[skip : skip + n]


def in_lanes(x: Array, lanes: int) -> Array:
    """(n, C, p) as (blocks, C, p * lanes); zeros fill the last block."""
    n, c, p = x.shape
    blocks = -(-n // lanes)
    out = aligned(blocks * c * p * lanes, np.float64).reshape(blocks, c, p, lanes)
    whole = n // lanes
    out[:whole] = x[: whole * lanes].reshape(whole, lanes, c, p).transpose(0, 2, 3, 1)
    if whole < blocks:
        out[whole] = 0
        out[whole, ..., : n - whole * lanes] = x[whole * lanes :].transpose(1, 2, 0)
    return out.reshape(blocks, c, p * lanes)


def roots(graph: Graph, program: Program, x: Tensor) -> Tensor:
    """Standard deviations at the nodes that activations read, inverse ones for normalisations: (n, m), float64."""
    if not program.marginals:
        return x.new_zeros(len(x), 0, dtype=torch.float64)
    parts = torch.split(x, _STEP)
    return torch.cat([roots_of(program, reference.variances(graph, part.to(torch.float64))) for part in parts])


def roots_of(program: Program, variances: reference.Variances) -> Tensor:
    """The same from the variances; differentiable."""
    parts = []
    for node, norm in program.marginals:
        q = variances[node]
        if norm is None:
            parts.append(safe.sqrt(q).flatten(1))
            continue
        q = q.mean((1, 2), keepdim=True).expand_as(q) if norm.over_positions else q
        root = safe.sqrt(q + norm.eps).flatten(1)
        parts.append(torch.where(root > 0, 1 / torch.where(root > 0, root, 1.0), 0.0))
    return torch.cat(parts, 1)


_kept = threading.local()


def work_space(name: str, n: int, dtype: Any) -> NDArray[Any]:
    """An array of this thread's own, kept for the next task; what it holds is arbitrary."""
    spaces: dict[tuple[str, Any], NDArray[Any]] = _kept.__dict__.setdefault("spaces", {})
    key = (name, np.dtype(dtype))
    if key not in spaces or len(spaces[key]) < n:
        spaces[key] = aligned(n, dtype)
    return spaces[key][:n]


def number(dtype: torch.dtype) -> Any:
    """NumPy's name of a torch dtype."""
    return np.float32 if dtype == torch.float32 else np.float64


def run(
    program: Program,
    items: NDArray[np.int64],
    x: Array,
    z: Array,
    root1: Array,
    root2: Array,
    dtype: torch.dtype,
    kinds: Iterable[str],
) -> dict[str, NDArray[Any]]:
    """The program's outputs of these kinds, (items, entries) each; they are overwritten by the thread's next run."""
    size, entries = program.size * codes.LANES, program.width * codes.LANES
    k, t = work_space("k", size, np.float64), work_space("t", size, number(dtype))
    made = {}
    for kind, name in (("nngp", np.float64), ("ntk", number(dtype))):
        width = entries if kind in kinds else 0
        made[kind] = work_space(kind, len(items) * width, name).reshape(len(items), width)
    arrays = (program.code, program.consts, program.places, x, z, root1, root2)
    vm.run(items, *arrays, k, t, made["nngp"], made["ntk"])
    return {kind: made[kind] for kind in kinds}


def run_adjoint(
    program: Program,
    items: NDArray[np.int64],
    x: Array,
    z: Array,
    root1: Array,
    root2: Array,
    weights: Array,
    ntk: bool,
    dtype: torch.dtype,
    pixels: int,
) -> tuple[Array, Array, Array]:
    """Cotangents of the inputs (places, C, positions), of their marginals (places, m), and of K itself (items, entries).

    The first is empty for a flat program and the last for one with positions; they are overwritten by the next run.
    """
    size, entries, lanes = program.size * codes.LANES, program.width * codes.LANES, codes.LANES
    k, t = work_space("k", size, np.float64), work_space("t", size, number(dtype))
    slots = int(items[:, 2].max()) + 1
    flat = program.width > 1
    channels = 0 if flat else x.shape[1]
    xbar = work_space("xbar", slots * channels * pixels * lanes, np.float64).reshape(slots, channels, pixels * lanes)
    rbar = work_space("rbar", slots * program.marginal_size * lanes, np.float64).reshape(slots, -1)
    kbar = work_space("kbar", len(items) * entries if flat else 0, np.float64).reshape(-1, entries)
    xbar[:] = 0
    rbar[:] = 0
    arrays = (program.code, program.consts, program.places, x, z, root1, root2, weights)
    vm.run_adjoint(items, *arrays, ntk, k, t, xbar, rbar, kbar)
    shape = (slots, channels, pixels, lanes)
    times = rbar.reshape(slots, program.marginal_size, lanes).sum(-1)
    first = items[np.searchsorted(items[:, 2], np.arange(slots)), 0]
    return xbar.reshape(shape).sum(-1), np.divide(times, root1[first], out=times, where=root1[first] > 0), kbar


def in_threads(tasks: Sequence[Task], progress: Progress | None = None) -> None:
    """Run the tasks in as many threads as torch has, telling the share done; the loops hold no interpreter lock."""
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
