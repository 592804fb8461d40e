"""The operations and constants of instructions, from the rules of a graph."""

from __future__ import annotations

from ntklens.kernels.engines.fused import codes
from ntklens.kernels.engines.fused.coefficients.expectations import jump
from ntklens.kernels.engines.fused.coefficients.hermite import has_series, parity
from ntklens.kernels.engines.fused.precision import Key
from ntklens.kernels.rules.duals import GELU, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph, Node
from ntklens.kernels.rules.hardswish import Hardswish
from ntklens.kernels.rules.operations import Activation, GlobalPool, Offset, Scales
from ntklens.kernels.rules.piecewise import PiecewiseLinear
from ntklens.kernels.rules.series import Series
from ntklens.kernels.rules.windows import AveragePool, Conv, Pad

IDENTITY = (1.0,)
"""The constants of an affine rule that changes nothing."""


def affine(scales: Scales, places: int = 1) -> tuple[float, ...]:
    """Return the constants WEIGHT, BIAS, WEIGHT_SHARE and BIAS_SHARE of a layer on the sum over this many places."""
    return (scales.w_std**2 / places, scales.b_std**2, scales.weight_share / places, scales.bias_share)


def window_rule(operation: Conv | Pad) -> tuple[float, ...]:
    """Return the constants of the affine rule that follows the sum over a window."""
    kernel = operation.window.kernel
    return affine(operation.scales, kernel[0] * kernel[1]) if isinstance(operation, Conv) else IDENTITY


def activation(operation: Activation) -> tuple[int, tuple[float, ...]]:
    """Return the operation of an activation, and its constants, such as the slope for negative arguments or the parity."""
    if isinstance(operation.dual, LeakyReLU):
        return codes.RELU, (float(operation.dual.slope),)
    if isinstance(operation.dual, Erf):
        return codes.ERF, ()
    if isinstance(operation.dual, GELU):
        return codes.GELU, ()
    if isinstance(operation.dual, PiecewiseLinear):
        return codes.KINKS, (operation.dual.hinges.slope, operation.dual.origin)
    if isinstance(operation.dual, Hardswish):
        return codes.HARDSWISH, ()
    if has_series(operation.dual):
        return codes.HERMITE, (float(parity(operation.dual)),)
    assert isinstance(operation.dual, Series)
    return codes.CORNER, (float(jump(operation.dual) != 0),)


def mean_factor(graph: Graph, node: Node) -> float:
    """Return 1 over the number of pairs of positions of a mean: all (p, p') of a pooling, all (p, p) of a flattening."""
    h, w = graph.nodes[node.inputs[0]].size
    return 1 / ((h * w) ** 2 if isinstance(node.operation, GlobalPool) else h * w)


def pool_shift(operation: AveragePool, key: Key, source: Key) -> Offset:
    """Return the shift e by which the source's offset stride Δ + e differs from that of the pooled map's own Δ."""
    centre = operation.window.source(key[1])
    return (source[1][0] - centre[0], source[1][1] - centre[1])
