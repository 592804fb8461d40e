"""Which maps must be as precise as the variances with which an activation compares them."""

from __future__ import annotations

from ntklens.kernels.engines.fused.coefficients.corner import has_corner
from ntklens.kernels.engines.fused.coefficients.expectations import jump
from ntklens.kernels.rules.duals import GELU, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.operations import ORIGIN, Activation, Offset, Operation
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series

Key = tuple[int, Offset]
"""A map: the index of its node, and its offset."""


def is_smooth(graph: Graph) -> bool:
    """Return whether K may be float32 (`two_precisions`): erf and GELU are the only activations, none after a pooling."""
    duals = [node.operation.dual for node in graph.nodes if isinstance(node.operation, Activation)]
    return bool(duals) and all(isinstance(dual, (Erf, GELU)) for dual in duals) and not mixed_into_the_origin(graph)


def mixed_into_the_origin(graph: Graph) -> set[Key]:
    """Return the maps that a pooling mixes into a map at offset zero which an activation reads.

    In such a map the covariance of two nearly equal inputs is compared with their variances, which are computed in
    float64 throughout. An error of float32 in one of the maps that are mixed would be taken for an angle between the
    inputs. Maps at offset zero into which no other offset is mixed need no such care: the corrections of nearly equal
    inputs are small there, and so are their errors.
    """
    marked: set[Key] = set()
    for node in graph.nodes:
        if not node.operation.needs_marginals:
            continue
        # All maps from which the activation's map at offset zero is computed.
        ancestors: set[Key] = set()
        stack: list[Key] = [(node.inputs[0], ORIGIN)]
        while stack:
            key = stack.pop()
            if key in ancestors or key in marked:
                continue
            ancestors.add(key)
            i, offset = key
            operation = graph.nodes[i].operation
            stack.extend((j, source) for j in graph.nodes[i].inputs for source in operation.sources({offset}))
        # Other offsets among them mean that a pooling lies in between.
        if any(offset != ORIGIN for _, offset in ancestors):
            marked |= ancestors
    return marked


def before_kinks(graph: Graph) -> set[Key]:
    """Return the maps of other activations after which one follows whose slope jumps.

    A kink takes the angle of two inputs from what their covariance lacks to their variances, also where that is far less
    than the rounding of float32.
    """
    found: set[Key] = set()
    feeds_kink = [False] * len(graph.nodes)
    needs = graph.needs()
    # Every reader of a node comes after it.
    for i in reversed(range(len(graph.nodes))):
        node = graph.nodes[i]
        is_kink = isinstance(node.operation, Activation) and has_kink(node.operation)
        if isinstance(node.operation, Activation) and not is_kink and feeds_kink[i]:
            found |= {(i, offset) for offset in needs[i]}
        for j in node.inputs:
            feeds_kink[j] = feeds_kink[j] or feeds_kink[i] or is_kink
    return found


def has_kink(activation: Activation) -> bool:
    """Return whether the slope of a supported activation jumps."""
    dual = activation.dual
    return isinstance(dual, (LeakyReLU, PiecewiseLinear, Hardswish)) or (
        isinstance(dual, Series) and has_corner(dual) and jump(dual) != 0
    )


def tails(graph: Graph) -> set[Key]:
    """Return the maps of piecewise linear activations that are flat at zero, whose expectations are small tails."""
    needs = graph.needs()
    return {(i, offset) for i, node in enumerate(graph.nodes) if _is_flat(node.operation) for offset in needs[i]}


def _is_flat(operation: Operation) -> bool:
    dual = operation.dual if isinstance(operation, Activation) else None
    return isinstance(dual, PiecewiseLinear) and dual.hinges.slope == 0 and 0.0 not in dual.hinges.distances
