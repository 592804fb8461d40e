"""The one visible object that a finite network, its empirical kernel and its analytic kernel share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from ntklens.errors import InputError, UnsupportedLayer

Values = float | Mapping[str, float] | Sequence[float]
"""One value, one a layer by its name, or one a layer in the order of the module."""

W_STD, B_STD = math.sqrt(2), 0.1
"""Standard deviations of weights and biases where none are given."""

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)
"""Modules whose weights and biases the parametrisation speaks of."""

FROZEN = (nn.LayerNorm, nn.GroupNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.PReLU)
"""Modules whose few parameters (gains, shifts, a slope) the parametrisation holds fixed."""


class Scaled(nn.Module):
    """A parameter times a constant, for `torch.nn.utils.parametrize`."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """The scaled parameter."""
        return self.factor * x


@dataclass(frozen=True)
class Parametrisation:
    """How weights and biases are drawn and learned: W, b ~ N(0, 1) with their standard deviations in the forward.

    In the NTK parameterisation z = (w_std / sqrt(fan_in)) W h + b_std b (Jacot et al. 2018). A torch module records
    neither standard deviation, and in torch's own, "standard" parameterisation, where the drawn weights themselves are
    learned, a network's tangent kernel grows with its width (Sohl-Dickstein et al. 2020).

    Attributes:
        w_std: standard deviation of the weights, above 0: one value, or one a layer by its dotted name in the module.
        b_std: standard deviation of the biases, 0 or above, likewise.
        kind: "ntk", or "standard" for the tangent kernel of the module at its own width, in the mean over its draws.

    Example:
        >>> Parametrisation(w_std={"0": 1.5, "2": 1.0}, b_std=0.1).of("2")
        (1.0, 0.1)
    """

    w_std: float | Mapping[str, float] = W_STD
    b_std: float | Mapping[str, float] = B_STD
    kind: str = "ntk"

    def __post_init__(self) -> None:
        if self.kind not in ("ntk", "standard"):
            raise InputError(f'the parameterisation must be "ntk" or "standard"; "{self.kind}" came.')
        for name, value, least in (("w_std", self.w_std, "above 0"), ("b_std", self.b_std, "0 or above")):
            for v in value.values() if isinstance(value, Mapping) else (value,):
                if not math.isfinite(v) or v < 0 or (v == 0 and name == "w_std"):
                    raise InputError(f"{name} must be finite and {least}; {v} came.")

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
        names = [name for name, layer in module.named_modules() if isinstance(layer, LAYERS)]

        def by_name(values: Values, what: str) -> float | Mapping[str, float]:
            if isinstance(values, Mapping | float | int):
                return values
            if len(values) != len(names):
                raise InputError(f"{what} must have one value for each of the {len(names)} layers; {len(values)} came.")
            return dict(zip(names, values, strict=True))

        return cls(by_name(w_std, "w_std"), by_name(b_std, "b_std"), parametrisation)

    def scales(self, module: nn.Module) -> dict[str, float]:
        """By how much each parameter of a plain network is multiplied, by its name; frozen ones are left out.

        All factors are 1 in the standard parameterisation. The parameters of normalisation layers and of PReLU are
        frozen, as in `ntk_parametrize`.

        Raises:
            UnsupportedLayer: a layer has parameters of another kind.
        """
        factors: dict[str, float] = {}
        for name, layer in module.named_modules():
            own = dict(layer.named_parameters(recurse=False))
            dot = f"{name}." if name else ""
            if isinstance(layer, LAYERS):
                both = {"weight": self.weight_scale(name, layer), "bias": self.bias_scale(name)}
                factors |= {f"{dot}{key}": both[key] if self.kind == "ntk" else 1.0 for key in own}
            elif own and not isinstance(layer, FROZEN):
                raise UnsupportedLayer(
                    f"no NTK parameterisation for `{name}` ({type(layer).__name__}): plain Linear and Conv layers have "
                    "one; linearize(module), and empirical_kernel(module) without a parametrisation, take the network "
                    "as it is."
                )
        return factors

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
