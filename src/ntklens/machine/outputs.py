"""The outputs of a kernel machine as one node of autograd's graph."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ntklens.kernels.expansion import Expansion
from ntklens.modules import without_autocast


class ExpansionOutputs(torch.autograd.Function):
    """Θ(x, X) α as one node of autograd's graph, whose backward is the kernel's own gradient.

    Without it, autograd would record every operation of the kernel's recursion, for every pair of inputs.
    """

    @staticmethod
    @without_autocast
    def forward(ctx: Any, x: Tensor, expansion: Expansion) -> Tensor:
        """Compute the outputs, and keep the pullback."""
        f, ctx.slope = expansion.vjp(x.detach())
        return f.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the gradient in the inputs."""
        slope: Tensor = ctx.slope(grads[0])
        if torch.is_grad_enabled():
            # The caller asked for create_graph=True and may differentiate this gradient again.
            slope = _NoSecondDerivative.apply(slope.detach().requires_grad_())  # type: ignore[no-untyped-call]
        return slope, None


class _NoSecondDerivative(torch.autograd.Function):
    """The identity, with an error as its derivative: without it, second derivatives would silently be zero."""

    @staticmethod
    def forward(ctx: Any, slope: Tensor) -> Tensor:
        return slope.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        raise NotImplementedError(
            "a kernel machine can be differentiated once; for second derivatives take differences of its gradient."
        )
