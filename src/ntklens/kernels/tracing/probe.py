"""A first trace at construction, so that a network without a kernel is refused then and not at the first batch."""

from __future__ import annotations

from torch import nn

from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.tracing.trace import ShapeMismatch, trace

_SIDES = (32, 28, 64, 224, 16, 8, 96, 128, 4)
"""Heights and widths of images to try, the likeliest first."""


def probe(module: nn.Module, parametrisation: Parametrisation) -> tuple[tuple[int, ...], Graph] | None:
    """Trace the module for the likeliest shape of its inputs.

    The number of channels or features comes from the first Linear or Conv2d of the module.

    Returns:
        The shape of one input and the graph for it, or None where the module accepts none of the shapes tried; such a
        module is traced when it gets its first inputs.

    Raises:
        UnsupportedLayer: something in the forward has no infinite-width rule.
    """
    for shape in _likely_shapes(module):
        try:
            return shape, trace(module, shape, parametrisation)
        except ShapeMismatch:
            continue
    return None


def _likely_shapes(module: nn.Module) -> list[tuple[int, ...]]:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return [(layer.in_features,)]
        if isinstance(layer, nn.Conv2d):
            return [(layer.in_channels, side, side) for side in _SIDES]
    return []
