"""Perturbations without an adversary: the control that every attack is compared with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.attacks.balls import Bounds, ascend, check_norm
from ntklens.attacks.checks import check_images, check_radius
from ntklens.errors import InputError

KINDS = ("signs", "gaussian")


def noise(
    x: Float[Tensor, "n *shape"],
    eps: float,
    norm: str = "linf",
    *,
    generator: torch.Generator,
    bounds: Bounds = (0, 1),
    kind: str | None = None,
) -> Float[Tensor, "n *shape"]:
    """X plus noise on the sphere of radius ε, then clipped.

    Args:
        x: images within the bounds.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        generator: source of the draws.
        bounds: lowest and highest pixel value.
        kind: "signs", ±1 for each value, or "gaussian", each scaled to the sphere; by default signs for linf, which are
            its corners, and Gaussian for l2.

    Raises:
        InputError: an unknown norm or kind.
    """
    check_norm(norm)
    check_radius(eps, bounds)
    check_images(x, bounds)
    chosen = kind or ("signs" if norm == "linf" else "gaussian")
    if chosen not in KINDS:
        raise InputError(f'the kind of noise must be one of {", ".join(KINDS)}; "{chosen}" came.')
    draw = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)
    direction = draw.sign() if chosen == "signs" else draw
    if norm == "l2":
        return (x + eps * ascend(direction, "l2")).clamp(*bounds)
    largest = direction.flatten(1).abs().amax(1).reshape(-1, *[1] * (x.ndim - 1))
    return (x + eps * direction / torch.where(largest > 0, largest, 1.0)).clamp(*bounds)
