"""Arc-cosine functions and square roots, with finite derivatives at the edge of their domain.

The kernels of piecewise linear activations have a kink where two inputs coincide (cosine 1) and where an input vanishes
(variance 0). Attacks start exactly there, where the textbook derivatives are infinite. The derivatives below are those of
the smooth part: the part that depends on the direction of approach counts as zero. A gradient is therefore finite
everywhere, and a vanishing variance never leads to a division by zero.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

COINCIDENT = 4e-15
"""A cosine closer to 1 than this counts as 1: several roundings of float64, or an angle of 9e-8."""

_2PI = 2 * math.pi


class _Kappa0(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        return (math.pi - torch.arccos(c.clamp(-1, 1))) / _2PI

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        (c,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * (_arcsin_slope(c) / _2PI)


class _Kappa1(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, c: Tensor) -> Tensor:
        ctx.save_for_backward(c)
        c = c.clamp(-1, 1)
        return (((1 - c) * (1 + c)).sqrt() + (math.pi - torch.arccos(c)) * c) / _2PI

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> Tensor:
        # The two infinite terms of the derivative, ∓c / sqrt(1 - c²), cancel exactly and leave κ0.
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
        return grads[0] * _arcsin_slope(c)


def _arcsin_slope(c: Tensor) -> Tensor:
    """Compute 1 / sqrt(1 - c²), the derivative of arcsin c and of -arccos c; 0 where |c| counts as 1."""
    # (1 - c)(1 + c) keeps the digits of a small gap, where 1 - c² would cancel.
    gap = (1 - c) * (1 + c)
    inside = gap > COINCIDENT
    # The inner `where` keeps the unused branch finite: autograd would turn its infinity into NaN.
    return torch.where(inside, torch.where(inside, gap, 1.0).rsqrt(), 0.0)


def arcsin(c: Tensor) -> Tensor:
    """Compute arcsin c, with derivative 0 at |c| = 1."""
    result: Tensor = _Arcsin.apply(c)  # type: ignore[no-untyped-call]
    return result


def kappa0(c: Tensor) -> Tensor:
    """Compute (π - arccos c) / 2π, half of Cho & Saul's (2009) arc-cosine function of order 0; derivative 0 at |c| = 1."""
    result: Tensor = _Kappa0.apply(c)  # type: ignore[no-untyped-call]
    return result


def kappa1(c: Tensor) -> Tensor:
    """Compute (sqrt(1 - c²) + (π - arccos c) c) / 2π, half that of order 1; its derivative is `kappa0`."""
    result: Tensor = _Kappa1.apply(c)  # type: ignore[no-untyped-call]
    return result


def sqrt(x: Tensor) -> Tensor:
    """Compute the square root of max(x, 0), with derivative 0 at 0."""
    result: Tensor = _Sqrt.apply(x)  # type: ignore[no-untyped-call]
    return result


def cosine(covariance: Tensor, scale: Tensor) -> Tensor:
    """Compute the covariance divided by the scale, sqrt(q1 q2); 0 where the scale is 0, and exactly ±1 at parallel pairs.

    Without the snap to ±1, rounding would pass for an angle of up to 3e-8. The derivative is that of the quotient.
    """
    positive = scale > 0
    c = torch.where(positive, covariance / torch.where(positive, scale, 1.0), 0.0)
    # Adding the detached distance to ±1 changes the value and leaves the derivative alone.
    below, above = (1 - c).detach(), (1 + c).detach()
    return c + torch.where(below.abs() < COINCIDENT, below, 0.0) - torch.where(above.abs() < COINCIDENT, above, 0.0)
