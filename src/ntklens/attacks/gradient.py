"""Attacks that follow the gradient of the loss in the input.

They see a callable from images to logits and nothing else: networks, kernel machines and other people's models alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import balls
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_attack, check_gradient, check_logits
from ntklens.attacks.losses import cross_entropy
from ntklens.errors import InputError

Model = Callable[[Tensor], Tensor]


def fgsm(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float,
    norm: str = "linf",
    *,
    bounds: Bounds = (0, 1),
    batch_size: int | None = None,
) -> Float[Tensor, "n *shape"]:
    """One step of size ε along the sign (linf) or the normalised gradient (l2) of the cross-entropy.

    For a binary kernel machine in linf this is the optimum of the linearised problem (Goodfellow et al. 2015; Tsilivis
    & Kempe 2022, section 3).

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes.
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time; all at once by default. The result does not depend on it.

    Returns:
        Adversarial images, within the ball and the bounds; detached, in dtype and on device of x.

    Raises:
        InputError: arguments that do not fit.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> fgsm(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), eps=0.125)
        tensor([[0.3750, 0.6250]])
    """
    return pgd(model, x, y, eps, norm, steps=1, step_size=float(eps), bounds=bounds, batch_size=batch_size)


def pgd(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float,
    norm: str = "linf",
    steps: int = 10,
    step_size: float | None = None,
    restarts: int = 1,
    random_start: bool = False,
    bounds: Bounds = (0, 1),
    generator: torch.Generator | None = None,
    *,
    batch_size: int | None = None,
) -> Float[Tensor, "n *shape"]:
    """Projected gradient ascent of the cross-entropy (Madry et al. 2018, section 2.1); the last iterate is given.

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes.
        eps: radius of the ball, in units of the pixels.
        norm: "linf" or "l2".
        steps: number of steps.
        step_size: length of a step; 2.5 ε / steps by default.
        restarts: runs from different starts, of which each image keeps the worst: a wrong prediction before a right
            one, then the higher loss. More than one needs `random_start`.
        random_start: start from a uniform draw in the ball, not at x.
        bounds: lowest and highest pixel value.
        generator: source of the random starts.
        batch_size: images at a time; the same seed gives the same result whatever it is.

    Returns:
        Adversarial images, within the ball and the bounds; detached, in dtype and on device of x.

    Raises:
        InputError: arguments that do not fit.
    """
    check_attack(x, y, eps, norm, bounds)
    if steps < 1 or restarts < 1 or (batch_size is not None and batch_size < 1):
        raise InputError(f"steps, restarts and batch_size must be 1 or more; {steps}, {restarts}, {batch_size} came.")
    if step_size is not None and not (math.isfinite(step_size) and step_size >= 0):
        raise InputError(f"the step size must be 0 or above, in units of the pixels; {step_size} came.")
    if restarts > 1 and not random_start:
        raise InputError("restarts from one and the same point are one run; pass random_start=True with a generator.")
    if random_start and generator is None:
        raise InputError("a random start needs a generator: pass generator=torch.Generator().manual_seed(…).")
    step = 2.5 * eps / steps if step_size is None else step_size
    best, best_loss, best_wrong = x.detach().clone(), None, None
    for _ in range(restarts):
        start = x.detach()
        if random_start and generator is not None:
            start = balls.random_start(start, eps, norm, bounds, generator)
        found = torch.cat(
            [
                _climb(model, x[part].detach(), y[part], start[part], eps, norm, steps, step, bounds)
                for part in _batches(len(x), batch_size)
            ]
        )
        if restarts == 1:
            return found
        loss, wrong = _scores(model, found, y, batch_size)
        if best_loss is None or best_wrong is None:
            best, best_loss, best_wrong = found, loss, wrong
            continue
        better = (wrong & ~best_wrong) | ((wrong == best_wrong) & (loss > best_loss))
        best = torch.where(better.reshape(-1, *[1] * (x.ndim - 1)), found, best)
        best_loss, best_wrong = torch.where(better, loss, best_loss), wrong | best_wrong
    return best


def _climb(
    model: Model, x: Tensor, y: Tensor, start: Tensor, eps: float, norm: str, steps: int, step: float, bounds: Bounds
) -> Tensor:
    """Gradient, step, projection."""
    x_adv = start
    for _ in range(steps):
        gradient = loss_gradient(model, x_adv, y)
        x_adv = x_adv + step * balls.ascend(gradient, norm)
        x_adv = balls.project(x_adv, x, eps, norm, bounds)
    return x_adv


def loss_gradient(model: Model, x: Tensor, y: Tensor) -> Tensor:
    """Gradient in x of each image's cross-entropy; the model's own parameters collect nothing."""
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(x)
        check_logits(logits, y)
        loss = cross_entropy(logits, y).sum()
        (gradient,) = torch.autograd.grad(loss, x, allow_unused=True) if loss.requires_grad else (None,)
    return check_gradient(gradient).detach()


@torch.no_grad()
def _scores(model: Model, x: Tensor, y: Tensor, batch_size: int | None) -> tuple[Tensor, Tensor]:
    """Loss of each image, and whether its prediction is wrong."""
    logits = torch.cat([model(x[part]) for part in _batches(len(x), batch_size)])
    check_logits(logits, y)
    return cross_entropy(logits, y), logits.argmax(1) != y


def _batches(n: int, batch_size: int | None) -> Iterator[slice]:
    """Slices that cover n images; one empty slice when there are none."""
    size = max(n, 1) if batch_size is None else batch_size
    for start in range(0, max(n, 1), size):
        yield slice(start, start + size)
