"""Checks of what the attacks are given: what does not fit is refused with a sentence that says what to do."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ntklens.attacks.balls import Bounds, lengths
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError


def check_attack(x: Tensor, y: Tensor, bounds: Bounds) -> None:
    """Raise InputError unless x are images within the bounds and y their classes."""
    check_images(x, bounds)
    check_classes(y, len(x))


def check_images(x: Tensor, bounds: Bounds) -> None:
    """Raise InputError unless x is a batch of floating-point images within the bounds."""
    if not isinstance(x, Tensor):
        raise InputError(f"expected images as a torch tensor; got {type(x).__name__}.")
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(f"expected images as float (n, C, H, W) or (n, d); got {x.dtype} of {tuple(x.shape)}.")
    # Written as "all inside", so that NaN is refused too.
    if len(x) and not bool(((x >= bounds[0]) & (x <= bounds[1])).all()):
        raise InputError(
            f"expected pixels between {bounds[0]} and {bounds[1]}; got pixels from {float(x.min()):g} to "
            f"{float(x.max()):g}. Rescale them, put any normalisation inside the model, or pass bounds=."
        )


def check_classes(y: Tensor, n: int) -> None:
    """Raise InputError unless y holds n class indices."""
    if not isinstance(y, Tensor):
        raise InputError(f"expected classes as a torch tensor; got {type(y).__name__}.")
    if y.shape != (n,) or y.is_floating_point() or y.dtype == torch.bool:
        raise InputError(f"expected {n} class indices, one per image; got {y.dtype} of {tuple(y.shape)}.")


def check_perturbed(x_adv: Tensor, x: Tensor, threat: Threat) -> None:
    """Raise InputError unless x_adv lies within the bounds and the balls around x, up to rounding."""
    check_images(x_adv, threat.bounds)
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise InputError(
            f"expected attacked images as {x.dtype} of {tuple(x.shape)}, like the clean ones; got {x_adv.dtype} of "
            f"{tuple(x_adv.shape)}."
        )
    delta = (x_adv - x).flatten(1)
    sizes = delta.abs().amax(1) if threat.norm == "linf" else lengths(delta)
    # Rounding moves each pixel by a few units in the last place of the largest pixel, so a vector of d pixels by √d of it.
    per_pixel = 4 * torch.finfo(x.dtype).eps * max(abs(threat.bounds[0]), abs(threat.bounds[1]))
    slack = per_pixel if threat.norm == "linf" else per_pixel * math.sqrt(delta.shape[1])
    if len(x) and float(sizes.max()) > threat.eps + slack:
        raise InputError(
            f"an attacked image is {float(sizes.max()):g} away in {threat.norm}, outside the radius {threat.eps:g}; "
            "project it first."
        )


def check_logits(logits: Tensor, y: Tensor) -> None:
    """Raise InputError unless the model's outputs are finite logits of the classes that y names."""
    if logits.ndim != 2 or len(logits) != len(y) or logits.shape[1] < 2:
        raise InputError(
            f"expected a model that returns logits of shape ({len(y)}, classes); got {tuple(logits.shape)}. For one scalar "
            "output f return (-f/2, f/2)."
        )
    if y.shape != (len(logits),):
        raise InputError(f"expected {len(logits)} class indices, one per image; got a tensor of {tuple(y.shape)}.")
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < logits.shape[1]):
        raise InputError(
            f"expected class indices from 0 to {logits.shape[1] - 1}, because the model has {logits.shape[1]} logits; got "
            f"{int(y.min())} to {int(y.max())}."
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
