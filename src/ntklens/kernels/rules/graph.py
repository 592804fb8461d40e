"""A network as an ordered list of covariance operations, and what each of them has to be asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from ntklens.kernels.rules.operations import ORIGIN, Input, Offset, Operation, Size


@dataclass(frozen=True)
class Node:
    """One operation on the outputs of earlier nodes."""

    operation: Operation
    inputs: tuple[int, ...]
    path: str
    """Where in the user's module it stands, such as `features.0`."""
    shape: tuple[int, ...]
    """Shape of the node's output for one input: (C, H, W), (C, L), or (d,) without positions."""

    @property
    def size(self) -> Size:
        """Height and width of the positions kept apart; a height of 1 for sequences, (1, 1) without positions."""
        if len(self.shape) == 3:
            return (self.shape[-2], self.shape[-1])
        return (1, self.shape[-1]) if len(self.shape) == 2 else (1, 1)


@dataclass(frozen=True)
class Graph:
    """The traced network, inputs before outputs; the last node is the output."""

    nodes: tuple[Node, ...]
    _needs: dict[bool, tuple[frozenset[Offset], ...]] = field(default_factory=dict, repr=False, compare=False)
    kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """What engines made of the graph, to be made once."""

    def needs(self, *, output: bool = True) -> tuple[frozenset[Offset], ...]:
        """The offsets at which each node is needed, walking back from the output.

        With `output` the output's own map is wanted; without, only the variances that activations and normalisations
        read, which is what an input with itself has to supply.
        """
        if output not in self._needs:
            wanted: list[set[Offset]] = [set() for _ in self.nodes]
            if output:
                wanted[-1].add(ORIGIN)
            for node, offsets in zip(reversed(self.nodes), reversed(wanted), strict=True):
                for i in node.inputs:
                    if offsets:
                        wanted[i] |= node.operation.sources(offsets)
                    if node.operation.needs_marginals and not output:
                        wanted[i].add(ORIGIN)
            self._needs[output] = tuple(frozenset(w) for w in wanted)
        return self._needs[output]

    def readers(self) -> list[int]:
        """For each node, the last node that reads it (its own index for the output)."""
        last = list(range(len(self.nodes)))
        for i, node in enumerate(self.nodes):
            for j in node.inputs:
                last[j] = i
        return last

    def entries(self) -> int:
        """The most covariance entries a pair that are alive at one node: what a block of pairs costs in memory."""
        return max(
            sum((n.size[0] - abs(d[0])) * (n.size[1] - abs(d[1])) for d in need)
            for n, need in zip(self.nodes, self.needs(), strict=True)
        )

    def maps(self) -> int:
        """The most maps that one node has."""
        return max(len(need) for need in self.needs())

    def rows(self) -> Iterator[dict[str, object]]:
        """The network as a table: one row an operation."""
        for node, need in zip(self.nodes, self.needs(), strict=True):
            yield {
                "path": node.path or "input",
                "operation": node.operation,
                "shape": "x".join(map(str, node.shape)),
                "positions": "apart" if node.size != (1, 1) else "-",
                "entries a pair": sum((node.size[0] - abs(d[0])) * (node.size[1] - abs(d[1])) for d in need),
            }

    @property
    def input(self) -> Input:
        """The first node's operation."""
        operation = self.nodes[0].operation
        if not isinstance(operation, Input):
            raise TypeError("a graph starts with its input")
        return operation

    def __str__(self) -> str:
        rows = [{k: str(v) for k, v in row.items()} for row in self.rows()]
        names = list(rows[0])
        widths = {k: max(len(k), *(len(r[k]) for r in rows)) for k in names}
        lines = ["  ".join(k.ljust(widths[k]) for k in names)]
        lines += ["  ".join(r[k].ljust(widths[k]) for k in names) for r in rows]
        return "\n".join(line.rstrip() for line in lines)
