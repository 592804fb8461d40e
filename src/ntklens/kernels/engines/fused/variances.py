"""Variances of images in compiled code: the recursion of each input with itself, and the way back.

The reference engine's recursion has about twenty small operations of torch for a layer and its marginals, and more on the
way back. Most of their time goes into starting them and into fresh memory, and threads of them wait for one another. Here
one call takes an input through all layers in the cache. Networks with other operations keep the reference's recursion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ntklens.kernels.engines.fused import variance_steps
from ntklens.kernels.engines.fused.codes import LANES
from ntklens.kernels.engines.fused.program import Marginal
from ntklens.kernels.engines.fused.threads import work_space
from ntklens.kernels.rules.duals import GELU, Erf, LeakyReLU
from ntklens.kernels.rules.graph import Graph
from ntklens.kernels.rules.operations import (
    ORIGIN,
    Activation,
    Dense,
    Flatten,
    Input,
    Operation,
    Scale,
    Scales,
    Sum,
)
from ntklens.kernels.rules.windows import Conv, Pad


@dataclass(frozen=True)
class Sweep:
    """The steps from the pixels of images to the marginals that a program reads.

    Attributes:
        steps: (n, columns) int64.
        numbers: (n, 2) float64: the factor and the number that is added.
        size: numbers in the maps of one input.
        reach: most positions that the windows of a row reach over, outside the image, too.
    """

    steps: NDArray[np.int64]
    numbers: NDArray[np.float64]
    size: int
    reach: int

    def marginals(self, pixels: NDArray[Any], marginals: NDArray[Any]) -> None:
        """Fill the marginals (n, m) of images (n, C, positions), float64."""
        variance_steps.forwards(self.steps, self.numbers, pixels, marginals, *self._spaces("maps"), self._row())

    def gradient(self, pixels: NDArray[Any], marginals_bar: NDArray[Any], pixels_bar: NDArray[Any]) -> None:
        """Add to the pixels' cotangents what the cotangents of the marginals send back; shapes as in `marginals`."""
        marginals = work_space("variances: marginals", marginals_bar.shape[1], np.float64)
        spaces = self._spaces("maps", "cotangents")
        variance_steps.backwards(
            self.steps, self.numbers, pixels, marginals_bar, pixels_bar, marginals, *spaces, self._row()
        )

    def _spaces(self, *names: str) -> list[NDArray[Any]]:
        return [work_space(f"variances: {name}", self.size, np.float64) for name in names]

    def _row(self) -> NDArray[Any]:
        return work_space("variances: row", self.reach, np.float64)


def compile_sweep(graph: Graph, marginals: dict[Marginal, int]) -> Sweep | None:
    """Return the sweep to a program's marginals; None where the network has an operation that it does not know.

    Args:
        graph: the traced network, with positions.
        marginals: as in `Program.marginals`.
    """
    if any(norm is not None and not isinstance(norm, (Erf, GELU)) for _, norm in marginals):
        return None
    steps: list[list[int]] = []
    numbers: list[tuple[float, float]] = []
    addresses: list[int] = []
    size, reach = 0, 1

    def step(kind: int, numbers_of_step: tuple[float, float], *columns: int) -> None:
        steps.append([kind, *columns, *[0] * (variance_steps.COUNT - 1 - len(columns))])
        numbers.append(numbers_of_step)

    for i, (node, offsets) in enumerate(zip(graph.nodes, graph.needs(output=False), strict=True)):
        addresses.append(size)
        if not offsets:
            continue
        if offsets != {ORIGIN}:
            return None
        positions = node.size[0] * node.size[1]
        sources = [addresses[j] for j in node.inputs]
        operation, before = node.operation, graph.nodes[node.inputs[0]].size if node.inputs else node.size
        line = _line(operation)
        match operation:
            case _ if line is not None:
                step(variance_steps.LINE, line, size, sources[0], 0, positions)
            case Input():
                step(variance_steps.INPUT, (0.0, 0.0), size, 0, 0, positions)
            case Conv() | Pad():
                window = operation.window
                reach = max(
                    reach, window.stride[1] * (window.out_size[1] - 1) + window.dilation[1] * (window.kernel[1] - 1) + 1
                )
                scales = operation.scales if isinstance(operation, Conv) else Scales(1.0, 0.0, 0.0, 0.0)
                factor = scales.w_std**2 / (window.kernel[0] * window.kernel[1])
                geometry = (*window.kernel, *window.stride, *window.padding, *window.dilation)
                columns = (size, sources[0], 0, positions, *before, *window.out_size, *geometry)
                step(variance_steps.BOX, (factor, scales.b_std**2), *columns)
            case Sum() if len(sources) == 2:
                step(variance_steps.ADD, (0.0, 0.0), size, *sources, positions)
            case Flatten():
                step(variance_steps.MEAN, (0.0, 0.0), size, sources[0], 0, before[0] * before[1])
            case Activation(dual=Erf()):
                step(variance_steps.ERF, (0.0, 0.0), size, sources[0], 0, positions)
            case Activation(dual=GELU()):
                step(variance_steps.GELU, (0.0, 0.0), size, sources[0], 0, positions)
            case _:
                return None
        size += -(-positions // LANES) * LANES
        for (read, norm), place in marginals.items():
            if read == i:
                factor = 0.0 if norm is None else 2.0 if isinstance(norm, Erf) else 1.0
                step(variance_steps.READ, (factor, 0.0), place, addresses[i], 0, positions)
    return Sweep(np.array(steps, np.int64), np.array(numbers), size, reach)


def _line(operation: Operation) -> tuple[float, float] | None:
    """Return the factor and the number that is added, of an operation that takes q to a line in q; None for others."""
    match operation:
        case Dense():
            return operation.scales.w_std**2, operation.scales.b_std**2
        case Scale():
            return operation.factor**2, 0.0
        case Activation(dual=LeakyReLU() as dual):
            return (1 + dual.slope**2) / 2, 0.0
    return None
