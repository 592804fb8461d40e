"""Attacks that follow the gradient of the loss in the input.

They see a callable from images to logits and nothing else: networks, kernel machines and other people's models alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import balls, inputs
from ntklens.attacks.ascent import Ascent, Model, batches
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack
from ntklens.attacks.losses import loss_of
from ntklens.errors import InputError


def fgsm(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float | Sequence[float],
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    batch_size: int | None = None,
    loss: str = "cross-entropy",
    targeted: bool = False,
) -> Float[Tensor, "*radii n *shape"]:
    """One step of size ε along the sign (linf) or the normalised gradient (l2) of the cross-entropy.

    For a binary kernel machine in linf this is the optimum of the linearised problem (Goodfellow et al. 2015; Tsilivis
    & Kempe 2022, section 3).

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes; with `targeted` the classes to be reached.
        eps: radius of the ball, in units of the pixels; several share one gradient.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time; all at once by default. The result does not depend on it.
        loss: "cross-entropy", "margin" or "dlr".
        targeted: descend the loss towards the classes y.

    Returns:
        Adversarial images, within the ball and the bounds; detached, in dtype and on device of x; for several radii one
        batch after the other, (radii, n, ...).

    Raises:
        InputError: arguments that do not fit.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> fgsm(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), eps=0.125)
        tensor([[0.3750, 0.6250]])
    """
    radii = _radii(eps)
    for radius in radii:
        check_attack(x, y, radius, norm, bounds)
    _check_counts(batch_size=batch_size)
    how = Ascent(loss_of(loss), targeted, norm, bounds=bounds)
    x = x.detach()
    found = torch.empty(len(radii), *x.shape, dtype=x.dtype, device=x.device)
    for part in batches(len(x), batch_size):
        direction = balls.ascend(how.gradient(model, x[part], y[part])[0], norm)
        for row, radius in zip(found, radii, strict=True):
            row[part] = balls.project(x[part] + radius * direction, x[part], radius, norm, bounds)
    return found if isinstance(eps, Sequence) else found[0]


def pgd(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float | Sequence[float],
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = False,
    bounds: Bounds = (0, 1),
    generator: torch.Generator | None = None,
    *,
    batch_size: int | None = None,
    relative_step: float | None = None,
    loss: str = "cross-entropy",
    targeted: bool = False,
    momentum: float = 0.0,
    diversity: float = 0.0,
    translation: int = 0,
    early_stop: bool = False,
) -> Float[Tensor, "*radii n *shape"]:
    """Projected gradient ascent of the loss (Madry et al. 2018, section 2.1); the last iterate is given.

    Args:
        model: images to logits.
        x: images within the bounds.
        y: true classes; with `targeted` the classes to be reached.
        eps: radius of the ball, in units of the pixels; several are attacked one after the other.
        norm: "linf" or "l2".
        steps: number of steps.
        step_size: length of a step, in units of the pixels.
        restarts: runs from different starts, of which each image keeps the worst: a wrong prediction before a right
            one, then the higher loss. More than one needs `random_start`.
        random_start: start from a uniform draw in the ball, not at x.
        bounds: lowest and highest pixel value.
        generator: source of the random starts and of the diversity.
        batch_size: images at a time; the same seed gives the same result whatever it is.
        relative_step: length of a step over ε, in place of `step_size`; 2.5 / steps by default.
        loss: "cross-entropy", "margin" or "dlr".
        targeted: descend the loss towards the classes y.
        momentum: of the gradients, each over its sum of absolute values (MI-FGSM, Dong et al. 2018; 1.0 as published).
        diversity: probability of an image to be shrunk and moved before the gradient is taken (DI, Xie et al. 2019; 0.5
            as published); needs a generator and images (n, C, H, W).
        translation: side of the window that smooths the gradient (TI, Dong et al. 2019), odd; 5 or 7 suits 28 to 32
            pixels; 0 without. Needs images (n, C, H, W).
        early_stop: leave an image as soon as it is misclassified.

    Returns:
        Adversarial images, within the ball and the bounds; detached, in dtype and on device of x; for several radii one
        batch after the other, (radii, n, ...).

    Raises:
        InputError: arguments that do not fit.
    """
    radii = _radii(eps)
    for radius in radii:
        check_attack(x, y, radius, norm, bounds)
    _check_counts(batch_size=batch_size, steps=steps, restarts=restarts)
    for name, length in (("step_size", step_size), ("relative_step", relative_step)):
        if length is not None and not (math.isfinite(length) and length > 0):
            raise InputError(f"{name} must be above 0; {length} came.")
    if step_size is not None and relative_step is not None:
        raise InputError("give step_size, in units of the pixels, or relative_step, in units of ε; both came.")
    if restarts > 1 and not random_start:
        raise InputError("restarts from one and the same point are one run; pass random_start=True with a generator.")
    if (random_start or diversity) and generator is None:
        what = "a random start" if random_start else "diversity"
        raise InputError(f"{what} needs a generator: pass generator=torch.Generator().manual_seed(…).")
    _check_transforms(x, momentum, diversity, translation)
    how = Ascent(
        loss_of(loss), targeted, norm, steps, bounds, float(momentum), float(diversity), translation, early_stop
    )
    share = 2.5 / steps if relative_step is None else relative_step
    found = []
    for radius in radii:
        step = share * radius if step_size is None else step_size
        found.append(_worst(how, model, x.detach(), y, radius, step, restarts, random_start, generator, batch_size))
    return torch.stack(found) if isinstance(eps, Sequence) else found[0]


def _worst(
    how: Ascent,
    model: Model,
    x: Tensor,
    y: Tensor,
    eps: float,
    step: float,
    restarts: int,
    random_start: bool,
    generator: torch.Generator | None,
    batch_size: int | None,
) -> Tensor:
    """The worst of a few runs, image by image."""
    best, best_score, best_reached = x, None, None
    for _ in range(restarts):
        start, numbers = x, None
        if random_start and generator is not None:
            start = balls.random_start(x, eps, how.norm, how.bounds, generator)
        if how.diversity and generator is not None:
            numbers = inputs.draws(how.steps, len(x), generator)
        parts = [
            how.climb(model, x[p], y[p], start[p], eps, step, None if numbers is None else numbers[:, p])
            for p in batches(len(x), batch_size)
        ]
        found = torch.cat(parts)
        if restarts == 1:
            return found
        score, reached = how.scores(model, found, y, batch_size)
        if best_score is None or best_reached is None:
            best, best_score, best_reached = found, score, reached
            continue
        better = (reached & ~best_reached) | ((reached == best_reached) & (score > best_score))
        best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), found, best)
        best_score, best_reached = torch.where(better, score, best_score), reached | best_reached
    return best


def _radii(eps: float | Sequence[float]) -> list[float]:
    radii = [float(e) for e in eps] if isinstance(eps, Sequence) else [float(eps)]
    if not radii:
        raise InputError("at least one ε was expected; an empty list came.")
    return radii


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and count < 1:
            raise InputError(f"{name} must be 1 or more; {count} came.")


def _check_transforms(x: Tensor, momentum: float, diversity: float, translation: int) -> None:
    if not (math.isfinite(momentum) and momentum >= 0):
        raise InputError(f"momentum must be 0 or above; {momentum} came.")
    if not 0 <= diversity <= 1:
        raise InputError(f"diversity is a probability, from 0 to 1; {diversity} came.")
    if translation and (translation < 1 or translation % 2 == 0):
        raise InputError(f"translation is the side of a window, an odd number of pixels; {translation} came.")
    if (diversity or translation) and x.ndim != 4:
        raise InputError(f"diversity and translation need images (n, C, H, W); {tuple(x.shape)} came.")
