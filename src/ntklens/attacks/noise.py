"""Perturbations without an adversary: the control that every attack is compared with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.arguments import check_generator
from ntklens.attacks.balls import Bounds, ascend, per_sample
from ntklens.attacks.checks import check_images, check_reach
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError

KINDS = ("signs", "gaussian")
"""Kinds of noise: the sign of a Gaussian draw for each pixel value, or the draw itself."""


def noise(
    x: Float[Tensor, "n *shape"],
    eps: float,
    norm: str = "linf",
    *,
    generator: torch.Generator,
    bounds: Bounds = (0, 1),
    kind: str | None = None,
) -> Float[Tensor, "n *shape"]:
    """Add noise of length ε to images, then clip them to the bounds.

    Args:
        x: images within the bounds.
        eps: radius, in units of the pixels.
        norm: "linf" or "l2".
        generator: source of the draws.
        bounds: lowest and highest pixel value.
        kind: "signs" (±1 for each value) or "gaussian", scaled to length ε in the norm. By default signs for linf, which
            are the corners of its ball, and Gaussian for l2.

    Raises:
        InputError: an unknown kind, or arguments that do not fit.
    """
    threat = Threat(eps, norm, bounds=bounds)  # refuses a radius, norm or bounds that do not fit
    eps, bounds = threat.eps, threat.bounds
    x = check_images(x, bounds)
    check_reach(threat, x)
    check_generator(generator)
    chosen = kind or ("signs" if norm == "linf" else "gaussian")
    if chosen not in KINDS:
        raise InputError(f'expected a kind of noise among {", ".join(KINDS)}; got "{chosen}".')
    draw = torch.randn(x.shape, generator=generator, device=generator.device, dtype=x.dtype).to(x)
    direction = draw.sign() if chosen == "signs" else draw
    if norm == "l2":
        return (x + eps * ascend(direction, "l2")).clamp(*bounds)
    largest = per_sample(direction.flatten(1).abs().amax(1), x)
    return (x + eps * direction / torch.where(largest > 0, largest, 1.0)).clamp(*bounds)
