"""A first trace at construction, so that a network without a kernel is refused at the door, not at the first batch."""

from __future__ import annotations

from torch import nn

from ntklens.kernels.parametrisation import Parametrisation
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.tracing.trace import ShapeMismatch, trace

_SIDES = (32, 28, 64, 224, 16, 8, 96, 128, 4)


def probe(module: nn.Module, parametrisation: Parametrisation, graphs: dict[tuple[int, ...], Graph]) -> None:
    """Trace the module for the likeliest input shape; UnsupportedLayer passes through.

    The shape comes from the first layer with a fan-in. Where none of the guesses fits, nothing is lost: the module is
    traced when the first inputs come.
    """
    for shape in _likely_shapes(module):
        try:
            graphs[shape] = trace(module, shape, parametrisation)
        except ShapeMismatch:
            continue
        return


def _likely_shapes(module: nn.Module) -> list[tuple[int, ...]]:
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return [(layer.in_features,)]
        if isinstance(layer, nn.Conv2d):
            return [(layer.in_channels, side, side) for side in _SIDES]
    return []
