"""Norm balls around an input, cut by the pixel bounds: where an attack may go, and which way is steepest."""

from __future__ import annotations

import torch
from torch import Tensor

from ntklens.errors import InputError

Bounds = tuple[float, float]
NORMS = ("linf", "l2")


def check_norm(norm: str) -> None:
    """Refuse an unknown norm."""
    if norm not in NORMS:
        raise InputError(f'the norm must be "linf" or "l2"; "{norm}" came.')


def _per_sample(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (like.ndim - 1))


def lengths(delta: Tensor) -> Tensor:
    """Euclidean norm of each sample: (n,)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms


def ascend(gradient: Tensor, norm: str) -> Tensor:
    """The unit step of steepest ascent: sign(g) for linf, g/|g| for l2; zero where the gradient is zero.

    The l2 direction is taken from g / max|g|: the gradient of a confident model is so small that its squares underflow.
    """
    if norm == "linf":
        return gradient.sign()
    largest = _per_sample(gradient.flatten(1).abs().amax(1), gradient)
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return torch.where(largest > 0, scaled / _per_sample(lengths(scaled), gradient), 0.0)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: str, bounds: Bounds) -> Tensor:
    """The nearest point of the ball of radius eps around x that lies within the bounds.

    For linf this is a clamp. For l2, clipping the radial projection is not it: the ball and the box are met together at
    clamp(x + s (x_adv - x)), with the largest s <= 1 that stays in the ball (the optimality conditions, with
    s = 1 / (1 + multiplier)).
    """
    low, high = bounds
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(low, high)
    delta = x_adv - x
    room = torch.where(delta > 0, high - x, x - low)
    scale = _largest_scale(delta.flatten(1).abs(), room.flatten(1), eps)
    return (x + _per_sample(scale, x) * delta).clamp(low, high)


def _largest_scale(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """The largest s <= 1 with |min(s size, room)| <= eps, a sample: (n,).

    Where the set of clipped coordinates is known, s solves a quadratic. From the empty set on, s only grows and so does
    the set, so that the loop ends, in practice after three or four rounds.
    """
    scale = torch.ones_like(size[:, 0])
    outside = lengths(torch.minimum(size, room)) > eps
    clipped, grown = torch.zeros_like(size, dtype=torch.bool), bool(outside.any())
    while grown:
        left = (eps**2 - torch.where(clipped, room, 0.0).square().sum(1)).clamp_min(0)
        free = torch.where(clipped, 0.0, size).square().sum(1)
        scale = torch.where(outside & (free > 0), (left / free).sqrt(), scale)
        now = clipped | (outside[:, None] & (scale[:, None] * size > room))
        clipped, grown = now, bool((now != clipped).any())
    return scale


def random_start(x: Tensor, eps: float, norm: str, bounds: Bounds, generator: torch.Generator) -> Tensor:
    """A point drawn uniformly from the ball around each input, then brought within the bounds."""
    draw = _gaussian if norm == "l2" else _uniform
    return project(x + eps * draw(x, generator), x, eps, norm, bounds)


def _uniform(x: Tensor, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype) - 1).to(x)


def _gaussian(x: Tensor, generator: torch.Generator) -> Tensor:
    """Uniform in the unit ball: a Gaussian direction, and the d-th root of a uniform radius."""
    direction = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)
    radius = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype).to(x)
    return ascend(direction, "l2") * _per_sample(radius ** (1 / x.flatten(1).shape[1]), x)
