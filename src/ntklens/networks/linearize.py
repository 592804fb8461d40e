"""A network's linearisation: its first-order expansion in its parameters."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp

from ntklens.errors import InputError
from ntklens.kernels.empirical import check_mode
from ntklens.modules import copied_function


class Linearized(nn.Module):
    """f(x; θ0) + ∂f/∂θ (x; θ0) (θ - θ0): a network that trains as its tangent kernel does (Lee et al. 2019, eq. 7).

    Its parameters are θ, copies of the network's under the same names, below `network`. It is differentiable in them and
    in x, so it trains and is attacked like any network. The linearised network stays in eval mode, whatever mode
    `train()` sets.
    """

    def __init__(self, module: nn.Module, *, centred: bool = False) -> None:
        super().__init__()
        network = copied_function(module)
        check_mode(network)
        self._names = [name for name, p in network.named_parameters() if p.requires_grad]
        if not self._names:
            raise InputError("expected a network with a parameter that requires a gradient; got none to expand in.")
        self.centred = centred
        self.network = network.eval()
        # θ0 stands in numbered buffers, since the dots of parameter names are not allowed in buffer names.
        for number, name in enumerate(self._names):
            self.register_buffer(f"start_{number}", network.get_parameter(name).detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs in the shape of the network's own."""
        start = {name: self.get_buffer(f"start_{number}") for number, name in enumerate(self._names)}
        change = {name: attrgetter(name)(self.network) - start[name] for name in self._names}

        def network(parameters: dict[str, Tensor]) -> Tensor:
            outputs: Tensor = functional_call(self.network, parameters, (x,))
            return outputs

        # one forward-mode pass at θ0 gives f and its derivative along θ - θ0
        try:
            value, slope = jvp(network, (start,), (change,))  # type: ignore[misc]
        except NotImplementedError:  # an operation without a forward-mode derivative, such as weight_norm's
            value, slope = _jvp_by_pullbacks(network, start, change)
        outputs: Tensor = slope if self.centred else value + slope
        return outputs

    def train(self, mode: bool = True) -> Linearized:
        """Set the mode of this module; the network below it stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self


def _jvp_by_pullbacks(
    network: Callable[[dict[str, Tensor]], Tensor], start: dict[str, Tensor], change: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return f(θ0) and its derivative along a change, by two backward passes.

    The pullback v -> vᵀ ∂f/∂θ is linear in v, so the derivative of its product with the change is ∂f/∂θ · change.
    """
    tracked = torch.is_grad_enabled()
    with torch.enable_grad():
        leaves = {name: parameter.detach().requires_grad_() for name, parameter in start.items()}
        value = network(leaves)
        v = torch.zeros_like(value, requires_grad=True)
        pulled = torch.autograd.grad(value, list(leaves.values()), v, create_graph=True, materialize_grads=True)
        (slope,) = torch.autograd.grad(
            pulled, v, list(change.values()), create_graph=tracked, retain_graph=True, materialize_grads=True
        )
    return (value, slope) if tracked else (value.detach(), slope.detach())


def linearize(module: nn.Module, *, centred: bool = False) -> Linearized:
    """Return the linearisation of a network about its current parameters, as a trainable module.

    Args:
        module: the network, which is copied; parameters that do not require a gradient stay constants.
        centred: leave out f(x; θ0), so that the linearisation starts at the zero function.

    Raises:
        InputError: dropout or batch norm is in training mode, or no parameter requires a gradient.

    Example:
        >>> import torch
        >>> x, net = torch.ones(1, 3), nn.Linear(3, 2)
        >>> torch.equal(linearize(net)(x), net(x))
        True
    """
    return Linearized(module, centred=centred)
