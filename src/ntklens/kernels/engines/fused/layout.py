"""What both kinds of programs share: arrays on cache lines, inputs in the layout of the lanes, work space, threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.fused import codes, vm
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.rules import safe
from ntklens.kernels.rules.graph import Graph

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


def in_lanes(x: NDArray[Any], lanes: int) -> NDArray[Any]:
    """(n, C, p) as (blocks, C, p * lanes); zeros fill the last block."""
    n, c, p = x.shape
    blocks = -(-n // lanes)
    out = aligned(blocks * c * p * lanes, x.dtype).reshape(blocks, c, p, lanes)
    whole = n // lanes
    out[:whole] = x[: whole * lanes].reshape(whole, lanes, c, p).transpose(0, 2, 3, 1)
    if whole < blocks:
        out[whole] = 0
        out[whole, ..., : n - whole * lanes] = x[whole * lanes :].transpose(1, 2, 0)
    return out.reshape(blocks, c, p * lanes)


def roots(graph: Graph, program: Program, x: Tensor) -> Tensor:
    """Standard deviations at the nodes that activations read, inverse ones for normalisations: (n, m), float64."""
    out = torch.empty(len(x), program.marginal_size, dtype=torch.float64)
    if program.marginals:

        def task(rows: Tensor, part: Tensor) -> None:
            start = 0
            for root in roots_of(program, recursion.variances(graph, part.to(torch.float64))):
                rows[:, start : start + root.shape[1]] = root
                start += root.shape[1]

        parts = zip(torch.split(out, _STEP), torch.split(x, _STEP), strict=True)
        in_threads([(len(part), partial(task, rows, part)) for rows, part in parts])
    return out


def roots_of(program: Program, variances: recursion.Variances) -> list[Tensor]:
    """The same from the variances, (n, positions) for each node; differentiable."""
    parts = []
    for node, norm in program.marginals:
        q = variances[node]
        if norm is None:
            parts.append(safe.sqrt(q).flatten(1))
            continue
        q = q.mean((1, 2), keepdim=True).expand_as(q) if norm.over_positions else q
        root = safe.sqrt(q + norm.eps).flatten(1)
        parts.append(torch.where(root > 0, 1 / torch.where(root > 0, root, 1.0), 0.0))
    return parts


_kept = threading.local()
_lock = threading.Lock()
_inside: list[int] = []
"""Torch's number of threads, for each call that is under way."""


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


@dataclass(frozen=True)
class Side:
    """One side of the pairs; for z in the layout of the lanes.

    Attributes:
        pixels: (n, C, positions), or (blocks, C, positions * LANES).
        root: (n, m) or (blocks, m * LANES), the marginals that the program reads, float64.
    """

    pixels: NDArray[Any]
    root: Array


def run(
    program: Program,
    items: NDArray[np.int64],
    panel: Array,
    x: Side,
    z: Side,
    dtype: torch.dtype,
    out: dict[str, Tensor],
) -> None:
    """Write the program's results into matrices: rows as in x, columns as in z, of which a block may reach beyond."""
    flat = {kind: matrix.as_strided((_extent(matrix),), (1,)).numpy() for kind, matrix in out.items()}
    shape = next(iter(out.values()))
    wanted = [flat.get(kind, np.empty(0, number(dtype))) for kind in ("nngp", "ntk")]
    spaces = _spaces(program, dtype)
    vm.run(items, *_arrays(program, panel, x, z), *spaces, *wanted, shape.stride(0), shape.shape[1])


def _extent(matrix: Tensor) -> int:
    """Numbers from the first of a matrix to its last, which may be a part of a larger one."""
    rows, columns = matrix.shape
    return (rows - 1) * matrix.stride(0) + columns


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
    """Cotangents of the inputs (places, C, positions), of their marginals (places, m), and of K itself (items, entries).

    The first is empty for a flat program and the last for one with positions; that is overwritten by the next run.
    """
    entries, slots = program.width * codes.LANES, int(items[:, 2].max()) + 1
    _, channels, pixels = x.pixels.shape
    xbar, rbar = np.zeros((slots, channels, pixels)), np.zeros((slots, program.marginal_size))
    kbar = work_space("kbar", len(items) * entries if program.width > 1 else 0, np.float64).reshape(-1, entries)
    vm.run_adjoint(items, *_arrays(program, panel, x, z), weights, ntk, *_spaces(program, dtype), xbar, rbar, kbar)
    rows = np.empty(slots, np.int64)
    rows[items[:, 2]] = items[:, 0]
    root = x.root[rows]
    return xbar, np.divide(rbar, root, out=rbar, where=root > 0), kbar


def _arrays(program: Program, panel: Array, x: Side, z: Side) -> tuple[NDArray[Any], ...]:
    """What the machine reads; it sees bare pointers, so that all must be contiguous."""
    given = (program.code, program.constants, program.factors, panel, x.pixels, z.pixels)
    return tuple(np.ascontiguousarray(array) for array in (*given, x.root, z.root))


def _spaces(program: Program, dtype: torch.dtype) -> tuple[NDArray[Any], NDArray[Any]]:
    size = program.size * codes.LANES
    return work_space("k", size, np.float64), work_space("t", size, number(dtype))


NO_PANEL: Array = np.zeros((1, 1, 1))
"""For programs with positions, which make their own covariances."""


@contextmanager
def own_threads() -> Iterator[None]:
    """As many threads for `in_threads` as torch has, and one for torch's own operations.

    OpenMP's threads wait for one another by spinning, so that two processes side by side spend their time on that.
    Torch's number belongs to the process: of calls at the same time, the first knows what it is to be again.
    """
    with _lock:
        before = _inside[-1] if _inside else torch.get_num_threads()
        _inside.append(before)
    _kept.threads = before
    torch.set_num_threads(1)  # which new threads take over
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del _kept.threads
        with _lock:
            _inside.pop()


def threads() -> int:
    """How many threads `in_threads` takes."""
    count: int = getattr(_kept, "threads", 1)
    return count


def in_threads(tasks: Sequence[Task], progress: Progress | None = None) -> None:
    """Run the tasks in threads, telling the share done; the loops hold no interpreter lock."""
    total, done = sum(size for size, _ in tasks), 0
    grads = torch.is_grad_enabled()

    def perform(task: Task) -> None:
        with torch.set_grad_enabled(grads):  # new threads start with it on
            task[1]()

    with ThreadPoolExecutor(min(threads(), len(tasks)) or 1) as pool:
        made = pool.map(perform, tasks) if threads() > 1 else map(perform, tasks)
        try:
            for (size, _), _result in zip(tasks, made, strict=True):
                done += size
                if progress:
                    progress(done / total)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # an interrupt waits for what is under way alone
            raise
