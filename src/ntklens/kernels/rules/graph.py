"""A network as an ordered list of covariance operations, with the offsets at which each of them is needed."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from ntklens.kernels.rules import printed
from ntklens.kernels.rules.operations import ORIGIN, Input, Offset, Operation, Size, map_size


@dataclass(frozen=True)
class Node:
    """One operation on the outputs of earlier nodes, which `inputs` gives by their index in the graph."""

    operation: Operation
    inputs: tuple[int, ...]
    path: str
    """Dotted name of the submodule that calls the operation, such as `features.0`; empty for the module's own forward."""
    shape: tuple[int, ...]
    """Shape of the node's output for one input: (C, H, W), (C, L), or (d,) without positions."""

    @property
    def size(self) -> Size:
        """Height and width in positions: height 1 for sequences, and (1, 1) without positions."""
        if len(self.shape) == 3:
            return (self.shape[-2], self.shape[-1])
        return (1, self.shape[-1]) if len(self.shape) == 2 else (1, 1)


@dataclass(frozen=True)
class Graph:
    """A traced network. Every node comes after its inputs; the first is the data and the last is the output."""

    nodes: tuple[Node, ...]
    _needs: dict[bool, tuple[frozenset[Offset], ...]] = field(default_factory=dict, repr=False, compare=False)

    def needs(self, *, output: bool = True) -> tuple[frozenset[Offset], ...]:
        """Return the offsets at which each node is needed.

        Args:
            output: whether the covariance of the output is wanted. Without it, only the variances that activations and
                normalisations read are wanted, which the recursion of each input with itself computes.
        """
        if output not in self._needs:
            wanted: list[set[Offset]] = [set() for _ in self.nodes]
            if output:
                wanted[-1].add(ORIGIN)
            # Every reader of a node comes after it, so walking backwards the wishes for a node are complete.
            for node, offsets in zip(reversed(self.nodes), reversed(wanted), strict=True):
                for i in node.inputs:
                    if offsets:
                        wanted[i] |= node.operation.sources(offsets)
                    if node.operation.needs_marginals and not output:
                        wanted[i].add(ORIGIN)
            self._needs[output] = tuple(frozenset(w) for w in wanted)
        return self._needs[output]

    def readers(self) -> list[int]:
        """Return, for each node, the index of the last node that reads it; for the output, its own index."""
        last = list(range(len(self.nodes)))
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                last[j] = i
        return last

    def entries(self) -> int:
        """Return the largest number of covariance entries per pair of inputs that one node has in memory."""
        return max(self.costs())

    def costs(self) -> list[int]:
        """Return the number of covariance entries per pair of inputs that each node has in memory."""
        return [_entries(node, need) for node, need in zip(self.nodes, self.needs(), strict=True)]

    def maps(self) -> int:
        """Return the largest number of maps that one node has."""
        return max(len(need) for need in self.needs())

    def rows(self) -> list[dict[str, object]]:
        """Return one row of the printed table per operation.

        "path" is the dotted name of the submodule, "forward" for what the module's own forward calls, and "input" for the
        data; "operation" are its words, and "shape" is that of one output. "maps" counts the offsets between positions
        that are computed, and "entries per pair" the covariances in these maps for one pair of inputs, which is what the
        operation costs in memory.
        """
        return printed.rows(self)

    @property
    def input(self) -> Input:
        """The operation of the first node."""
        operation = self.nodes[0].operation
        if not isinstance(operation, Input):
            raise TypeError("a graph starts with its input")
        return operation

    def __str__(self) -> str:
        return printed.table(self)


def _entries(node: Node, offsets: frozenset[Offset]) -> int:
    """Count the entries of the maps of a node at these offsets."""
    return sum(math.prod(map_size(node.size, offset)) for offset in offsets)
