"""From a graph of covariance operations to a list of instructions on maps, with places in a work space for each map.

Maps are made depth first: an input offset is carried on until a pooling or a sum waits for another, so that few maps are
alive at a time and a chain of layers stays in the cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.precision import Key, mixed_into_the_origin
from ntklens.kernels.engines.fused.space import Space
from ntklens.kernels.rules.duals import LeakyReLU
from ntklens.kernels.rules.graph import Graph, Node
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
    Scales,
    Size,
    Sum,
    ends,
)
from ntklens.kernels.rules.windows import AveragePool, Conv, Pad, Window

FLAT_WIDTH = 32
"""Places of a map that stands for inputs without positions: so many blocks of lanes run as one."""

UNIT = (1.0, 0.0, 0.0, 0.0, 1.0)
"""The constants of an affine rule that changes nothing."""

Marginal = tuple[int, Normalise | None]
"""A node whose variances are read, and the normalisation that reads them, if it is one."""


def supported(graph: Graph) -> bool:
    """Whether every operation of the graph has an instruction."""
    return all(_is_supported(node.operation) for node in graph.nodes)


def _is_supported(operation: Operation) -> bool:
    if isinstance(operation, Activation):
        return isinstance(operation.dual, LeakyReLU)
    return isinstance(operation, (Input, Dense, Conv, AveragePool, Pad, Normalise, Sum, Scale, Flatten, GlobalPool))


@dataclass(frozen=True)
class Program:
    """What `codes.run` takes.

    Attributes:
        code: (n, COLUMNS) int64.
        consts: (n, NUMBERS) float64.
        factors: (p,) float64, of positions.
        size: positions of the work space.
        marginals: the variances that are read, with the first place of each in the marginals' rows.
        marginal_size: places of such a row.
        width: entries of an output map over LANES.
    """

    code: NDArray[np.int64]
    consts: NDArray[np.float64]
    factors: NDArray[np.float64]
    size: int
    marginals: dict[Marginal, int]
    marginal_size: int
    width: int


def compile_graph(graph: Graph) -> Program:
    """The program of a supported graph."""
    return Compiler(graph).program()


class Compiler:
    """Orders the maps of a graph, finds them places and writes the instructions."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.flat = graph.input.flat
        self.needs = graph.needs()
        self.space = Space()
        self.rows: list[list[int]] = []
        self.consts: list[list[float]] = []
        self.factors: list[float] = []
        self.where: dict[Key, int] = {}
        self.waiting: dict[Key, int] = {}
        self.readers: dict[Key, list[Key]] = {}
        self.unread: dict[Key, int] = {}
        self.exact = mixed_into_the_origin(graph)
        self.marginals: dict[Marginal, int] = {}
        self.marginal_size = 0

    def program(self) -> Program:
        """Order the instructions and give every map its place."""
        self._number_marginals()
        self._make_all([(i, offset) for i in range(len(self.graph.nodes)) for offset in sorted(self.needs[i])])
        assert self.rows[-1][codes.DST] == self.where[len(self.graph.nodes) - 1, ORIGIN]
        return self._finished()

    def _number_marginals(self) -> None:
        nodes = self.graph.nodes
        for node in nodes:
            if node.operation.needs_marginals:
                marginal = _marginal(node)
                if marginal not in self.marginals:
                    self.marginals[marginal] = self.marginal_size
                    self.marginal_size += nodes[marginal[0]].size[0] * nodes[marginal[0]].size[1]

    def _make_all(self, keys: list[Key]) -> None:
        """Make these maps, each from the ones before it."""
        for key in keys:
            self._expect(key)
        for key in [key for key in keys if not self.waiting[key]]:
            self._make(key, None)

    def _finished(self) -> Program:
        for row, after in pairwise(self.rows):
            row[codes.FUSED] = int(_fuses(row, after))
        code, consts = np.array(self.rows, np.int64), np.array(self.consts)
        width, factors = FLAT_WIDTH if self.flat else 1, np.array(self.factors or [1.0])
        return Program(code, consts, factors, self.space.top, self.marginals, self.marginal_size, width)

    def _expect(self, key: Key) -> None:
        """Note which maps this one is made from."""
        sources = self.sources(key)
        for source in sources:
            self.readers.setdefault(source, []).append(key)
            self.unread[source] = self.unread.get(source, 0) + 1
        self.waiting[key] = len(sources)

    def sources(self, key: Key) -> list[Key]:
        """The maps that one is made from."""
        node = self.graph.nodes[key[0]]
        return [(j, source) for j in node.inputs for source in sorted(node.operation.sources({key[1]}))]

    def gathers(self, key: Key) -> bool:
        """Whether a map is added up from its sources one by one."""
        operation = self.graph.nodes[key[0]].operation
        return not self.flat and isinstance(operation, (AveragePool, GlobalPool, Flatten))

    def _make(self, key: Key, source: Key | None) -> None:
        """Emit what this source allows; when the map is complete, go on to its readers."""
        stack: list[tuple[Key, Key | None]] = [(key, source)]
        while stack:
            key, source = stack.pop()
            if source is not None:
                self.waiting[key] -= 1
                if self.gathers(key):
                    self._gather(key, source)
                if self.waiting[key]:
                    continue
            self._emit(key)
            self._release_inputs(key)
            stack.extend((reader, key) for reader in reversed(self.readers.get(key, [])))

    def _release_inputs(self, key: Key) -> None:
        if not self.gathers(key):  # those are given back one by one
            for source in self.sources(key):
                self._read(source)

    def _read(self, key: Key) -> None:
        self.unread[key] -= 1
        if not self.unread[key] and key in self.where:
            self.space.give(self.where.pop(key), self._size(key))

    def _shape(self, key: Key) -> Size:
        if self.flat:
            return (1, FLAT_WIDTH)
        (h, w), (dy, dx) = self.graph.nodes[key[0]].size, key[1]
        return (h - abs(dy), w - abs(dx))

    def _size(self, key: Key) -> int:
        h, w = self._shape(key)
        return max(h * w, 2)  # a sum keeps K and Θ side by side in float64

    def _place(self, key: Key) -> int:
        if key not in self.where:
            self.where[key] = self.space.take(self._size(key))
        return self.where[key]

    def _take_over(self, key: Key, source: Key) -> tuple[int, int]:
        """Places of a source and of the result, one and the same where nobody else reads the source."""
        src = self.where[source]
        if self.unread[source] == 1 and self._size(key) == self._size(source):
            self.where[key] = self.where.pop(source)
        return self._place(key), src

    def _add(self, op: int, dst: int, consts: tuple[float, ...] = (), /, **columns: int) -> None:
        row = [0] * codes.COLUMNS
        row[codes.OP], row[codes.DST] = op, dst
        for name, value in columns.items():
            row[getattr(codes, name.upper())] = int(value)
        self.rows.append(row)
        self.consts.append([*consts, *[0.0] * (codes.NUMBERS - len(consts))])

    def _extent(self, key: Key) -> dict[str, int]:
        h, w = self._shape(key)
        return {"h": h, "w": w}

    def _emit(self, key: Key) -> None:
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
                dst, src = self._take_over(key, sources[0])
                self._add(codes.AFFINE, dst, affine(operation.scales), src=src, **extent)
            case Scale():
                dst, src = self._take_over(key, sources[0])
                square = operation.factor**2
                self._add(codes.AFFINE, dst, (square, 0.0, 0.0, 0.0, square), src=src, **extent)
            case Activation():
                dst, src = self._take_over(key, sources[0])
                assert isinstance(operation.dual, LeakyReLU)
                slope = float(operation.dual.slope)
                self._add(
                    codes.RELU, dst, (slope,), src=src, exact=key in self.exact, **extent, **self._ends(node, offset)
                )
            case Normalise():
                dst, src = self._take_over(key, sources[0])
                self._add(codes.NORMALISE, dst, src=src, **extent, **self._ends(node, offset))
            case Sum():
                self._sum(key, sources)
            case AveragePool():
                self._finish_pool(key, operation)
            case GlobalPool() | Flatten():
                self._finish_mean(key, node)
            case _:
                raise TypeError(f"no instruction for {operation}")

    def _input(self, key: Key) -> None:
        if self.flat:
            self._add(codes.LOAD, self._place(key), **self._extent(key))
            return
        self._add(codes.GRAM, self._place(key), **self._gram_ends(key), **self._extent(key))

    def _gram_ends(self, key: Key) -> dict[str, int]:
        """Where the pixels of the two ends of an input map start."""
        _, w = self.graph.nodes[0].size
        here, there = _starts(self.graph.nodes[0], key[1])
        return {"mx": here[0] * w + here[1], "mz": there[0] * w + there[1], "row": w}

    def _ends(self, node: Node, offset: Offset) -> dict[str, int]:
        """Where the marginals of the two ends of a map start."""
        base = self.marginals[_marginal(node)]
        if self.flat:
            return {"mx": base, "mz": base * FLAT_WIDTH, "row": 0, "step": 0}
        source = self.graph.nodes[node.inputs[0]]
        w = source.size[1]
        here, there = _starts(source, offset)
        return {"mx": base + here[0] * w + here[1], "mz": base + there[0] * w + there[1], "row": w, "step": 1}

    def _convolve(self, key: Key, operation: Conv | Pad, sources: list[Key]) -> None:
        window = operation.window
        places = window.kernel[0] * window.kernel[1]
        consts = affine(operation.scales, places) if isinstance(operation, Conv) else UNIT
        dst = self._place(key)
        if not sources:
            self._add(codes.ZERO, dst, **self._extent(key))
            self._add(codes.AFFINE, dst, consts, src=dst, **self._extent(key))
            return
        self._slide(key, sources[0], window, ORIGIN, consts, adding=False)

    def _slide(
        self, key: Key, source: Key, window: Window, shift: Offset, consts: tuple[float, ...], *, adding: bool
    ) -> None:
        geometry = self._geometry(key, source, window, shift) | self._extent(key)
        same = geometry.pop("same") and not adding
        self._add(codes.WINDOW, self._place(key), consts, src=self.where[source], add=adding, same=same, **geometry)

    def _geometry(self, key: Key, source: Key, window: Window, shift: Offset) -> dict[str, int]:
        """The columns of a window instruction; the geometry is that of `Window.slide`."""
        starts = [window.start(axis, source[1], key[1], shift) for axis in (0, 1)]
        places = [window.places(axis, shift) for axis in (0, 1)]
        in_h, in_w = self._shape(source)
        plain = window.stride == window.dilation == (1, 1) and starts == [-1, -1] and places == [3, 3]
        return {
            "in_h": in_h, "in_w": in_w, "kh": places[0], "kw": places[1], "sy": starts[0], "sx": starts[1],
            "stride_y": window.stride[0], "stride_x": window.stride[1],
            "dil_y": window.dilation[0], "dil_x": window.dilation[1],
            "same": plain and self._shape(source) == self._shape(key),
        }  # fmt: skip

    def _gather(self, key: Key, source: Key) -> None:
        """Add one source to a pooled map or to a mean, and give it back."""
        operation = self.graph.nodes[key[0]].operation
        started = key in self.where
        if isinstance(operation, AveragePool):
            window = operation.window
            if not started:
                self._add(codes.ZERO, self._place(key), **self._extent(key))
            target = window.source(key[1])
            shift = (source[1][0] - target[0], source[1][1] - target[1])
            self._slide(key, source, window, shift, (), adding=True)
        else:
            in_h, in_w = self._shape(source)
            self._add(codes.REDUCE, self._place(key), src=self.where[source], in_h=in_h, in_w=in_w, add=started)
        self._read(source)

    def _finish_pool(self, key: Key, operation: AveragePool) -> None:
        window, dst = operation.window, self._place(key)
        if operation.include_padding:
            share = 1 / (window.kernel[0] * window.kernel[1]) ** 2
            self._add(codes.AFFINE, dst, (share, 0.0, 0.0, 0.0, share), src=dst, **self._extent(key))
            return
        self._add(codes.SCALE, dst, src2=len(self.factors), **self._extent(key))
        places = operation.pairs_inside(torch.ones((), dtype=torch.float64), key[1])
        self.factors += (1 / places).flatten().tolist()

    def _finish_mean(self, key: Key, node: Node) -> None:
        if self.flat:
            dst, src = self._take_over(key, self.sources(key)[0])
            if dst != src:
                self._add(codes.AFFINE, dst, UNIT, src=src, **self._extent(key))
            return  # one position is its own mean
        h, w = self.graph.nodes[node.inputs[0]].size
        pairs = (h * w) ** 2 if isinstance(node.operation, GlobalPool) else h * w
        dst = self._place(key)
        self._add(codes.MEAN, dst, (1 / pairs,), src=dst, **self._extent(key))

    def _sum(self, key: Key, sources: list[Key]) -> None:
        dst, src = self._take_over(key, sources[0])
        for other in sources[1:]:
            place = dst if other == sources[0] else self.where[other]
            self._add(codes.SUM, dst, src=src, src2=place, **self._extent(key))
            src = dst


def _fuses(row: list[int], after: list[int]) -> bool:
    """Whether an activation may follow a window row by row: it takes what that made, and leaves what that reads."""
    op, follower, dst, place = row[codes.OP], after[codes.OP], row[codes.DST], after[codes.DST]
    if op == codes.BOX_T:
        return follower in (codes.RELU_T, codes.NORMALISE_T) and place == dst
    if op != codes.WINDOW or not row[codes.SAME] or follower not in (codes.RELU, codes.NORMALISE):
        return False
    size = row[codes.H] * row[codes.W]
    return after[codes.SRC] == dst and (place == dst or abs(place - row[codes.SRC]) >= size)


def _marginal(node: Node) -> Marginal:
    return node.inputs[0], node.operation if isinstance(node.operation, Normalise) else None


def affine(scales: Scales, places: int = 1) -> tuple[float, ...]:
    """K's factor and summand, the share of K and the constant in Θ, Θ's factor, of a sum over a window."""
    w = scales.w_std**2 / places
    return (w, scales.b_std**2, scales.weight_share / places, scales.bias_share, w)


def _starts(node: Node, offset: Offset) -> tuple[tuple[int, int], tuple[int, int]]:
    here, there = ends(node.size, offset)
    return (here[0].start, here[1].start), (there[0].start, there[1].start)
