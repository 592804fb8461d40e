"""Named architectures: plain torch modules, of which both finite networks and infinite-width kernels are wanted."""

from __future__ import annotations

import math
import re
from itertools import pairwise

from torch import nn

from ntklens.errors import InputError

Shape = tuple[int, ...]

_MYRTLE = {"myrtle5": (2, 1, 1), "myrtle7": (2, 2, 2), "myrtle10": (3, 3, 3)}
"""Numbers of convolutions before the first pooling, between the two, and before the global one (Shankar et al. 2020)."""


def architecture_names() -> tuple[str, ...]:
    """Return the names that `build` knows; N stands for a number of layers, 1 or more."""
    return ("fcN", "convN", "convN-gap", *_MYRTLE, "small-cnn")


def is_architecture(name: str) -> bool:
    """Return whether `build` knows this name."""
    return bool(re.fullmatch(r"fc[1-9]\d*|conv[1-9]\d*(-gap)?", name)) or name in (*_MYRTLE, "small-cnn")


def build(name: str, shape: Shape, outputs: int, *, width: int = 64) -> nn.Module:
    """Build a network by name, with torch's own initial weights.

    Args:
        name: "fc3" (three hidden layers), "conv2" (two 3x3 convolutions, flattened), "conv4-gap" (four, globally pooled),
            "myrtle5", "myrtle7", "myrtle10", or "small-cnn" (strided, quick to train on a CPU).
        shape: shape of one input, (C, H, W) or (d,).
        outputs: number of outputs.
        width: hidden units or channels per layer.

    Raises:
        InputError: an unknown name, a width or number of outputs below 1, or a shape that the architecture cannot take.

    Example:
        >>> build("fc1", (1, 2, 2), 3, width=8)
        Sequential(
          (0): Flatten(start_dim=1, end_dim=-1)
          (1): Linear(in_features=4, out_features=8, bias=True)
          (2): ReLU()
          (3): Linear(in_features=8, out_features=3, bias=True)
        )
    """
    if outputs < 1 or width < 1:
        raise InputError(f"expected outputs and width of 1 or more; got {outputs} and {width}.")
    if (match := re.fullmatch(r"fc([1-9]\d*)", name)) is not None:
        return _dense(int(match[1]), math.prod(shape), outputs, width)
    convolutional = re.fullmatch(r"conv([1-9]\d*)(-gap)?", name)
    if convolutional is None and name not in (*_MYRTLE, "small-cnn"):
        known = ", ".join(architecture_names())
        raise InputError(f'expected an architecture out of {known} (N a number, as in fc3); got "{name}".')
    if len(shape) != 3:
        raise InputError(f"expected images (C, H, W) for {name}; got inputs of shape {shape}. Choose an fcN instead.")
    if name in _MYRTLE:
        return _myrtle(name, shape, outputs, width)
    if convolutional is None:
        return _small_cnn(shape, outputs, width)
    return _convolutional(int(convolutional[1]), shape, outputs, width, pooled=convolutional[2] is not None)


def _dense(depth: int, inputs: int, outputs: int, width: int) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for n_in, n_out in pairwise([inputs] + [width] * depth):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, outputs))


def _convolutional(depth: int, shape: Shape, outputs: int, width: int, *, pooled: bool) -> nn.Sequential:
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise([channels] + [width] * depth):
        layers += [nn.Conv2d(n_in, n_out, 3, padding="same"), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool2d(1)] if pooled else []
    features = width if pooled else width * height * breadth
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, outputs))


def _myrtle(name: str, shape: Shape, outputs: int, width: int) -> nn.Sequential:
    """Build a network of Shankar et al. 2020, with average pooling."""
    channels, height, breadth = shape
    if height % 4 or breadth % 4:
        raise InputError(
            f"expected images with sides divisible by 4 for {name}, which pools twice by 2; got {height} x {breadth}."
        )
    layers: list[nn.Module] = []
    for stage, convolutions in enumerate(_MYRTLE[name]):
        layers += [nn.AvgPool2d(2)] if stage else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(width if layers else channels, width, 3, padding="same"), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, outputs))


def _small_cnn(shape: Shape, outputs: int, width: int) -> nn.Sequential:
    """Build two strided convolutions and two dense layers, with `width` channels in the second convolution."""
    channels, height, breadth = shape
    half = max(width // 2, 1)
    features = width * math.ceil(height / 4) * math.ceil(breadth / 4)
    return nn.Sequential(
        nn.Conv2d(channels, half, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(half, width, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(features, width),
        nn.ReLU(),
        nn.Linear(width, outputs),
    )
