"""Attacks that follow the gradient of the loss in the input.

They see a callable from images to logits and nothing else: networks, kernel machines and other people's models alike.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_number, check_generator, is_list
from ntklens.attacks.ascent import AscentOptions, worst_run
from ntklens.attacks.balls import Bounds, ascend
from ntklens.attacks.checks import check_attack, check_reach
from ntklens.attacks.losses import loss_of
from ntklens.attacks.model import Model, batches
from ntklens.attacks.objective import Objective
from ntklens.attacks.threat import Threat, default_step
from ntklens.errors import InputError
from ntklens.modules import guarded
from ntklens.progress import Progress, Report


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
    progress: Report | None = None,
) -> Float[Tensor, "*radii n *shape"]:
    """Take one step of size ε along the sign (linf) or the normalised gradient (l2) of the loss (FGSM).

    For a binary kernel machine in linf and the cross-entropy this is the optimum of the linearised problem (Goodfellow et
    al. 2015; Tsilivis & Kempe 2022, section 3).

    Args:
        model: images to logits (n, classes).
        x: images within the bounds.
        y: true classes; with `targeted` the classes to be reached.
        eps: radius of the ball, in units of the pixels; several radii share one gradient.
        norm: "linf" or "l2".
        bounds: lowest and highest pixel value.
        batch_size: images at a time; all at once by default. The result does not depend on it.
        loss: "cross-entropy", "margin" or "dlr".
        targeted: descend the loss towards the classes y.
        progress: called with the share of the images that is done, from 0 to 1.

    Returns:
        Adversarial images within the ball and the bounds, detached, in the dtype and on the device of x. For several radii
        they are stacked: (radii, n, ...).

    Raises:
        InputError: arguments that do not fit.

    Example:
        >>> model = torch.nn.Linear(2, 2, bias=False)
        >>> _ = model.weight.data.copy_(torch.eye(2))
        >>> fgsm(model, torch.tensor([[0.5, 0.5]]), torch.tensor([0]), eps=0.125)
        tensor([[0.3750, 0.6250]])
    """
    threats = [Threat(radius, norm, bounds=bounds) for radius in _radii(eps)]
    _check_counts(batch_size=batch_size)
    x, y = check_attack(x, y, threats[0].bounds)
    for threat in threats:
        check_reach(threat, x)
    objective = Objective(loss_of(loss), targeted)
    with guarded(model, x, y) as (model, x, y):
        x_adv = torch.empty(len(threats), *x.shape, dtype=x.dtype, device=x.device)
        for batch in batches(len(x), batch_size):
            gradient, _ = objective.gradient(model, x[batch], y[batch])
            direction = ascend(gradient, norm)
            for images, threat in zip(x_adv, threats, strict=True):
                images[batch] = threat.project(x[batch] + threat.eps * direction, x[batch])
            Progress(progress).step(min(batch.stop, len(x)), max(len(x), 1))
    return x_adv if is_list(eps) else x_adv[0]


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
    progress: Report | None = None,
) -> Float[Tensor, "*radii n *shape"]:
    """Ascend the loss by projected gradient steps and return the last iterate (PGD, Madry et al. 2018, section 2.1).

    Args:
        model: images to logits.
        x: images within the bounds.
        y: true classes; with `targeted` the classes to be reached.
        eps: radius of the ball, in units of the pixels; several radii are attacked one after the other.
        norm: "linf" or "l2".
        steps: number of steps.
        step_size: length of a step, in units of the pixels.
        restarts: runs from different starts, of which each image keeps the worst: a wrong prediction before a right
            one, then the higher loss. More than one needs `random_start`.
        random_start: start from a uniform draw in the ball, not at x.
        bounds: lowest and highest pixel value.
        generator: source of the random starts and of the diverse inputs.
        batch_size: images at a time; all at once by default. The result does not depend on it.
        relative_step: length of a step over ε, in place of `step_size`; 2.5 / steps by default.
        loss: "cross-entropy", "margin" or "dlr".
        targeted: descend the loss towards the classes y.
        momentum: factor of the earlier gradients, each divided by its sum of absolute values (MI-FGSM, Dong et al. 2018;
            1.0 as published).
        diversity: probability that an image is shrunk and moved before the gradient is taken (DI, Xie et al. 2019; 0.5
            as published). Needs a generator and images (n, C, H, W).
        translation: side of the window that smooths the gradient (TI, Dong et al. 2019), odd; 5 or 7 suits 28 to 32
            pixels; 0 switches it off. Needs images (n, C, H, W).
        early_stop: stop attacking an image as soon as it is misclassified, or in its target class.
        progress: called with the share of the steps that is done, from 0 to 1.

    Returns:
        Adversarial images within the ball and the bounds, detached, in the dtype and on the device of x. For several radii
        they are stacked: (radii, n, ...).

    Raises:
        InputError: arguments that do not fit.
    """
    _check_counts(batch_size=batch_size, steps=steps, restarts=restarts)
    _check_steps(step_size, relative_step)
    _check_draws(restarts, random_start, diversity, generator)
    threats = [_threat(radius, norm, steps, step_size, relative_step, bounds) for radius in _radii(eps)]
    x, y = check_attack(x, y, threats[0].bounds)
    for threat in threats:
        check_reach(threat, x)
    momentum, diversity = _check_transforms(x, momentum, diversity, translation)
    options = AscentOptions(
        objective=Objective(loss_of(loss), targeted),
        restarts=restarts,
        random_start=random_start,
        momentum=momentum,
        diversity=diversity,
        translation=translation,
        early_stop=early_stop,
        batch_size=batch_size,
    )
    with guarded(model, x, y, generator=generator) as (model, x, y):
        x_adv = [
            worst_run(
                model, x, y, threat, options, generator, Progress(progress).part(done / len(threats), 1 / len(threats))
            )
            for done, threat in enumerate(threats)
        ]
    return torch.stack(x_adv) if is_list(eps) else x_adv[0]


def _threat(
    eps: float, norm: str, steps: int, step_size: float | None, relative_step: float | None, bounds: Bounds
) -> Threat:
    """Return the threat at one radius, its step given in units of the pixels, of ε, or not at all."""
    # The length is stated, because one step of `pgd` is 2.5 ε long by default and one step of a Threat ε. Only in a ball
    # of radius 0 it is left out: the step has length 0 there, which no stated step may have.
    eps = Threat(eps, norm, bounds=bounds).eps  # refuses what is no radius
    if step_size is None and eps > 0:
        step_size = default_step(eps, steps) if relative_step is None else as_number(relative_step, "ε") * eps
    return Threat(eps, norm, steps, step_size, bounds)


def _radii(eps: float | Sequence[float]) -> list[float]:
    radii = list(eps) if isinstance(eps, Iterable) and is_list(eps) else [cast("float", eps)]
    if not radii:
        raise InputError("expected at least one ε; got an empty list.")
    return radii


def _check_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None:
            as_count(count, name)


def _check_steps(step_size: float | None, relative_step: float | None) -> None:
    if relative_step is not None and not 0 < as_number(relative_step, "relative_step") < math.inf:
        raise InputError(f"expected relative_step above 0; got {relative_step}.")
    if step_size is not None and relative_step is not None:
        raise InputError("expected step_size, in units of the pixels, or relative_step, in units of ε; got both.")


def _check_draws(restarts: int, random_start: bool, diversity: float, generator: torch.Generator | None) -> None:
    if restarts > 1 and not random_start:
        raise InputError("restarts from one and the same point are one run; pass random_start=True with a generator.")
    if (random_start or diversity) and generator is None:
        what = "a random start" if random_start else "diversity"
        raise InputError(f"{what} needs a generator: pass generator=torch.Generator().manual_seed(…).")
    check_generator(generator, optional=True)


def _check_transforms(x: Tensor, momentum: float, diversity: float, translation: int) -> tuple[float, float]:
    """Return momentum and diversity as plain numbers."""
    momentum, diversity = float(as_number(momentum, "momentum")), float(as_number(diversity, "diversity"))
    if not 0 <= momentum < math.inf:
        raise InputError(f"expected momentum of 0 or more; got {momentum}.")
    if not 0 <= diversity <= 1:
        raise InputError(f"expected diversity as a probability from 0 to 1; got {diversity}.")
    if as_count(translation, "translation", least=0) and translation % 2 == 0:
        raise InputError(f"expected translation as the side of a window, an odd number of pixels; got {translation}.")
    if (diversity or translation) and x.ndim != 4:
        raise InputError(f"expected images (n, C, H, W) for diversity and translation; got {tuple(x.shape)}.")
    return momentum, diversity
