"""A network's first-order expansion in its parameters."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.func import functional_call, jvp


class Linearized(nn.Module):
    """f(x; θ0) + ∂f/∂θ (x; θ0) (θ - θ0): a network that trains as its tangent kernel does (Lee et al. 2019).

    Its parameters are θ, a copy of the network's under the same names, below `network`. It is differentiable in them and
    in x, so it trains and is attacked like any network.
    """

    def __init__(self, module: nn.Module, *, centred: bool = False) -> None:
        super().__init__()
        self.centred = centred
        self.network = copy.deepcopy(module)
        self._names = [name for name, p in module.named_parameters() if p.requires_grad]
        for name in self._names:
            self.register_buffer(self._start(name), module.get_parameter(name).detach().clone())

    @staticmethod
    def _start(name: str) -> str:
        return f"start_{name.replace('.', '_')}"

    def forward(self, x: Tensor) -> Tensor:
        """Outputs in the shape of the network's own."""
        start = {name: self.get_buffer(self._start(name)) for name in self._names}
        change = {name: self.network.get_parameter(name) - start[name] for name in self._names}

        def network(parameters: dict[str, Tensor]) -> Tensor:
            result: Tensor = functional_call(self.network, parameters, (x,))
            return result

        value, slope = jvp(network, (start,), (change,))  # type: ignore[misc]
        out: Tensor = slope if self.centred else value + slope
        return out


def linearize(module: nn.Module, *, centred: bool = False) -> Linearized:
    """The first-order expansion of a network about its current parameters, as a trainable module.

    Args:
        module: the network, which is copied; call `.eval()` first where it has dropout or batch norm.
        centred: leave out f(x; θ0), so that the expansion starts at the zero function.
    """
    return Linearized(module, centred=centred)
