"""Networks around a network: what it has learned, and its scalar output as two logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.modules import copied, single_output
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


class OneOutput(nn.Module):
    """A network whose outputs come in a tuple, a dict or an object, as one that returns their tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the one tensor of the network's outputs."""
        return single_output(self.network(x))


def with_logits(network: nn.Module, x: Tensor, classes: int) -> nn.Module:
    """Return a network with one logit per class: as it is, or with the logits (-f/2, f/2) of its one output f.

    Args:
        network: images to outputs, (n, O).
        x: two images.
        classes: number of classes.

    Raises:
        InputError: the network has fewer outputs than classes, or does not take the images.
    """
    was_training = network.training
    try:
        with torch.no_grad():
            outputs = network.eval()(x)
    except Exception as error:  # a user's module may raise anything
        raise InputError(
            f"the network does not take images of shape {'x'.join(map(str, x.shape[1:]))}: {first_line(error)}"
        ) from error
    finally:
        network.train(was_training)
    f = single_output(outputs)
    if not isinstance(outputs, Tensor):
        network = OneOutput(network).train(was_training)
    if classes == 2 and f.shape[1:] == (1,):
        return BinaryLogits(network).train(was_training)
    if f.ndim != 2 or f.shape[1] < classes:
        raise InputError(
            f"expected a network with one output per class, {classes}; got outputs of shape {tuple(f.shape)}. Choose its "
            "classes, in its order (--classes)."
        )
    return network
