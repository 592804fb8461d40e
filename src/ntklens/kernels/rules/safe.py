"""Arc-cosine functions and square root with stated derivatives at the edge of their domain.

The kernels of piecewise linear activations have a kink where two inputs coincide (cosine 1) and where an input vanishes
(variance 0). Attacks start exactly there. The derivatives below are those of the smooth part: the directional kink
contributes zero, so that a gradient is finite everywhere and vanishing variance never divides by zero.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

COINCIDENT = 4e-15
"""A cosine closer to 1 than this is taken as 1, a coincident pair: some roundings of float64, an angle of 9e-8."""

_2PI = 2 * math.pi


class _Kappa0(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return (math.pi - torch.arccos(c.clamp(-1, 1))) / _2PI

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors  # type: ignore[attr-defined]
        gap = (1 - c) * (1 + c)
        inside = gap > COINCIDENT
        slope = torch.where(inside, gap, torch.ones_like(gap)).rsqrt() / _2PI
        return grads[0] * torch.where(inside, slope, torch.zeros_like(slope))


class _Kappa1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        c = c.clamp(-1, 1)
        return (((1 - c) * (1 + c)).sqrt() + (math.pi - torch.arccos(c)) * c) / _2PI

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * kappa0(c)


class _Sqrt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        root = x.clamp(min=0).sqrt()
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (root,) = ctx.saved_tensors  # type: ignore[attr-defined]
        positive = root > 0
        return grads[0] * torch.where(positive, 0.5 / torch.where(positive, root, 1.0), 0.0)


class _Arcsin(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return torch.arcsin(c.clamp(-1, 1))

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors  # type: ignore[attr-defined]
        gap = (1 - c) * (1 + c)
        inside = gap > COINCIDENT
        return grads[0] * torch.where(inside, torch.where(inside, gap, 1.0).rsqrt(), 0.0)


def arcsin(c: Tensor) -> Tensor:
    """Arcsin with derivative 0 at |c| = 1."""
    result: Tensor = _Arcsin.apply(c)  # type: ignore[no-untyped-call]
    return result


def kappa0(c: Tensor) -> Tensor:
    """(π - arccos c) / 2π, the arc-cosine function of order 0 (Cho & Saul 2009); its derivative is 0 at |c| = 1."""
    result: Tensor = _Kappa0.apply(c)  # type: ignore[no-untyped-call]
    return result


def kappa1(c: Tensor) -> Tensor:
    """(sqrt(1 - c²) + (π - arccos c) c) / 2π, the arc-cosine function of order 1; its derivative is `kappa0`."""
    result: Tensor = _Kappa1.apply(c)  # type: ignore[no-untyped-call]
    return result


def sqrt(x: Tensor) -> Tensor:
    """Square root of max(x, 0) with derivative 0 at 0."""
    result: Tensor = _Sqrt.apply(x)  # type: ignore[no-untyped-call]
    return result


def cosine(covariance: Tensor, scale: Tensor) -> Tensor:
    """The covariance over the scale (the root of the two variances' product): 0 where the scale is 0, ±1 at parallel pairs.

    The value is snapped to 1 at coincident pairs, and to -1 at opposite ones, where rounding would else be taken for an
    angle of up to 3e-8; the derivative is that of the quotient.
    """
    positive = scale > 0
    c = torch.where(positive, covariance / torch.where(positive, scale, 1.0), 0.0)
    below, above = (1 - c).detach(), (1 + c).detach()
    return c + torch.where(below.abs() < COINCIDENT, below, 0.0) - torch.where(above.abs() < COINCIDENT, above, 0.0)
