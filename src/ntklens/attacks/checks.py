"""Checks of what the attacks are given: what does not fit is refused with a sentence that says what to do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ntklens.arguments import as_classes, as_images
from ntklens.attacks.balls import Bounds, lengths
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError


def check_attack(x: Any, y: Any, bounds: Bounds) -> tuple[Tensor, Tensor]:
    """Return images within the bounds, without a graph, and their classes on the same device.

    Raises:
        InputError: x are no such images, or y are not their classes.
    """
    images = check_images(x, bounds)
    return images, as_classes(y, len(images), device=images.device)


def check_images(x: Any, bounds: Bounds, name: str = "x") -> Tensor:
    """Return a batch of floating-point images within the bounds, without a graph.

    Args:
        x: the images, as a tensor or an array.
        bounds: lowest and highest pixel value.
        name: name of the argument.

    Raises:
        InputError: x is no such batch.
    """
    batch = as_images(x, name).detach()
    low, high = bounds
    if batch.numel() and not bool(((batch >= low) & (batch <= high)).all()):
        raise InputError(
            f"expected pixels of {name} between {low} and {high}; got pixels from {float(batch.min()):g} to "
            f"{float(batch.max()):g}. Rescale them, put any normalisation inside the model, or pass bounds=."
        )
    return batch


def check_reach(threat: Threat, x: Tensor) -> None:
    """Raise InputError where the l2 ball is larger than the range of all pixels; in linf the threat itself knows it.

    Args:
        threat: the ball.
        x: images, which say how many pixels there are.
    """
    if threat.norm == "l2" and x.numel():
        largest = (threat.bounds[1] - threat.bounds[0]) * math.sqrt(x[0].numel())
        if threat.eps > largest * (1 + 1e-6):
            raise InputError(
                f"expected ε of at most {largest:g} in l2, the distance between the darkest and the brightest image; got "
                f"{threat.eps:g}. Pixels lie between {threat.bounds[0]} and {threat.bounds[1]}."
            )


def check_perturbed(x_adv: Any, x: Tensor, threat: Threat) -> Tensor:
    """Return attacked images, which lie within the bounds and the balls around x, up to rounding.

    Raises:
        InputError: they do not, or they are no images like the clean ones.
    """
    attacked = check_images(x_adv, threat.bounds, "x_adv")
    if attacked.shape != x.shape or attacked.dtype != x.dtype or attacked.device != x.device:
        raise InputError(
            f"expected x_adv as {x.dtype} of {tuple(x.shape)} on {x.device}, like the clean ones; got {attacked.dtype} of "
            f"{tuple(attacked.shape)} on {attacked.device}."
        )
    delta = (attacked - x).flatten(1)
    sizes = delta.abs().amax(1) if threat.norm == "linf" else lengths(delta)
    # Rounding moves each pixel by a few units in the last place of the largest pixel, so a vector of d pixels by √d of it.
    # Without bounds the largest pixel is that of the images.
    largest = max(abs(threat.bounds[0]), abs(threat.bounds[1]))
    if not math.isfinite(largest):
        largest = float(torch.maximum(x.abs().max(), attacked.abs().max())) if x.numel() else 0.0
    per_pixel = 4 * torch.finfo(x.dtype).eps * largest
    slack = per_pixel if threat.norm == "linf" else per_pixel * math.sqrt(delta.shape[1])
    if len(x) and float(sizes.max()) > threat.eps + slack:
        raise InputError(
            f"an attacked image is {float(sizes.max()):g} away in {threat.norm}, outside the radius {threat.eps:g}; "
            "project it first."
        )
    return attacked


def check_logits(logits: Tensor, y: Tensor) -> None:
    """Raise InputError unless the model's outputs are finite logits of the classes that y names."""
    if logits.ndim != 2 or len(logits) != len(y) or logits.shape[1] < 2:
        raise InputError(
            f"expected a model that returns logits of shape ({len(y)}, classes); got {tuple(logits.shape)}. For one scalar "
            "output f return (-f/2, f/2)."
        )
    if not logits.is_floating_point():
        raise InputError(f"expected a model that returns logits in floating point; got {logits.dtype}.")
    if y.shape != (len(logits),):
        raise InputError(f"expected y as {len(logits)} class indices, one per image; got a tensor of {tuple(y.shape)}.")
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < logits.shape[1]):
        raise InputError(
            f"expected y as class indices from 0 to {logits.shape[1] - 1}, because the model has {logits.shape[1]} logits; "
            f"got {int(y.min())} to {int(y.max())}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model's logits are not finite on these images; an attack cannot rank them.")


def check_gradient(gradient: Tensor | None) -> Tensor:
    """Return the gradient; raise InputError where the model gives none or one that is not finite."""
    if gradient is None:
        raise InputError(
            "the model's logits have no gradient in the images: does it detach, round, or run under torch.no_grad()? "
            "Attack a differentiable surrogate in its place and transfer the images."
        )
    if not bool(torch.isfinite(gradient).all()):
        raise InputError("the gradient of the loss is not finite on these images; an attack cannot follow it.")
    return gradient
