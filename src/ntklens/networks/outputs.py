"""Networks around a network: what it has learned, and its scalar output as two logits."""

from __future__ import annotations

from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.modules import copied
from ntklens.targets import class_logits


class Centred(nn.Module):
    """f(x; θ) - f(x; θ0): what a network has learned since its initialisation; at first the zero function.

    The initial network is frozen and stays in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.start = copied(network).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the difference of the two networks' outputs."""
        difference: Tensor = self.network(x) - self.start(x)
        return difference

    def train(self, mode: bool = True) -> Centred:
        """Set the mode of the network in training."""
        super().train(mode)
        self.start.eval()
        return self


class BinaryLogits(nn.Module):
    """A scalar classifier f (positive for class 1) as the two logits (-f/2, f/2)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (n, 2) from outputs (n, 1).

        Raises:
            InputError: the network has other outputs.
        """
        f: Tensor = self.network(x)
        if f.ndim != 2 or f.shape[1] != 1:
            raise InputError(f"expected a network with one output, (n, 1); got outputs of shape {tuple(f.shape)}.")
        return class_logits(f)
