"""Networks around a network: what it has learned, and its scalar output as two logits."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Centred(nn.Module):
    """f(x; θ) - f(x; θ0): what the network has learned since its initialisation, which starts at zero.

    The frozen initial network stays in eval mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.start = copy.deepcopy(network).requires_grad_(False).eval()

    def forward(self, x: Tensor) -> Tensor:
        """Difference of the two networks' outputs."""
        difference: Tensor = self.network(x) - self.start(x)
        return difference

    def train(self, mode: bool = True) -> Centred:
        """Set the mode of the moving network."""
        super().train(mode)
        self.start.eval()
        return self


class BinaryLogits(nn.Module):
    """A scalar classifier f (positive for class 1) as the two logits (-f/2, f/2).

    Their cross-entropy is the binary cross-entropy of f.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, 2) from outputs (n, 1)."""
        f: Tensor = self.network(x)
        return torch.cat([-f / 2, f / 2], 1)
