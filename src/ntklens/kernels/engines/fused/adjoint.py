"""The compiler of gradients: cotangents are carried back through the maps, one component of the graph at a time.

The cotangent of a number v, written v̄, is the derivative of Σ weights · kernel with respect to v. An activation's
adjoint reads the value of its input besides cotangents, so the values are computed before the cotangents.

Poolings cut the maps into components, such as one chain of layers for each offset. First the values of those poolings
are computed on which a later activation depends, and they stay in the work space. Then each component, from the output
to the input, is computed forwards with all its values retained, and swept backwards. So only the maps of one component
and the poolings' results are alive at a time.
"""

from __future__ import annotations

from collections import defaultdict
from graphlib import CycleError, TopologicalSorter

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.compiler import Compiler
from ntklens.kernels.engines.fused.constants import (
    IDENTITY,
    activation,
    affine,
    mean_factor,
    pool_shift,
    window_rule,
)
from ntklens.kernels.engines.fused.precision import Key, before_kinks, tails
from ntklens.kernels.engines.fused.program import Program
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import (
    ORIGIN,
    Activation,
    Dense,
    Flatten,
    GlobalPool,
    Input,
    Normalise,
    Offset,
    Scale,
    Sum,
)
from ntklens.kernels.rules.windows import AveragePool, Conv, Pad, Window


def compile_adjoint(graph: Graph) -> Program:
    """Return the program of a supported graph's gradient."""
    return AdjointCompiler(graph).program()


def has_adjoint(graph: Graph) -> bool:
    """Return whether a supported graph's gradient has a program.

    With a shortcut around a pooling the components of `AdjointCompiler` have no order. As one component they would be
    alive together, in gigabytes for images of usual size.
    """
    try:
        AdjointCompiler(graph).components()
    except CycleError:
        return False
    return True


class AdjointCompiler(Compiler):
    """Writes the instructions of a gradient.

    Attributes:
        in_float64_backwards: the maps of activations whose gradient is taken in float64.
        cotangents: the address of every map's cotangent that is in the work space.
        retained: the pooled maps whose values stay in the work space.
        pooled_into: for each map, the pooled maps that it was added to.
        uncollected: for each pooled map, how many of its sources have not taken their share of its cotangent yet.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        self.in_float64_backwards = before_kinks(graph) | tails(graph)
        self.cotangents: dict[Key, int] = {}
        self.retained: set[Key] = set()
        self.pooled_into: dict[Key, list[Key]] = defaultdict(list)
        self.uncollected: dict[Key, int] = {}

    def components(self) -> list[list[Key]]:
        """Return the maps in components, see `_components`, without a program, which takes far longer to write.

        Raises:
            CycleError: they have no order.
        """
        return self._components(self._all_maps())

    def program(self) -> Program:
        """Write the values of the poolings, then each component forwards and backwards."""
        self._number_marginals()
        keys = self._all_maps()
        components = self._components(keys)
        forward = self._needed_for_poolings(components)
        self.retained = {key for key in forward if self.accumulates(key)}
        self._compute_all([key for key in keys if key in forward])
        output = (len(self.graph.nodes) - 1, ORIGIN)
        self._add(codes.SEED, dst=self._cotangent(output), **self._extent(output))
        for component in components:
            self._sweep(component)
        return self._finished()

    # Values

    def _replace(self, key: Key, source: Key) -> tuple[int, int]:
        if source in self.retained:
            return self._address(key), self.addresses[source]
        return super()._replace(key, source)

    def _mark_read(self, key: Key) -> None:
        if key not in self.retained:
            super()._mark_read(key)

    def _components(self, keys: list[Key]) -> list[list[Key]]:
        """Return the maps in groups that hang together without poolings, from the output's group to the inputs'.

        A pooled map belongs to the group of its readers. Within a group sources stand before readers.
        """
        # Union-find: every map points to another of its group, and the leader points to itself.
        parent: dict[Key, Key] = {key: key for key in keys}

        def leader(key: Key) -> Key:
            while parent[key] != key:
                parent[key] = parent[parent[key]]  # halve the path for the next search
                key = parent[key]
            return key

        # Join each map with its sources. The edge from a source into a pooling is a cut, and only noted.
        for key in keys:
            for source in self.sources(key):
                if self.accumulates(key):
                    self.pooled_into[source].append(key)
                    self.uncollected[key] = self.uncollected.get(key, 0) + 1
                else:
                    parent[leader(key)] = leader(source)
        members: dict[Key, list[Key]] = defaultdict(list)
        for key in keys:
            members[leader(key)].append(key)
        # A source's group comes after that of the pooled map, whose cotangent it needs.
        order: TopologicalSorter[Key] = TopologicalSorter(dict.fromkeys(members, ()))
        for source, pooled_maps in self.pooled_into.items():
            for pooled in pooled_maps:
                order.add(leader(source), leader(pooled))
        return [members[head] for head in order.static_order()]

    def _needed_for_poolings(self, components: list[list[Key]]) -> set[Key]:
        """Return all maps from which those pooled values are computed that an activation depends on."""
        needed: set[Key] = set()
        # Readers come first, so whether a component leads to a pooling that is needed is known when its turn comes.
        for component in components:
            has_activation = any(self.graph.nodes[key[0]].operation.needs_marginals for key in component)
            feeds_pooling = any(pooled in needed for key in component for pooled in self.pooled_into[key])
            # Either way values of this component are wanted, and so are the pooled maps that it starts from.
            if has_activation or feeds_pooling:
                needed.update(key for key in component if self.accumulates(key))
            # Before the first sweep the component itself is computed only if a pooling follows. Otherwise its values are
            # computed in its own sweep.
            if feeds_pooling:
                needed.update(component)
        return needed

    def _sweep(self, component: list[Key]) -> None:
        """Compute the values that the component's activations read, and carry its cotangents back to its sources."""
        values = self._values_read(component)
        self._count_readers(component, values)
        for key in component:
            if key in values and key not in self.addresses:
                self._emit(key)
                for source in self.sources(key):
                    self._mark_read(source)
        # Readers before sources: a map's cotangent is complete when all readers have added their shares.
        for key in reversed(component):
            self._collect(key)
            if key in self.cotangents:
                self._propagate(key)
        for key in values - self.retained:
            if key in self.addresses:
                self.space.release(self.addresses.pop(key), self._size(key))

    def _count_readers(self, component: list[Key], values: set[Key]) -> None:
        """Count who reads each value, so that its address is free after the last; the way back reads those of activations.

        The fewer addresses a sweep takes, the more of it stays in the cache.
        """
        self.unread = defaultdict(int)
        for key in component:
            readings = int(key in values) + int(self.graph.nodes[key[0]].operation.needs_marginals)
            for source in self.sources(key):
                self.unread[source] += readings

    def _values_read(self, component: list[Key]) -> set[Key]:
        """Return the component's maps that its activations read, with all maps of it that these are computed from."""
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
                # A pooled map has been retained: its own sources, in other components, are not computed again.
                stack.extend([] if self.accumulates(key) else self.sources(key))
        return values

    # Cotangents

    def _cotangent(self, key: Key) -> int:
        """Return the address of a map's cotangent, a new one if it has none yet."""
        if key not in self.cotangents:
            self.cotangents[key] = self.space.allocate(self._size(key))
        return self.cotangents[key]

    def _merge(self, key: Key, share: int) -> None:
        """Add the share at an address to a map's cotangent, or make it the cotangent if it is the first."""
        if key not in self.cotangents:
            self.cotangents[key] = share
            return
        dst = self.cotangents[key]
        self._add(codes.SUM, dst=dst, src=dst, src2=share, **self._extent(key))
        self.space.release(share, self._size(key))

    def _collect(self, key: Key) -> None:
        """Add to a map's cotangent its shares in the cotangents of the pooled maps that it was added to."""
        for pooled in self.pooled_into[key]:
            node = self.graph.nodes[pooled[0]]
            src = self.cotangents[pooled]
            if isinstance(node.operation, AveragePool):
                shift = pool_shift(node.operation, pooled, key)
                self._add_through_window(key, pooled, node.operation.window, shift, src)
            else:
                share = self.space.allocate(self._size(key))
                factor = mean_factor(self.graph, node)
                self._add(codes.FILL, (factor,), dst=share, src=src, **self._extent(key))
                self._merge(key, share)
            # The last source releases the pooled cotangent.
            self.uncollected[pooled] -= 1
            if not self.uncollected[pooled]:
                self.space.release(self.cotangents.pop(pooled), self._size(pooled))

    def _add_through_window(self, key: Key, reader: Key, window: Window, shift: Offset, src: int) -> None:
        """Add to a map's cotangent its share in that of a reader, which is at the address src, through a window."""
        if key not in self.cotangents:
            self._add(codes.ZERO, dst=self._cotangent(key), **self._extent(key))
        geometry = self._window_columns(reader, key, window, shift)
        del geometry["is_box"]
        self._add(codes.WINDOW_ADJOINT, dst=self.cotangents[key], src=src, **geometry)

    def _propagate(self, key: Key) -> None:
        """Carry a map's complete cotangent on to its sources."""
        node, sources, extent = self.graph.nodes[key[0]], self.sources(key), self._extent(key)
        operation, dst = node.operation, self.cotangents[key]
        if self.accumulates(key):
            # The sources collect it when their own components are swept; it stays until the last has done so.
            if isinstance(operation, AveragePool):
                self._finish_pool(dst, key, operation)  # a division is its own adjoint
            return
        match operation:
            case Input():
                self._propagate_to_inputs(key)
                return
            case Conv() | Pad():
                self._propagate_through_window(key, operation, sources)
                return
            case Dense():
                self._add(codes.AFFINE_ADJOINT, affine(operation.scales), dst=dst, **extent)
            case Scale():
                self._add(codes.AFFINE_ADJOINT, (operation.factor**2,), dst=dst, **extent)
            case Activation():
                columns = extent | self._marginal_columns(node, key[1])
                value = self.addresses[sources[0]]
                op, constants = activation(operation)
                if op in (codes.ERF, codes.GELU, codes.KINKS):  # a kink's own adjoint has its float64 where it needs it
                    columns["in_float64"] = int(key in self.in_float64_backwards)
                self._add(codes.ADJOINTS[op], constants, dst=dst, value=value, **columns)
            case Normalise():
                columns = extent | self._marginal_columns(node, key[1])
                self._add(codes.NORMALISE_ADJOINT, dst=dst, value=self.addresses[sources[0]], **columns)
            case Sum():
                # Every summand gets the whole cotangent: the others a copy, the first one the original, below.
                for source in sources[1:]:
                    share = self.space.allocate(self._size(source))
                    self._add(codes.AFFINE, IDENTITY, dst=share, src=dst, **extent)
                    self._merge(source, share)
            case GlobalPool() | Flatten():
                pass  # with flat inputs, a mean over one position
        # What is at the address has been changed in place, and is now the share of the source.
        del self.cotangents[key]
        self._merge(sources[0], dst)

    def _propagate_to_inputs(self, key: Key) -> None:
        src = self.cotangents.pop(key)
        if self.flat:
            self._add(codes.LOAD_ADJOINT, src=src, **self._extent(key))
        else:
            self._add(codes.GRAM_ADJOINT, src=src, **self._extent(key), **self._pixel_columns(key))
        self.space.release(src, self._size(key))

    def _propagate_through_window(self, key: Key, operation: Conv | Pad, sources: list[Key]) -> None:
        src, constants = self.cotangents.pop(key), window_rule(operation)
        for source in sources:
            geometry = self._window_columns(key, source, operation.window, ORIGIN)
            if geometry["is_box"]:
                share = self.space.allocate(self._size(source))
                self._add(codes.BOX_ADJOINT, constants, dst=share, src=src, **geometry)
                self._merge(source, share)
            else:
                self._add(codes.AFFINE_ADJOINT, constants, dst=src, **self._extent(key))
                self._add_through_window(source, key, operation.window, ORIGIN, src)
        self.space.release(src, self._size(key))
