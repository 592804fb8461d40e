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
    """The unit step of steepest ascent: sign(g) for linf, g/|g| for l2; zero where the gradient is zero."""
    if norm == "linf":
        return gradient.sign()
    size = _per_sample(lengths(gradient), gradient)
    return torch.where(size > 0, gradient / torch.where(size > 0, size, 1.0), 0.0)


def project(x_adv: Tensor, x: Tensor, eps: float, norm: str, bounds: Bounds) -> Tensor:
    """The nearest point of the ball of radius eps around x that lies within the bounds.

    For linf this is a clamp. For l2 the ball and the box are met together: the nearest point is clamp(x + (x_adv - x) /
    (1 + μ)) for the least multiplier μ >= 0 that brings it into the ball, found by bisection.
    """
    low, high = bounds
    if norm == "linf":
        return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(low, high)
    delta = x_adv - x

    def at(shrink: Tensor) -> Tensor:
        return (x + _per_sample(shrink, x) * delta).clamp(low, high)

    inside, outside = torch.zeros(len(x)).to(x), torch.ones(len(x)).to(x)
    fits = lengths(at(outside) - x) <= eps
    for _ in range(60 if x.dtype == torch.float64 else 30):
        middle = (inside + outside) / 2
        within = lengths(at(middle) - x) <= eps
        inside, outside = torch.where(within, middle, inside), torch.where(within, outside, middle)
    return at(torch.where(fits, torch.ones_like(inside), inside))


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
    return ascend(direction, "l2") * _per_sample(radius ** (1 / x[0].numel()), x)
