"""The compiler: from a graph of covariance operations to a program, with an address in the work space for each map.

Maps are computed depth first: the maps of one input offset are carried on, layer after layer, until a pooling or a sum
has to wait for another one. So few maps are alive at a time, and a chain of layers stays in the cache.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from ntklens.kernels.engines.fused import codes, numbers
from ntklens.kernels.engines.fused.coefficients.corner import has_corner
from ntklens.kernels.engines.fused.coefficients.hermite import has_series
from ntklens.kernels.engines.fused.constants import IDENTITY, activation, affine, mean_factor, pool_shift, window_rule
from ntklens.kernels.engines.fused.geometry import is_fusible, origins, window_columns
from ntklens.kernels.engines.fused.means import SUMS, Mean
from ntklens.kernels.engines.fused.precision import Key, before_kinks, is_smooth, mixed_into_the_origin, tails
from ntklens.kernels.engines.fused.program import FLAT_WIDTH, Marginal, Program, has_tables, instruction, marginal_of
from ntklens.kernels.engines.fused.space import Space
from ntklens.kernels.rules.duals import GELU, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.operations import (
    ORIGIN,
    Activation,
    Dense,
    Flatten,
    GlobalPool,
    Input,
    Normalise,
    Offset,
    Operation,
    Scale,
    Size,
    Sum,
    map_size,
)
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series
from ntklens.kernels.rules.windows import AveragePool, Conv, Pad, Window

_OWN_INSTRUCTION = (LeakyReLU, Erf, GELU, PiecewiseLinear, Hardswish)
"""Activations with an instruction of their own; others share two, with tables of coefficients."""


def supported(graph: Graph) -> bool:
    """Return whether every operation of the graph has an instruction."""
    return not unsupported(graph)


def unsupported(graph: Graph) -> list[tuple[Operation, str]]:
    """Return the operations of the graph that have no instruction, in their order, and why."""
    operations = [node.operation for node in graph.nodes if not _is_supported(node.operation)]
    return [(operation, _why(operation)) for operation in operations]


def reads_tables(graph: Graph) -> bool:
    """Return whether an activation of a supported graph is computed by a series with coefficients of each input."""
    return any(has_tables(marginal_of(node)) for node in graph.nodes if node.operation.needs_marginals)


def _why(operation: Operation) -> str:
    dual = operation.dual if isinstance(operation, Activation) else None
    if isinstance(dual, Series):
        return "whose kinks make its Hermite series long"
    return "whose rule is not one of the library's"


def _is_supported(operation: Operation) -> bool:
    if isinstance(operation, Activation):
        dual = operation.dual
        return isinstance(dual, _OWN_INSTRUCTION) or has_series(dual) or has_corner(dual)
    return isinstance(operation, (Input, Dense, Conv, AveragePool, Pad, Normalise, Sum, Scale, Flatten, GlobalPool))


def compile_graph(graph: Graph) -> Program:
    """Return the program of a supported graph."""
    return Compiler(graph).program()


class Compiler:
    """Orders the maps of a graph, gives each an address in the work space, and writes the instructions.

    Attributes:
        graph: the graph.
        flat: whether its inputs have no positions; then every node has one map, of FLAT_WIDTH blocks of lanes.
        offsets: the offsets at which each node is needed.
        space: the free addresses of the work space.
        sums_space: likewise of the work space of sums.
        code: the instructions so far.
        constants: their constants.
        factors: the factors of positions that SCALE reads, and the hinges of KINKS.
        hinges: where those of an activation begin.
        addresses: the address of every map that is in the work space.
        missing: for each map, how many of its sources have not been computed yet.
        readers: for each map, the maps that are computed from it.
        unread: for each map, how many of its readers have not read it yet.
        in_float64: the maps for which activations take their corrections in float64.
        marginals: the index of each marginal's first entry among those of an input.
        marginal_size: the number of an input's marginals.
        table_size: the number of those with entries in the tables of Hermite coefficients, which come first.
        means: the sums of every mean over positions.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.flat = graph.input.flat
        self.offsets = graph.needs()
        self.space = Space()
        self.sums_space = Space()
        self.code: list[list[int]] = []
        self.constants: list[list[float]] = []
        self.factors: list[float] = []
        self.hinges: dict[PiecewiseLinear, int] = {}
        self.addresses: dict[Key, int] = {}
        self.missing: dict[Key, int] = {}
        self.readers: dict[Key, list[Key]] = {}
        self.unread: dict[Key, int] = {}
        self.in_float64 = mixed_into_the_origin(graph) | before_kinks(graph) | tails(graph)
        self.marginals: dict[Marginal, int] = {}
        self.marginal_size = 0
        self.table_size = 0
        self.means: dict[Key, Mean] = {}

    def program(self) -> Program:
        """Order the instructions and give every map its address."""
        self._number_marginals()
        self._compute_all(self._all_maps())
        # The machine reads the result from where the last instruction has written it.
        assert self.code[-1][codes.DST] == self.addresses[len(self.graph.nodes) - 1, ORIGIN]
        return self._finished()

    def _all_maps(self) -> list[Key]:
        return [(i, offset) for i in range(len(self.graph.nodes)) for offset in sorted(self.offsets[i])]

    def _number_marginals(self) -> None:
        """Give the marginals consecutive indices, one for each position of the node that they belong to."""
        nodes = self.graph.nodes
        read = dict.fromkeys(marginal_of(node) for node in nodes if node.operation.needs_marginals)
        for marginal in sorted(read, key=lambda marginal: not has_tables(marginal)):  # those with tables first
            self.marginals[marginal] = self.marginal_size
            self.marginal_size += numbers.count(marginal[1]) * nodes[marginal[0]].size[0] * nodes[marginal[0]].size[1]
            if has_tables(marginal):
                self.table_size = self.marginal_size

    def _finished(self) -> Program:
        """Mark the instructions that run their successor within them, and return the program."""
        for row, following in pairwise(self.code):
            if is_fusible(row, following):
                row[codes.FUSED] = 1
        divided = next((mean for mean in self.means.values() if mean.parts), None)
        return Program(
            code=np.array(self.code, np.int64),
            constants=np.array(self.constants),
            factors=np.array(self.factors or [1.0]),
            size=self.space.top,
            sums_size=self.sums_space.top,
            marginals=self.marginals,
            marginal_size=self.marginal_size,
            table_size=self.table_size,
            width=FLAT_WIDTH if self.flat else 1,
            parts=divided.parts if divided else (),
            sums=divided.sums if divided else 0,
            is_smooth=is_smooth(self.graph),
        )

    # Order

    def sources(self, key: Key) -> list[Key]:
        """Return the maps from which this one is computed."""
        node = self.graph.nodes[key[0]]
        return [(j, source) for j in node.inputs for source in sorted(node.operation.sources({key[1]}))]

    def accumulates(self, key: Key) -> bool:
        """Return whether sources are added to this map one by one, as they are computed, and not all at the end."""
        operation = self.graph.nodes[key[0]].operation
        return not self.flat and isinstance(operation, (AveragePool, GlobalPool, Flatten))

    def _compute_all(self, keys: list[Key]) -> None:
        """Compute these maps, which contain the sources of each of them."""
        for key in keys:
            sources = self.sources(key)
            for source in sources:
                self.readers.setdefault(source, []).append(key)
                self.unread[source] = self.unread.get(source, 0) + 1
            self.missing[key] = len(sources)
        for key in [key for key in keys if not self.missing[key]]:
            self._compute(key)

    def _compute(self, key: Key) -> None:
        """Compute a map without sources and then, depth first, every map that is complete with it."""
        # Entries of the stack are (map, source): the source is in the work space, and it is the map's turn to read it.
        stack: list[tuple[Key, Key | None]] = [(key, None)]
        while stack:
            key, source = stack.pop()
            if source is not None:
                self.missing[key] -= 1
                if self.accumulates(key):
                    self._accumulate(key, source)
                # A pooling waits for the maps of other offsets, a sum for its other summands.
                if self.missing[key]:
                    continue
            self._emit(key)
            if not self.accumulates(key):  # otherwise each source has been released when it was added
                for source in self.sources(key):
                    self._mark_read(source)
            # The stack is popped from its end: reversed, so that the first reader and all that follows it come next.
            stack.extend((reader, key) for reader in reversed(self.readers.get(key, [])))

    # Addresses

    def _mark_read(self, key: Key) -> None:
        """Note that one of the map's readers is done, and release its address after the last."""
        self.unread[key] -= 1
        if not self.unread[key] and key in self.addresses:
            self.space.release(self.addresses.pop(key), self._size(key))

    def _shape(self, key: Key) -> Size:
        if self.flat:
            return (1, FLAT_WIDTH)
        return map_size(self.graph.nodes[key[0]].size, key[1])

    def _size(self, key: Key) -> int:
        """Return the positions that the map takes in the work space."""
        h, w = self._shape(key)
        return h * w

    def _address(self, key: Key) -> int:
        """Return the map's address, a new one if it has none yet."""
        if key not in self.addresses:
            self.addresses[key] = self.space.allocate(self._size(key))
        return self.addresses[key]

    def _replace(self, key: Key, source: Key) -> tuple[int, int]:
        """Return the addresses of a map and its source, one and the same if nobody else will read the source."""
        src = self.addresses[source]
        if self.unread[source] == 1 and self._size(key) == self._size(source):
            self.addresses[key] = self.addresses.pop(source)
        return self._address(key), src

    # Instructions

    def _add(self, op: int, constants: tuple[float, ...] = (), /, **columns: int) -> None:
        row, numbers = instruction(op, constants, **columns)
        self.code.append(row)
        self.constants.append(numbers)

    def _extent(self, key: Key) -> dict[str, int]:
        h, w = self._shape(key)
        return {"h": h, "w": w}

    def _emit(self, key: Key) -> None:
        """Write the instructions of a map whose sources are all in the work space."""
        i, offset = key
        node = self.graph.nodes[i]
        operation = node.operation
        sources = self.sources(key)
        extent = self._extent(key)
        match operation:
            case Input():
                self._input(key)
            case Conv() | Pad():
                self._convolve(key, operation, sources)
            case Dense():
                dst, src = self._replace(key, sources[0])
                self._add(codes.AFFINE, affine(operation.scales), dst=dst, src=src, **extent)
            case Scale():
                dst, src = self._replace(key, sources[0])
                self._add(codes.AFFINE, (operation.factor**2,), dst=dst, src=src, **extent)
            case Activation():
                dst, src = self._replace(key, sources[0])
                columns = extent | self._marginal_columns(node, offset)
                in_float64 = int(key in self.in_float64)
                op, constants = activation(operation)
                self._add(op, constants, dst=dst, src=src, in_float64=in_float64, **columns)
            case Normalise():
                dst, src = self._replace(key, sources[0])
                self._add(codes.NORMALISE, dst=dst, src=src, **extent, **self._marginal_columns(node, offset))
            case Sum():
                self._sum(key, sources)
            case AveragePool():
                self._finish_pool(self._address(key), key, operation)
            case GlobalPool() | Flatten():
                self._finish_mean(key, node)
            case _:
                raise TypeError(f"no instruction for {operation}")

    def _input(self, key: Key) -> None:
        if self.flat:
            self._add(codes.LOAD, dst=self._address(key), **self._extent(key))
        else:
            self._add(codes.GRAM, dst=self._address(key), **self._extent(key), **self._pixel_columns(key))

    def _pixel_columns(self, key: Key) -> dict[str, int]:
        """Return the columns that say where the pixels of x and of z lie that an input map multiplies."""
        _, w = self.graph.nodes[0].size
        (row_x, column_x), (row_z, column_z) = origins(self.graph.nodes[0].size, key[1])
        return {"x_start": row_x * w + column_x, "z_start": row_z * w + column_z, "row_step": w}

    def _marginal_columns(self, node: Node, offset: Offset) -> dict[str, int]:
        """Return the columns that say where the marginals of x and of z lie that belong to a map's positions."""
        marginal, size = marginal_of(node), self.graph.nodes[node.inputs[0]].size
        first = self.marginals[marginal]
        more = numbers.columns(marginal[1], size[0] * size[1], self.hinges, self.factors)
        if self.flat:
            # One number for x, and FLAT_WIDTH blocks of lanes for z.
            return {"x_start": first, "z_start": first * FLAT_WIDTH, "row_step": 0, "position_step": 0} | more
        (row_x, column_x), (row_z, column_z) = origins(size, offset)
        x_start, z_start = first + row_x * size[1] + column_x, first + row_z * size[1] + column_z
        return {"x_start": x_start, "z_start": z_start, "row_step": size[1], "position_step": 1} | more

    def _convolve(self, key: Key, operation: Conv | Pad, sources: list[Key]) -> None:
        dst = self._address(key)
        if sources:
            self._slide(key, sources[0], operation.window, ORIGIN, window_rule(operation), adds=False)
            return
        # The two windows are further apart than the image is wide: one lies in the padding, so the sum is zero.
        self._add(codes.ZERO, dst=dst, **self._extent(key))
        self._add(codes.AFFINE, window_rule(operation), dst=dst, src=dst, **self._extent(key))

    def _slide(
        self, key: Key, source: Key, window: Window, shift: Offset, constants: tuple[float, ...], *, adds: bool
    ) -> None:
        """Write the sum of a source over a window, with an affine rule, or added to what the map holds already."""
        geometry = self._window_columns(key, source, window, shift)
        if adds:  # the faster loop does not add
            geometry |= {"adds": 1, "is_box": 0}
        self._add(codes.WINDOW, constants, dst=self._address(key), src=self.addresses[source], **geometry)

    def _window_columns(self, key: Key, source: Key, window: Window, shift: Offset) -> dict[str, int]:
        shapes = self._shape(key), self._shape(source)
        return window_columns(window, shift, key[1], source[1], *shapes)

    def _accumulate(self, key: Key, source: Key) -> None:
        """Add one source to a pooled map or to a mean, and mark it as read."""
        operation = self.graph.nodes[key[0]].operation
        if isinstance(operation, AveragePool):
            if key not in self.addresses:
                self._add(codes.ZERO, dst=self._address(key), **self._extent(key))
            # The pooled map Δ is a sum over shifts e of the source maps stride Δ + e.
            self._slide(key, source, operation.window, pool_shift(operation, key, source), (), adds=True)
        else:
            self._add_to_mean(key, source)
        self._mark_read(source)
        if key in self.means:
            self.means[key].cut = len(self.code), not self.addresses

    def _add_to_mean(self, key: Key, source: Key) -> None:
        """Add one source to the sums of a mean: it is over all entries of all maps, whatever the offset."""
        if key not in self.means:
            shapes = [self._shape(each) for each in self.sources(key)]
            pairs = min(SUMS, len(shapes))
            self.means[key] = Mean(self.sums_space.allocate(2 * pairs), pairs, sum(h * w for h, w in shapes))
        mean, (in_h, in_w) = self.means[key], self._shape(source)
        pair, begins = mean.add(in_h * in_w)
        columns = {"dst": mean.sums + 2 * pair, "in_h": in_h, "in_w": in_w, "adds": int(not begins)}
        self._add(codes.REDUCE, src=self.addresses[source], **columns)

    def _finish_pool(self, dst: int, key: Key, operation: AveragePool) -> None:
        """Divide the sum at an address by the number of pairs of window places that it is over."""
        window = operation.window
        if operation.include_padding:
            share = 1 / (window.kernel[0] * window.kernel[1]) ** 2
            self._add(codes.AFFINE, (share,), dst=dst, src=dst, **self._extent(key))
            return
        # Without the padding the number differs from position to position.
        self._add(codes.SCALE, dst=dst, factors=len(self.factors), **self._extent(key))
        places = operation.pairs_inside(torch.ones((), dtype=torch.float64), key[1])
        self.factors += (1 / places).flatten().tolist()

    def _finish_mean(self, key: Key, node: Node) -> None:
        if self.flat:  # a mean over one position changes nothing
            dst, src = self._replace(key, self.sources(key)[0])
            if dst != src:
                self._add(codes.AFFINE, IDENTITY, dst=dst, src=src, **self._extent(key))
            return
        mean, factor = self.means[key], mean_factor(self.graph, node)
        pairs = len(mean.begun)
        self._add(codes.MEAN, (factor,), dst=self._address(key), src=mean.sums, in_h=pairs, **self._extent(key))
        self.sums_space.release(mean.sums, 2 * mean.pairs)

    def _sum(self, key: Key, sources: list[Key]) -> None:
        dst, src = self._replace(key, sources[0])
        for other in sources[1:]:
            # A summand that is the first one again has been replaced by the sum's own map.
            src2 = dst if other == sources[0] else self.addresses[other]
            self._add(codes.SUM, dst=dst, src=src, src2=src2, **self._extent(key))
            src = dst
