"""Kernels of networks with positions: rows of x against blocks of z, each pair's maps in the cache."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.allocation import large
from ntklens.kernels.engines import recursion
from ntklens.kernels.engines.base import Kind
from ntklens.kernels.engines.fused import codes, two_precisions
from ntklens.kernels.engines.fused.adjoint import compile_adjoint
from ntklens.kernels.engines.fused.coefficients.tables import Room, larger, room_of, with_table
from ntklens.kernels.engines.fused.compiler import compile_graph
from ntklens.kernels.engines.fused.inner_products import InnerProducts
from ntklens.kernels.engines.fused.layout import (
    NO_PANEL,
    Array,
    Beyond,
    Side,
    in_lanes,
    marginals_of,
    run,
    run_adjoint,
)
from ntklens.kernels.engines.fused.packed import (
    can_pack,
    can_pack_gradient,
    fill_packed,
    is_divided,
    packed_gradient,
    pairs_of,
    run_parts,
)
from ntklens.kernels.engines.fused.program import Marginal, Program, marginal_of
from ntklens.kernels.engines.fused.threads import Task, in_threads, threads
from ntklens.kernels.engines.fused.variances import Sweep, compile_sweep
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import Activation
from ntklens.progress import Progress

_ITEMS_PER_TASK = 64
"""Most rows of a task, so that threads end together."""
_TASKS_PER_THREAD = 4
"""Where rows are few, a task takes so few that each thread has about so many tasks."""
_BLOCKS_PER_SUM, _BLOCKS_PER_SUM_WITH_TABLES = 64, 8
"""Blocks of columns over which a gradient's sums run at a time; fewer where tables make the inputs large.

Inputs are laid out in multiples of these blocks, so that the order of summation does not depend on the memory limit.
"""
_GRADIENT_ROWS_PER_TASK = 8
"""Most rows of a gradient's task: the sums that it adds to stay in the cache, too."""
_FULL = 0.9
"""Share of the lanes that must have a pair; else pairs are packed, where the program allows for it."""
_MARGINAL_INPUTS = 128
"""Most inputs whose variances are computed at a time."""
_TAPED_INPUTS = 64
"""Most inputs whose variances are differentiated at a time."""


class ImagePairs:
    """All pairs of two batches, for a network with positions.

    Args:
        graph: the traced network, of operations that have an instruction.
        memory_limit: bytes for the inputs in the layout of the lanes.
    """

    def __init__(self, graph: Graph, memory_limit: int) -> None:
        self.graph = graph
        self.memory_limit = memory_limit
        self._sweeps: dict[tuple[Marginal, ...], Sweep | None] = {}

    @cached_property
    def _forward(self) -> Program:
        return compile_graph(self.graph)

    @cached_property
    def _adjoint(self) -> Program:
        return compile_adjoint(self.graph)

    def fill(
        self,
        x1: Tensor,
        x2: Tensor | None,
        matrices: dict[Kind, Tensor],
        progress: Progress,
        inner: InnerProducts | None = None,
    ) -> Beyond:
        """Fill the matrices, each (n1, n2); without x2, only the blocks that reach the diagonal or lie above it.

        A pair's maps share nothing with its gradient, so `inner` is always None. The pairs of inputs that are beyond the
        series are left to the caller.
        """
        program, dtype = self._forward, x1.dtype
        z = x1 if x2 is None else x2
        beyond = Beyond(len(x1), len(z))
        known1 = self._known_marginals(program, x1)
        known2 = known1 if x2 is None else self._known_marginals(program, z)
        room = self._room(program, dtype, (x1, known1), (z, known2))
        step = self._inputs_per_part(program, x1, room)
        done, total = 0.0, len(x1) * len(z) / (2 if x2 is None else 1)
        for top in range(0, len(x1), step):
            side1 = self._side(program, x1, known1, slice(top, top + step), dtype, room)
            side1.note(beyond.first[top : top + step])
            for left in range(top if x2 is None else 0, len(z), step):
                is_symmetric = x2 is None and left == top
                shared = is_symmetric and not program.table_size
                side2 = (
                    side1
                    if shared
                    else self._side(program, z, known2, slice(left, left + step), dtype, room, codes.LANES)
                )
                side2.note(beyond.second[left : left + step])
                targets = {kind: m[top : top + step, left : left + step] for kind, m in matrices.items()}
                pairs = len(side1.pixels) * len(side2.pixels) / (2 if is_symmetric else 1)
                # Rounding must not carry the last share beyond 1.
                part = progress.part(done / total, min(pairs / total, 1 - done / total))
                if program.is_smooth and dtype == torch.float32:
                    two_precisions.fill(
                        program, side1, side2, targets, is_symmetric, part, partial(_fill_part, program, dtype)
                    )
                else:
                    _fill_part(program, dtype, side1, side2, targets, is_symmetric, part)
                done += pairs
        return beyond

    def gradient(
        self,
        x1: Tensor,
        x2: Tensor,
        weights: Tensor,
        kind: Kind,
        progress: Progress,
        inner: InnerProducts | None = None,
    ) -> tuple[Tensor, Beyond]:
        """Compute d/dx1 of sum(weights * K), float64; Θ's arithmetic is in the dtype of x1.

        Pairs of inputs that are beyond the series are left out, or their rows are undefined.

        The program's adjoint gives the cotangents of the pixels directly, and those of the standard deviations that
        activations read, which autograd takes to the pixels.
        """
        program, dtype = self._adjoint, x1.dtype
        known1, known2 = (self._known_marginals(program, x) for x in (x1, x2))
        room = self._room(program, dtype, (x1, known1), (x2, known2))
        step = self._inputs_per_part(program, x1, room)
        pairs = len(x1) * len(x2)
        beyond = Beyond(len(x1), len(x2))
        gradients = []
        for top in range(0, len(x1), step):
            x = x1[top : top + step]
            side1 = self._side(program, x1, known1, slice(top, top + step), dtype, room, grows=True)
            side1.note(beyond.first[top : top + step])
            n = len(x)
            pixels_bar, marginals_bar = np.zeros(side1.pixels.shape), np.zeros(side1.marginals.shape)
            for left in range(0, len(x2), step):
                side2 = self._side(program, x2, known2, slice(left, left + step), dtype, room, codes.LANES)
                side2.note(beyond.second[left : left + step])
                seeds = weights[top : top + n, left : left + step]
                if side2.beyond is not None:
                    seeds = seeds.masked_fill(torch.from_numpy(side2.beyond), 0)
                part = progress.part((top * len(x2) + n * left) / pairs, seeds.numel() / pairs)
                if can_pack_gradient(program, side1, len(x2)):
                    of_pairs = seeds.to(torch.float64).numpy()
                    bars = packed_gradient(program, side1, side2, of_pairs, kind == "ntk", dtype, part)
                    pixels_bar, marginals_bar = bars
                    continue
                side2 = _in_lanes(side2)
                # Columns beyond the last input fill its block of lanes; their weight is 0.
                padded = torch.nn.functional.pad(seeds, (0, -seeds.shape[1] % codes.LANES)).to(torch.float64)
                cotangents = padded.reshape(n, -1, codes.LANES).contiguous().numpy()
                _add_gradient(program, side1, side2, cotangents, kind == "ntk", dtype, pixels_bar, marginals_bar, part)
            direct = torch.from_numpy(pixels_bar).reshape(x.shape)
            gradients.append(direct + self._through_marginals(program, x, torch.from_numpy(marginals_bar)))
        return torch.cat(gradients), beyond

    def _side(
        self,
        program: Program,
        inputs: Tensor,
        known: Tensor | None,
        rows: slice,
        dtype: torch.dtype,
        room: Room,
        lanes: int = 1,
        *,
        grows: bool = False,
    ) -> Side:
        """Return some inputs in rows: pixels (n, C, positions), marginals (n, m); and coefficients, in blocks of lanes."""
        x = inputs[rows]
        pixels = self._pixels(x.to(dtype))
        marginals = self._marginals(program, x) if known is None else known[rows]
        side = Side(pixels, marginals.numpy())
        return with_table(program, side, dtype, room, lanes, of_x=lanes == 1, grows=grows)

    def _pixels(self, x: Tensor) -> NDArray[Any]:
        """Return inputs as (n, C, positions), of the same memory where they lie in it without gaps."""
        return recursion.positions(self.graph, x).flatten(2).contiguous().numpy()

    def _sweep(self, program: Program) -> Sweep | None:
        """Return what computes the marginals in compiled code; None for networks whose marginals torch computes."""
        key = tuple(program.marginals)
        if key not in self._sweeps:
            self._sweeps[key] = compile_sweep(self.graph, program.marginals)
        return self._sweeps[key]

    def _check(self, program: Program, marginals: Tensor) -> None:
        """Warn as the recursion of the variances does, of standard deviations."""
        for node in self.graph.nodes:
            if isinstance(node.operation, Activation) and hasattr(node.operation.dual, "relative_error"):
                place = program.marginals[marginal_of(node)]
                size = self.graph.nodes[node.inputs[0]].size
                node.operation.check(marginals[:, place : place + size[0] * size[1]].amax().square())

    def _known_marginals(self, program: Program, x: Tensor) -> Tensor | None:
        """Return the marginals of a whole batch, where tables need them beforehand and they are small; else None."""
        is_small = 8 * program.marginal_size * len(x) <= self.memory_limit // 8
        return self._marginals(program, x) if program.table_size and is_small else None

    def _room(self, program: Program, dtype: torch.dtype, *batches: tuple[Tensor, Tensor | None]) -> Room:
        """Return how much room the entries of batches, with their marginals if these are known, need."""
        if not program.table_size:
            return Room()
        rooms = []
        for x, known in batches:
            for part in torch.split(x, _MARGINAL_INPUTS) if known is None else (x,):
                marginals = self._marginals(program, part) if known is None else known
                rooms.append(room_of(program, marginals.numpy(), dtype))
        return larger(*rooms)

    def _inputs_per_part(self, program: Program, x: Tensor, room: Room) -> int:
        """Return how many inputs of either side may be laid out at a time: whole groups of blocks."""
        group = _blocks_per_sum(program) * codes.LANES
        entries = (2 * codes.LEAD + 2 * room.x + room.z) * program.table_size  # of x with their growth, and of z
        bytes_per_input = 8 * 4 * (x[0].numel() + program.marginal_size) + 8 * entries
        return max(1, self.memory_limit // bytes_per_input // group) * group

    def _marginals(self, program: Program, x: Tensor) -> Tensor:
        """Return standard deviations where activations read, inverse ones where normalisations do: (n, m), float64."""
        marginals = large(len(x), program.marginal_size, torch.float64)
        if not program.marginals:
            return marginals

        sweep = self._sweep(program)

        def task(target: Tensor, inputs: Tensor) -> None:
            if sweep is not None:
                sweep.marginals(self._pixels(inputs.to(torch.float64)), target.numpy())
                self._check(program, target)
                return
            variances = recursion.variances(self.graph, inputs.to(torch.float64))
            torch.cat(marginals_of(program, variances), 1, out=target)

        size = _inputs_per_task(len(x), _MARGINAL_INPUTS)
        blocks = zip(torch.split(marginals, size), torch.split(x, size), strict=True)
        in_threads([(len(inputs), partial(task, target, inputs)) for target, inputs in blocks])
        return marginals

    def _through_marginals(self, program: Program, x: Tensor, marginals_bar: Tensor) -> Tensor:
        """Return what the marginals' cotangents add to the inputs', back through the recursion of the variances."""
        if not program.marginals:
            return torch.zeros_like(x, dtype=torch.float64)
        gradient = torch.zeros(x.shape, dtype=torch.float64)
        sweep = self._sweep(program)

        def task(target: Tensor, inputs: Tensor, bar: Tensor) -> None:
            if sweep is not None:
                sweep.gradient(self._pixels(inputs.to(torch.float64)), bar.numpy(), self._pixels(target))
                return
            with torch.enable_grad():
                leaf = inputs.to(torch.float64).detach().requires_grad_()
                marginals = torch.cat(marginals_of(program, recursion.variances(self.graph, leaf)), 1)
            target[:] = torch.autograd.grad(marginals, leaf, bar)[0]

        size = _inputs_per_task(len(x), _TAPED_INPUTS)
        blocks = zip(*(torch.split(t, size) for t in (gradient, x, marginals_bar)), strict=True)
        in_threads([(len(inputs), partial(task, target, inputs, bar)) for target, inputs, bar in blocks])
        return gradient


def _inputs_per_task(n: int, most: int) -> int:
    """Return how many of n inputs a task takes, so that each thread has some: whole vectors of them, for torch's loops."""
    share = -(-n // threads())
    return min(most, share + -share % codes.LANES)


def _blocks_per_sum(program: Program) -> int:
    return _BLOCKS_PER_SUM_WITH_TABLES if program.table_size else _BLOCKS_PER_SUM


def _in_lanes(side: Side) -> Side:
    """Return a batch as the columns of the pairs, in the layout of the lanes, which its coefficients have already."""
    pixels, marginals = in_lanes(side.pixels, codes.LANES), in_lanes(side.marginals[:, None], codes.LANES)[:, 0]
    return Side(pixels, marginals, side.table, side.beyond)


def _fill_part(
    program: Program,
    dtype: torch.dtype,
    side1: Side,
    side2: Side,
    targets: dict[Kind, Tensor],
    is_symmetric: bool,
    progress: Progress,
) -> None:
    """Fill the matrices of two batches; of one with itself, the blocks that reach above the diagonal."""
    n, blocks = len(side1.pixels), -(-len(side2.pixels) // codes.LANES)
    rows_of = [min(n, (block + 1) * codes.LANES) if is_symmetric else n for block in range(blocks)]
    items = sum(rows_of)
    pairs = n * (n + 1) // 2 if is_symmetric else n * len(side2.pixels)
    if pairs < _FULL * codes.LANES * items and can_pack(program, side1):
        chosen = pairs_of(n, len(side2.pixels), is_symmetric=is_symmetric)
        fill_packed(program, side1, side2, chosen, targets, dtype, progress)
        return
    side2 = _in_lanes(side2)
    if is_divided(program, items):
        grid = np.array([(row, block) for block, last in enumerate(rows_of) for row in range(last)], np.int64)
        run_parts(program, grid, side1, side2, targets, dtype, progress)
        return
    tasks: list[Task] = []
    step = max(1, min(_ITEMS_PER_TASK, items // (_TASKS_PER_THREAD * threads())))
    for block, last in enumerate(rows_of):  # a block of columns stays in the cache while rows pass by
        for start in range(0, last, step):
            some = np.array([(row, block) for row in range(start, min(start + step, last))], np.int64)
            tasks.append((len(some), partial(run, program, some, NO_PANEL, side1, side2, dtype, targets)))
    in_threads(tasks, progress)


def _add_gradient(
    program: Program,
    side1: Side,
    side2: Side,
    cotangents: Array,
    ntk: bool,
    dtype: torch.dtype,
    pixels_bar: Array,
    marginals_bar: Array,
    progress: Progress,
) -> None:
    """Add the cotangents of these pairs to pixels_bar and marginals_bar.

    Sums run over `_blocks_per_sum` at a time, whatever the rows of a task and the order of the threads, so that the
    rounding is always the same.
    """
    n, blocks = len(side1.pixels), len(side2.pixels)
    rows_per_task = max(1, min(_GRADIENT_ROWS_PER_TASK, n // threads()))

    def task(first: int) -> None:
        rows = np.arange(first, min(first + rows_per_task, n))
        for start in range(0, blocks, _blocks_per_sum(program)):
            chosen = np.arange(start, min(start + _blocks_per_sum(program), blocks))
            # Items (row, block, slot): a block stays in the cache while the rows pass by.
            grid = np.meshgrid(chosen, rows, indexing="ij")
            items = np.stack([grid[1], grid[0], grid[1] - first], -1).reshape(-1, 3)
            seeds = cotangents[items[:, 0], items[:, 1]]
            pixels, marginals, _ = run_adjoint(program, items, NO_PANEL, side1, side2, seeds, ntk, dtype)
            pixels_bar[rows] += pixels
            marginals_bar[rows] += marginals

    starts = range(0, n, rows_per_task)
    in_threads([(min(rows_per_task, n - first), partial(task, first)) for first in starts], progress)
