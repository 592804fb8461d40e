"""The parametrisation, which a finite network, its empirical kernel and its analytic kernel share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn

from ntklens.arguments import as_number, check_module, is_list
from ntklens.errors import InputError, UnsupportedLayer

Values = float | Mapping[str, float] | Sequence[float]
"""One value for all layers, one per layer by its name, or one per layer in the order of the module."""

W_STD, B_STD = math.sqrt(2), 0.1
"""Standard deviations of weights and biases where none are given."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Layers with weights and biases that the parametrisation scales."""

FROZEN = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)
"""Layers with few parameters (gains, shifts, a slope), which the parametrisation holds fixed."""


class Scaled(nn.Module):
    """Multiplies a parameter by a constant, for `torch.nn.utils.parametrize`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Return the scaled parameter."""
        return self.factor * x


@dataclass(frozen=True)
class Parametrisation:
    """The standard deviations of weights and biases, and whether they stand in the forward or in the parameters.

    In the NTK parametrisation z = (w_std / sqrt(fan_in)) W h + b_std b, and W, b ~ N(0, 1) are learned (Jacot et al.
    2018). In the "standard" parametrisation of torch, the weights with the standard deviation w_std / sqrt(fan_in) are
    learned themselves, and the tangent kernel grows with the width of the network (Sohl-Dickstein et al. 2020). A torch
    module records neither standard deviation, so they are given here.

    Attributes:
        w_std: standard deviation of the weights times sqrt(fan_in), above 0: one value, or one per layer by its dotted
            name in the module.
        b_std: standard deviation of the biases, 0 or above, likewise.
        kind: "ntk", or "standard" for the mean tangent kernel of the module at its own width, over draws of its weights.

    Raises:
        InputError: a value is out of its range, or the kind is unknown.

    Example:
        >>> Parametrisation(w_std={"0": 1.5, "2": 1.0}, b_std=0.1).of("2")
        (1.0, 0.1)
    """

    w_std: float | Mapping[str, float] = W_STD
    b_std: float | Mapping[str, float] = B_STD
    kind: str = "ntk"

    def __post_init__(self) -> None:
        if self.kind not in ("ntk", "standard"):
            raise InputError(f'expected the parametrisation "ntk" or "standard"; got "{self.kind}".')
        for name, value in (("w_std", self.w_std), ("b_std", self.b_std)):
            stds = (
                {layer: _std(std, name) for layer, std in value.items()}
                if isinstance(value, Mapping)
                else _std(value, name)
            )
            object.__setattr__(self, name, stds)

    @classmethod
    def of_module(
        cls,
        module: nn.Module,
        w_std: Values = W_STD,
        b_std: Values = B_STD,
        parametrisation: Parametrisation | str = "ntk",
    ) -> Parametrisation:
        """Return the parametrisation that a user's arguments describe.

        Args:
            module: the network, whose layers a sequence of values refers to.
            w_std: one value for all layers, one per layer by name, or a sequence in the order of the module's layers.
            b_std: likewise.
            parametrisation: "ntk" or "standard", which take the two values above, or a parametrisation, which has its own.

        Raises:
            InputError: a sequence of the wrong length, an unknown kind, or values given twice.
        """
        if isinstance(parametrisation, Parametrisation):
            if (w_std, b_std) != (W_STD, B_STD):
                raise InputError(
                    "expected w_std and b_std either as arguments or in the Parametrisation; got both. "
                    "Leave out one of them."
                )
            return parametrisation
        check_module(module)
        names = [name for name, layer in module.named_modules() if isinstance(layer, LAYERS)]

        def by_name(values: Values, argument: str) -> float | Mapping[str, float]:
            if isinstance(values, Mapping) or not is_list(values):
                return cast("float | Mapping[str, float]", values)
            values = cast("Sequence[float]", values)
            if len(values) != len(names):
                raise InputError(
                    f"expected {argument} to have one value for each of the {len(names)} layers; got {len(values)}."
                )
            return dict(zip(names, values, strict=True))

        return cls(by_name(w_std, "w_std"), by_name(b_std, "b_std"), parametrisation)

    def scales(self, module: nn.Module) -> dict[str, float]:
        """Return the factor by which each parameter of a plain network is multiplied, by the name of the parameter.

        All factors are 1 in the standard parametrisation. Parameters of normalisation layers and of PReLU are left out,
        because they are held fixed, as `ntk_parametrize` holds them.

        Raises:
            UnsupportedLayer: a layer has parameters, and its kind is neither in `LAYERS` nor in `FROZEN`.
        """
        check_module(module)
        factors: dict[str, float] = {}
        for name, layer in module.named_modules():
            parameters = dict(layer.named_parameters(recurse=False))
            prefix = f"{name}." if name else ""
            if isinstance(layer, LAYERS):
                scales = {"weight": self.weight_scale(name, layer), "bias": self.bias_scale(name)}
                factors |= {f"{prefix}{key}": scales[key] if self.kind == "ntk" else 1.0 for key in parameters}
            elif parameters and not isinstance(layer, FROZEN):
                raise UnsupportedLayer(
                    f"no NTK parametrisation for `{name}` ({type(layer).__name__}): plain Linear and Conv layers have "
                    "one; linearize(module), and empirical_kernel(module) without a parametrisation, take the network "
                    "as it is."
                )
        return factors

    def of(self, layer: str) -> tuple[float, float]:
        """Return (w_std, b_std) for the layer with this dotted name.

        Raises:
            InputError: the values are given by name, and none is given for this layer.
        """
        return _value_for(layer, self.w_std, "w_std"), _value_for(layer, self.b_std, "b_std")

    def weight_scale(self, layer: str, module: nn.Module) -> float:
        """Return w_std / sqrt(fan_in), by which a standard normal weight is multiplied."""
        return self.of(layer)[0] / math.sqrt(fan_in(module))

    def bias_scale(self, layer: str) -> float:
        """Return b_std, by which a standard normal bias is multiplied."""
        return self.of(layer)[1]


def fan_in(module: nn.Module) -> int:
    """Return the number of inputs that one output of a Linear or Conv layer sums over.

    Raises:
        InputError: the module is of another kind.
    """
    if not isinstance(module, LAYERS):
        raise InputError(f"expected a Linear or Conv layer; got {type(module).__name__}.")
    return module.weight[0].numel()


def _std(value: Any, argument: str) -> float:
    std = as_number(value, argument)
    if not math.isfinite(std) or std < 0 or (std == 0 and argument == "w_std"):
        least = "above 0" if argument == "w_std" else "0 or above"
        raise InputError(f"expected {argument} to be finite and {least}; got {std}.")
    return std


def _value_for(layer: str, value: float | Mapping[str, float], argument: str) -> float:
    if not isinstance(value, Mapping):
        return float(value)
    if layer not in value:
        raise InputError(f"{argument} has no value for the layer `{layer}`; give one for each layer, or one number.")
    return float(value[layer])
