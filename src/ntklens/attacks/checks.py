"""The door of the attacks: arguments that do not fit are refused with a sentence."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ntklens.attacks.balls import Bounds, check_norm, lengths
from ntklens.errors import InputError


def check_attack(x: Tensor, y: Tensor, eps: float, norm: str, bounds: Bounds) -> None:
    """Refuse a radius, norm, images or labels that no attack can start from."""
    check_norm(norm)
    if not bounds[0] < bounds[1]:
        raise InputError(f"bounds as (lowest, highest) pixel value were expected; {bounds} came.")
    check_radius(eps, bounds)
    check_images(x, bounds)
    if not isinstance(y, Tensor):
        raise InputError(f"classes as a torch tensor were expected; {type(y).__name__} came.")
    if y.shape != (len(x),) or y.is_floating_point() or y.dtype == torch.bool:
        raise InputError(f"{len(x)} class indices, one an image, were expected; {y.dtype} of {tuple(y.shape)} came.")


def check_radius(eps: float, bounds: Bounds) -> None:
    """Refuse a radius that is none."""
    if not (math.isfinite(eps) and eps >= 0):
        raise InputError(f"ε must be 0 or above, in units of the pixels ({bounds[0]} to {bounds[1]}); {eps} came.")


def check_images(x: Tensor, bounds: Bounds) -> None:
    """Refuse what is not a batch of floating-point images within the bounds."""
    if not isinstance(x, Tensor):
        raise InputError(f"images as a torch tensor were expected; {type(x).__name__} came.")
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(f"images as float (n, C, H, W) or (n, d) were expected; {x.dtype} of {tuple(x.shape)} came.")
    if len(x) and not bool(((x >= bounds[0]) & (x <= bounds[1])).all()):
        raise InputError(
            f"pixels between {bounds[0]} and {bounds[1]} were expected; they range from {float(x.min()):g} to "
            f"{float(x.max()):g}: rescale them, put any normalisation inside the model, or pass bounds=."
        )


def check_perturbed(x_adv: Tensor, x: Tensor, eps: float, norm: str, bounds: Bounds) -> None:
    """Refuse images that are not within the bounds and the ball of radius eps around x, to rounding."""
    check_images(x_adv, bounds)
    if x_adv.shape != x.shape or x_adv.dtype != x.dtype:
        raise InputError(
            f"attacked images as {x.dtype} of {tuple(x.shape)}, like the clean ones, were expected; {x_adv.dtype} of "
            f"{tuple(x_adv.shape)} came."
        )
    delta = (x_adv - x).flatten(1)
    sizes = delta.abs().amax(1) if norm == "linf" else lengths(delta)
    unit = 4 * torch.finfo(x.dtype).eps * max(abs(bounds[0]), abs(bounds[1]))  # what rounding can add to one pixel
    slack = unit if norm == "linf" else unit * math.sqrt(delta.shape[1])
    if len(x) and float(sizes.max()) > eps + slack:
        raise InputError(
            f"an attacked image is {float(sizes.max()):g} away in {norm}, outside the radius {eps:g}; project it first."
        )


def check_logits(logits: Tensor, y: Tensor) -> None:
    """Refuse outputs that are not finite logits of the labels' classes."""
    if logits.ndim != 2 or len(logits) != len(y) or logits.shape[1] < 2:
        raise InputError(
            f"a model that returns logits of shape ({len(y)}, classes) was expected; {tuple(logits.shape)} came: for "
            "one scalar output f return (-f/2, f/2)."
        )
    if y.shape != (len(logits),):
        raise InputError(f"{len(logits)} class indices, one an image, were expected; a tensor {tuple(y.shape)} came.")
    if len(y) and not (int(y.min()) >= 0 and int(y.max()) < logits.shape[1]):
        raise InputError(
            f"class indices from 0 to {logits.shape[1] - 1}, as many as the model's logits, were expected; they range "
            f"from {int(y.min())} to {int(y.max())}."
        )
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the model's logits are not finite on these images; an attack cannot rank them.")


def check_gradient(gradient: Tensor | None) -> Tensor:
    """The gradient, refused where the model gives none or one that is not finite."""
    if gradient is None:
        raise InputError(
            "the model's logits have no gradient in the images: does it detach, round, or run under torch.no_grad()? "
            "Attack a differentiable surrogate in its place and transfer the images."
        )
    if not bool(torch.isfinite(gradient).all()):
        raise InputError("the gradient of the loss is not finite on these images; an attack cannot follow it.")
    return gradient
