"""Perturbations without an adversary: the control that every attack is compared with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.attacks.balls import Bounds, ascend, check_norm


def noise(
    x: Float[Tensor, "n *shape"],
    eps: float,
    norm: str = "linf",
    *,
    generator: torch.Generator,
    bounds: Bounds = (0, 1),
) -> Float[Tensor, "n *shape"]:
    """X plus noise on the sphere of radius ε: random signs for linf, a Gaussian direction for l2; then clipped."""
    check_norm(norm)
    draw = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)
    return (x + eps * ascend(draw, norm)).clamp(*bounds)
