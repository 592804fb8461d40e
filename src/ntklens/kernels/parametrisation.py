"""The one visible object that a finite network, its empirical kernel and its analytic kernel share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from ntklens.errors import InputError

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Modules whose weights and biases the parametrisation speaks of."""


@dataclass(frozen=True)
class Parametrisation:
    """The NTK parameterisation: z = (w_std / sqrt(fan_in)) W h + b_std b with W, b ~ N(0, 1) (Jacot et al. 2018).

    A torch module records neither standard deviation, and in torch's own parameterisation a network's tangent kernel
    grows with its width; in this one it converges.

    Attributes:
        w_std: standard deviation of the weights, above 0: one value, or one a layer by its dotted name in the module.
        b_std: standard deviation of the biases, 0 or above, likewise.

    Example:
        >>> Parametrisation(w_std={"0": 1.5, "2": 1.0}, b_std=0.1).of("2")
        (1.0, 0.1)
    """

    w_std: float | Mapping[str, float] = math.sqrt(2)
    b_std: float | Mapping[str, float] = 0.1

    def __post_init__(self) -> None:
        for name, value, least in (("w_std", self.w_std, "above 0"), ("b_std", self.b_std, "0 or above")):
            for v in value.values() if isinstance(value, Mapping) else (value,):
                if not math.isfinite(v) or v < 0 or (v == 0 and name == "w_std"):
                    raise InputError(f"{name} must be finite and {least}; {v} came.")

    def of(self, layer: str) -> tuple[float, float]:
        """(w_std, b_std) of the layer with this dotted name."""
        return _one(self.w_std, layer, "w_std"), _one(self.b_std, layer, "b_std")

    def weight_scale(self, layer: str, module: nn.Module) -> float:
        """w_std / sqrt(fan_in), by which a standard normal weight is multiplied."""
        return self.of(layer)[0] / math.sqrt(fan_in(module))

    def bias_scale(self, layer: str) -> float:
        """b_std, by which a standard normal bias is multiplied."""
        return self.of(layer)[1]


def fan_in(module: nn.Module) -> int:
    """Number of inputs that one output of a Linear or convolution sums over."""
    if not isinstance(module, LAYERS):
        raise InputError(f"a Linear or Conv layer was expected; {type(module).__name__} came.")
    return module.weight[0].numel()


def _one(value: float | Mapping[str, float], layer: str, name: str) -> float:
    if not isinstance(value, Mapping):
        return float(value)
    if layer not in value:
        raise InputError(
            f"{name} has no value for the layer `{layer}`; give one for each of its layers, or one number."
        )
    return float(value[layer])
