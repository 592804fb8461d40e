"""A network's linearisation: its first-order expansion in its parameters."""

from __future__ import annotations

from operator import attrgetter

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ntklens.arguments import as_tensor, check_finite
from ntklens.errors import InputError
from ntklens.kernels.empirical import check_mode
from ntklens.kernels.empirical.repeated import check_forward
from ntklens.kernels.empirical.snapshot import network_errors
from ntklens.modules import copied_function
from ntklens.networks.first_order import Expansion, forward_mode, forward_mode_is_right, one_by_one


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
        self._names = tuple(name for name, p in network.named_parameters() if p.requires_grad)
        if not self._names:
            raise InputError("expected a network with a parameter that requires a gradient; got none to expand in.")
        self.centred = centred
        self.network = network.eval()
        # θ0 stands in numbered buffers, since the dots of parameter names are not allowed in buffer names.
        for number, name in enumerate(self._names):
            self.register_buffer(f"start_{number}", network.get_parameter(name).detach().clone())
        # Whether forward mode is right, by the shape, dtype and device of a batch.
        self._is_right: dict[tuple[torch.Size, torch.dtype, torch.device], bool] = {}

    def forward(self, x: Tensor) -> Tensor:
        """Return outputs in the shape of the network's own.

        Raises:
            InputError: the network cannot be run or differentiated on these inputs, or is no function of them.
        """
        x = as_tensor(x, "x")
        check_finite(x, "x")
        start = [self.get_buffer(f"start_{number}") for number in range(len(self._names))]
        parameters = [attrgetter(name)(self.network) for name in self._names]
        key = x.shape, x.dtype, x.device
        with network_errors(x), sdpa_kernel(SDPBackend.MATH):
            if key not in self._is_right:
                check_forward(self.network, x)
                named = dict(zip(self._names, start, strict=True))
                self._is_right[key] = forward_mode_is_right(self.network, named, x)
            way = forward_mode if self._is_right[key] else one_by_one
            outputs: Tensor = Expansion.apply(  # type: ignore[no-untyped-call]
                self.network, self._names, self.centred, way, x, *parameters, *start
            )
            return outputs

    def train(self, mode: bool = True) -> Linearized:
        """Set the mode of this module; the network below it stays in eval mode."""
        super().train(mode)
        self.network.eval()
        return self


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
