"""How a network's tangents are computed: which layers have structured tangents, and how much memory tangents take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Layer:
    """A weight and a bias that are used in the same calls, or one of the two; or a parameter that inputs have copies of.

    Attributes:
        modules: names of the modules that use them; none for a parameter that is broadcast over the inputs.
        layer_class: torch's class of those modules, or nn.Parameter.
        parameters: names of the weight and the bias, where they require a gradient.
        weight_scale: factor of the weight; 0 where it is not differentiated.
        bias_scale: factor of the bias, likewise.
    """

    modules: tuple[str, ...]
    layer_class: type[nn.Module] | type[nn.Parameter]
    parameters: tuple[str, ...]
    weight_scale: float
    bias_scale: float


@dataclass(frozen=True)
class Plan:
    """How the tangents of a network are computed for inputs of one shape.

    Attributes:
        layers: layers with structured tangents, by the name of their module, or of a parameter that modules share.
        rest: scales of the parameters that are left to plain Jacobians.
        outputs: number O of outputs.
        dtype: dtype of the outputs.
        fixed: numbers that one input takes, whatever the outputs.
        per_output: numbers that each output of one input takes in addition.
        one_by_one: those of the rest whose Jacobians torch cannot batch, or batches wrongly.
        largest: numbers of the largest output of a structured layer, for one input.
        unused: those of the rest that the outputs did not depend on in the runs from which the plan was made.
    """

    layers: dict[str, Layer]
    rest: dict[str, float]
    outputs: int
    dtype: torch.dtype
    fixed: int
    per_output: int
    one_by_one: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    largest: int = 0

    def numbers(self, outputs: int) -> int:
        """Return how many numbers one input takes: its tangents of this many outputs, and the passes that compute them."""
        return self.fixed + outputs * self.per_output
