"""Networks around a network: what it has learned, and its scalar output as two logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ntklens.errors import InputError
from ntklens.files import first_line
from ntklens.modules import copied, single_output
from ntklens.targets import class_logits

_SHAPES = ("View", "Reshape", "Squeeze", "Unsqueeze", "Alias", "Clone", "Copy", "Select", "Slice", "Transpose", "T")
"""Beginnings of the names of operations that change no value."""


def is_probability(f: Tensor) -> bool:
    """Return whether a single output per image has passed a sigmoid: its border between the classes is then 0.5, not 0.

    Outputs with a graph are judged by their last operation where that is a sigmoid or a dense layer, and all others by
    their values: logits of a network that has learned nothing may be in [0, 1] by chance, but not reach beyond 0.5.

    Args:
        f: outputs, (n, 1) or (n,).
    """
    node = f.grad_fn
    while node is not None and node.name().startswith(_SHAPES) and node.next_functions:
        node = node.next_functions[0][0]
    operation = "" if node is None else node.name()
    if operation.startswith(("Addmm", "Mm", "Sigmoid")):
        return operation.startswith("Sigmoid")
    f = f.detach()
    return len(f) > 1 and bool(((f >= 0) & (f <= 1)).all()) and float(f.max()) > 0.5


def check_is_no_probability(f: Tensor) -> None:
    """Raise InputError where a single output per image, (n, 1), has passed a sigmoid."""
    if is_probability(f):
        raise InputError(
            f"expected one logit, positive for the second class; got an output between 0 and 1 for all of {len(f)} images, "
            "as a sigmoid gives it. Return the value before the sigmoid, or the logits of both classes, (-f/2, f/2)."
        )


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


class OrderedOutputs(nn.Module):
    """A classifier of more classes than the data have, with the outputs of the data's classes first, in their order.

    All its outputs stay, so that a prediction of a class that the data do not have counts as wrong.

    Args:
        network: images to logits (n, O).
        first: number of the output that stands for each class of the data.
    """

    order: Tensor

    def __init__(self, network: nn.Module, first: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.network = network
        others = [output for output in range(outputs) if output not in set(first)]
        self.register_buffer("order", torch.tensor([*first, *others]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits in the new order."""
        logits: Tensor = self.network(x)
        return logits[:, self.order]


class OneOutput(nn.Module):
    """A network whose outputs come in a tuple, a dict or an object, as one that returns their tensor."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the one tensor of the network's outputs."""
        return single_output(self.network(x))


ClassOutputs = Callable[[int], "Sequence[int] | None"]
"""From a network's number of outputs to the output that stands for each class; None where they are in order."""


def with_logits(network: nn.Module, x: Tensor, classes: int, class_outputs: ClassOutputs | None = None) -> nn.Module:
    """Return a network with one logit per class: as it is, or with the logits (-f/2, f/2) of its one output f.

    A network with more outputs than classes keeps all of them, those of the classes first.

    Args:
        network: images to outputs, (n, O).
        x: some images; a probability in the place of a logit is told on a hundred, if not by the last operation.
        classes: number of classes.
        class_outputs: says which outputs of a trained network stand for the classes; the first ones by default.

    Raises:
        InputError: the network has fewer outputs than classes, one that has passed a sigmoid, or does not take the images.
    """
    was_training = network.training
    try:
        with torch.enable_grad():
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
        check_is_no_probability(f)
        return BinaryLogits(network).train(was_training)
    if f.ndim != 2 or f.shape[1] < classes:
        raise InputError(
            f"expected a network with one output per class, {classes}; got outputs of shape {tuple(f.shape)}. Choose its "
            "classes, in its order (--classes)."
        )
    first = None if class_outputs is None else class_outputs(f.shape[1])
    return network if first is None else OrderedOutputs(network, first, f.shape[1]).train(was_training)
