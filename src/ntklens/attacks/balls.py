"""Norm balls around an image, cut by the pixel bounds: where an attack may go, and which way is steepest."""

from __future__ import annotations

import torch
from torch import Tensor

Bounds = tuple[float, float]
"""Lowest and highest pixel value."""


def per_sample(values: Tensor, like: Tensor) -> Tensor:
    """Return one value per image, (n,), in a shape that broadcasts over the pixels of `like`: (n, 1, …, 1)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def lengths(delta: Tensor) -> Tensor:
    """Compute the Euclidean norm of each sample: (n,)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms


def ascend(gradient: Tensor, norm: str) -> Tensor:
    """Compute the unit step of steepest ascent: sign(g) for linf, g / |g| for l2; zero where the gradient is zero.

    Args:
        gradient: (n, ...).
        norm: "linf" or "l2".
    """
    if norm == "linf":
        return gradient.sign()
    # The gradient of a confident model is so small that its squares underflow: divide by the largest entry first.
    largest = per_sample(gradient.flatten(1).abs().amax(1), gradient)
    scaled = gradient / torch.where(largest > 0, largest, 1.0)
    return torch.where(largest > 0, scaled / per_sample(lengths(scaled), gradient), 0.0)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: str, bounds: Bounds) -> Tensor:
    """Compute the nearest point of the ball of radius eps around x that lies within the bounds.

    For linf this is a clamp. For l2, clipping the radial projection to the box is not the nearest point. The nearest one
    is clamp(x + s δ) with δ = x_adv - x and the largest s <= 1 that stays in the ball: the optimality (KKT) conditions
    give this form with s = 1 / (1 + μ), where μ is the multiplier of the ball.

    Args:
        x_adv: (n, ...), points anywhere.
        x: (n, ...), centres of the balls, within the bounds.
        eps: radius.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
    """
    low, high = bounds
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(low, high)
    delta = x_adv - x
    # How far each pixel can move in its direction before it meets a bound.
    room = torch.where(delta > 0, high - x, x - low)
    scale = _largest_scale(delta.flatten(1).abs(), room.flatten(1), eps)
    return (x + per_sample(scale, x) * delta).clamp(low, high)


def _largest_scale(size: Tensor, room: Tensor, eps: float) -> Tensor:
    """Compute the largest s <= 1 with |min(s · size, room)| <= eps for each sample: (n,).

    Where the set C of clipped coordinates is known, s solves a quadratic: s² Σ_{i∉C} size_i² = ε² - Σ_{i∈C} room_i².
    Begin with an empty C. Then s only grows, and so does C, so that the loop ends; in practice after three or four rounds.

    Args:
        size: (n, d), |δ| of each coordinate.
        room: (n, d), how far each coordinate can move before it is clipped.
        eps: radius.
    """
    scale = torch.ones_like(size[:, 0])
    # Samples that the bounds alone bring into the ball keep s = 1.
    outside = lengths(torch.minimum(size, room)) > eps
    clipped = torch.zeros_like(size, dtype=torch.bool)
    grown = bool(outside.any())
    while grown:
        budget = (eps**2 - torch.where(clipped, room, 0.0).square().sum(1)).clamp_min(0)
        free = torch.where(clipped, 0.0, size).square().sum(1)
        scale = torch.where(outside & (free > 0), (budget / free).sqrt(), scale)
        larger = clipped | (outside[:, None] & (scale[:, None] * size > room))
        grown = bool((larger != clipped).any())
        clipped = larger
    return scale


def random_start(x: Tensor, eps: float, norm: str, bounds: Bounds, generator: torch.Generator) -> Tensor:
    """Draw a point uniformly from the ball around each image, then bring it within the bounds."""
    draw = _uniform_in_l2_ball if norm == "l2" else _uniform_in_cube
    return project(x + eps * draw(x, generator), x, eps, norm, bounds)


def _uniform_in_cube(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uniformly from the unit ball of linf, in the shape of x."""
    return (2 * torch.rand(x.shape, generator=generator, device=generator.device, dtype=x.dtype) - 1).to(x)


def _uniform_in_l2_ball(x: Tensor, generator: torch.Generator) -> Tensor:
    """Draw uniformly from the unit ball of l2: a Gaussian direction, and the d-th root of a uniform number as radius."""
    direction = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)
    radius = torch.rand(len(x), generator=generator, device=generator.device, dtype=x.dtype).to(x)
    return ascend(direction, "l2") * per_sample(radius ** (1 / x.flatten(1).shape[1]), x)
