"""Which maps must be as precise as the variances that they are compared with."""

from __future__ import annotations

from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import ORIGIN, Offset

Key = tuple[int, Offset]
"""A map: node and offset."""


def mixed_into_the_origin(graph: Graph) -> set[Key]:
    """The maps that poolings mix into a map at offset zero that an activation reads.

    There the covariance of near inputs is compared with their variances, so that it must be as good as those: what is only
    good to float32 in the maps would be read as an angle.
    """
    marked: set[Key] = set()
    for node in graph.nodes:
        if not node.operation.needs_marginals:
            continue
        closure: set[Key] = set()
        stack: list[Key] = [(node.inputs[0], ORIGIN)]
        while stack:
            key = stack.pop()
            if key in closure or key in marked:
                continue
            closure.add(key)
            i, offset = key
            operation = graph.nodes[i].operation
            stack.extend((j, source) for j in graph.nodes[i].inputs for source in operation.sources({offset}))
        if any(offset != ORIGIN for _, offset in closure):
            marked |= closure
    return marked
