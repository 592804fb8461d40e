"""The program of an input gradient: cotangents carried back through the maps, a component at a time.

Poolings cut the maps into components, such as one chain of layers for each offset. Where an activation needs values, the
poolings' results are made first and kept; each component is then run again with its values kept, and swept backwards, so
that what is alive at a time is one component and the poolings' results.
"""

from __future__ import annotations

from collections import defaultdict
from graphlib import TopologicalSorter

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.precision import Key
from ntklens.kernels.engines.fused.program import UNIT, Compiler, Program, affine
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Activation, Dense, GlobalPool, Input, Normalise, Scale, Sum
from ntklens.kernels.rules.windows import AveragePool, Conv, Pad


def compile_adjoint(graph: Graph) -> Program:
    """The gradient's program of a supported graph."""
    return _Adjoint(graph).program()


class _Adjoint(Compiler):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.cotangents: dict[Key, int] = {}
        self.kept: set[Key] = set()
        self.left: dict[Key, int] = {}
        self.pooled: dict[Key, list[Key]] = defaultdict(list)

    def program(self) -> Program:
        """Values of the poolings, then each component forwards and backwards."""
        self._number_marginals()
        keys = [(i, offset) for i in range(len(self.graph.nodes)) for offset in sorted(self.needs[i])]
        components = self._components(keys)
        forward = self._values_of_poolings(components)
        self.kept = {key for key in forward if self.gathers(key)}
        self._make_all([key for key in keys if key in forward])
        self.unread = defaultdict(lambda: 2)  # from here on nothing is overwritten
        output = (len(self.graph.nodes) - 1, ORIGIN)
        self._add(codes.SEED, self._cotangent(output), **self._extent(output))
        for component in components:
            self._sweep(component)
        return self._finished()

    def _take_over(self, key: Key, source: Key) -> tuple[int, int]:
        if source in self.kept:
            return self._place(key), self.where[source]
        return super()._take_over(key, source)

    def _read(self, key: Key) -> None:
        if key not in self.kept:
            super()._read(key)

    def _components(self, keys: list[Key]) -> list[list[Key]]:
        """The maps that hang together without poolings, readers before sources; a pooled map belongs to its readers."""
        leader: dict[Key, Key] = {key: key for key in keys}

        def find(key: Key) -> Key:
            while leader[key] != key:
                leader[key] = leader[leader[key]]
                key = leader[key]
            return key

        for key in keys:
            for source in self.sources(key):
                if self.gathers(key):
                    self.pooled[source].append(key)
                    self.left[key] = self.left.get(key, 0) + 1
                else:
                    leader[find(key)] = find(source)
        members: dict[Key, list[Key]] = defaultdict(list)
        for key in keys:
            members[find(key)].append(key)
        order: TopologicalSorter[Key] = TopologicalSorter(dict.fromkeys(members, ()))
        for source, pooled in self.pooled.items():
            for key in pooled:
                order.add(find(source), find(key))
        return [members[head] for head in order.static_order()]

    def _values_of_poolings(self, components: list[list[Key]]) -> set[Key]:
        """All maps that the pooled values which an activation depends on are made from."""
        wanted: set[Key] = set()
        for component in components:  # readers first
            active = any(self.graph.nodes[key[0]].operation.needs_marginals for key in component)
            feeds = any(reader in wanted for key in component for reader in self.pooled[key])
            if active or feeds:
                wanted.update(key for key in component if self.gathers(key))
            if feeds:
                wanted.update(component)
        return wanted

    def _cotangent(self, key: Key) -> int:
        if key not in self.cotangents:
            self.cotangents[key] = self.space.take(self._size(key))
        return self.cotangents[key]

    def _sweep(self, component: list[Key]) -> None:
        values = self._values(component)
        for key in component:
            if key in values and key not in self.where:
                self._emit(key)
        for key in reversed(component):
            self._collect(key)
            if key in self.cotangents:
                self._back(key)
        for key in values - self.kept:
            self.space.give(self.where.pop(key), self._size(key))

    def _values(self, component: list[Key]) -> set[Key]:
        """The maps of a component that its activations read, with all they are made from."""
        inside = set(component)
        stack = [
            source
            for key in component
            if self.graph.nodes[key[0]].operation.needs_marginals
            for source in self.sources(key)
        ]
        values: set[Key] = set()
        while stack:
            key = stack.pop()
            if key in inside and key not in values:
                values.add(key)
                stack.extend([] if self.gathers(key) else self.sources(key))
        return values

    def _collect(self, key: Key) -> None:
        """The share of the pooled maps that this one was added to."""
        for pooled in self.pooled[key]:
            operation = self.graph.nodes[pooled[0]].operation
            src = self.cotangents[pooled]
            if isinstance(operation, AveragePool):
                if key not in self.cotangents:
                    self._add(codes.ZERO, self._cotangent(key), **self._extent(key))
                target = operation.window.source(pooled[1])
                shift = (key[1][0] - target[0], key[1][1] - target[1])
                geometry = self._geometry(pooled, key, operation.window, shift) | self._extent(pooled)
                self._add(codes.WINDOW_T, self.cotangents[key], src=src, **geometry)
            else:
                h, w = self.graph.nodes[key[0]].size
                pairs = (h * w) ** 2 if isinstance(operation, GlobalPool) else h * w
                self._add(codes.FILL, self._fresh(key), (1 / pairs,), src=src, **self._extent(key))
                self._merge(key)
            self.left[pooled] -= 1
            if not self.left[pooled]:
                self.space.give(self.cotangents.pop(pooled), self._size(pooled))

    def _fresh(self, key: Key) -> int:
        """A place for a share of this map's cotangent; `_merge` adds it to what is there."""
        self.spare = self.space.take(self._size(key))
        return self.spare

    def _merge(self, key: Key) -> None:
        if key not in self.cotangents:
            self.cotangents[key] = self.spare
            return
        dst = self.cotangents[key]
        self._add(codes.SUM, dst, src=dst, src2=self.spare, **self._extent(key))
        self.space.give(self.spare, self._size(key))

    def _hand_over(self, key: Key, source: Key) -> None:
        """The map's cotangent, changed in place, is the source's."""
        self.spare = self.cotangents.pop(key)
        self._merge(source)

    def _back(self, key: Key) -> None:
        """Carry a complete cotangent on to the sources."""
        node, sources, extent = self.graph.nodes[key[0]], self.sources(key), self._extent(key)
        operation, place = node.operation, self.cotangents[key]
        if self.gathers(key):
            if isinstance(operation, AveragePool):
                self._finish_cotangent(key, operation)
            return  # kept until all of its sources have read it
        match operation:
            case Input():
                self._to_inputs(key)
                return
            case Conv() | Pad():
                self._back_through_window(key, operation, sources)
                return
            case Dense():
                self._add(codes.AFFINE_T, place, affine(operation.scales), **extent)
            case Scale():
                square = operation.factor**2
                self._add(codes.AFFINE_T, place, (square, 0.0, 0.0, 0.0, square), **extent)
            case Activation() | Normalise():
                slope = float(operation.dual.slope) if isinstance(operation, Activation) else 0.0  # type: ignore[attr-defined]
                op = codes.RELU_T if isinstance(operation, Activation) else codes.NORMALISE_T
                value = self.where[sources[0]]
                self._add(op, place, (slope,), src2=value, **extent, **self._ends(node, key[1]))
            case Sum():
                for source in sources[1:]:
                    self._add(codes.AFFINE, self._fresh(source), UNIT, src=place, **extent)
                    self._merge(source)
        self._hand_over(key, sources[0])

    def _finish_cotangent(self, key: Key, operation: AveragePool) -> None:
        before = self.where.get(key)
        self.where[key] = self.cotangents[key]
        self._finish_pool(key, operation)  # its own transpose
        if before is None:
            del self.where[key]
        else:
            self.where[key] = before

    def _to_inputs(self, key: Key) -> None:
        place = self.cotangents.pop(key)
        if self.flat:
            self._add(codes.LOAD_T, 0, src=place, **self._extent(key))
        else:
            self._add(codes.GRAM_T, 0, src=place, **self._gram_ends(key), **self._extent(key))
        self.space.give(place, self._size(key))

    def _back_through_window(self, key: Key, operation: Conv | Pad, sources: list[Key]) -> None:
        place, window = self.cotangents.pop(key), operation.window
        consts = affine(operation.scales, window.kernel[0] * window.kernel[1]) if isinstance(operation, Conv) else UNIT
        for source in sources:
            geometry = self._geometry(key, source, window, ORIGIN) | self._extent(key)
            if geometry["same"]:
                self._add(codes.BOX_T, self._fresh(source), consts, src=place, **geometry)
                self._merge(source)
                continue
            self._add(codes.AFFINE_T, place, consts, **self._extent(key))
            if source not in self.cotangents:
                self._add(codes.ZERO, self._cotangent(source), **self._extent(source))
            self._add(codes.WINDOW_T, self.cotangents[source], src=place, **geometry)
        self.space.give(place, self._size(key))
