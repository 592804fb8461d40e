"""Checks of an attack on a model: when a robust accuracy is not to be trusted.

After Carlini et al. 2019, "On evaluating adversarial robustness", section 3, and Athalye et al. 2018 on masked gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ntklens.attacks.balls import Bounds
from ntklens.attacks.evaluate import correct
from ntklens.attacks.gradient import pgd
from ntklens.attacks.model import BATCH, Model, batches, logits_of
from ntklens.attacks.objective import Objective
from ntklens.attacks.square import square
from ntklens.errors import InputError
from ntklens.statistics import paired_difference, proportion

_DRAWS = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm, nn.FractionalMaxPool2d, nn.RReLU)
_ZERO = 0.02
"""Share of images without a gradient from which on the attack is called blind."""


@dataclass(frozen=True)
class Check:
    """One question about an evaluation.

    Attributes:
        name: short, for tables.
        passed: False where the robust accuracy is not to be trusted.
        sentence: what was seen, and what to do if it failed.
    """

    name: str
    passed: bool
    sentence: str


def diagnose(
    model: Model,
    x: Float[Tensor, "n *shape"],
    y: Int[Tensor, " n"],
    eps: float,
    norm: str = "linf",
    *,
    generator: torch.Generator,
    bounds: Bounds = (0, 1),
    steps: int = 20,
    queries: int = 300,
    batch_size: int = BATCH,
) -> list[Check]:
    """Ask of a model what would make the figures of an attack on it too good.

    Args:
        model: images to logits.
        x: images within the bounds; a hundred or two are enough.
        y: true classes.
        eps: the radius of interest, in units of the pixels.
        norm: "linf" or "l2".
        generator: source of the random search.
        bounds: lowest and highest pixel value.
        steps: of PGD.
        queries: of Square.
        batch_size: images at a time.

    Returns:
        Eight checks, in the order of their cost; the last two are left out where there is no gradient to follow.
    """
    if not len(x):
        raise InputError("a few images to check the attack on were expected; none came.")
    checks = [_mode(model), _normalised(x, bounds), _deterministic(model, x, batch_size)]
    logits = logits_of(model, x, batch_size)
    checks.append(right_before(logits, y))
    checks.append(_raw(logits))
    try:
        checks.append(_gradients(model, x, y, batch_size))
    except InputError as error:
        return [*checks, Check("gradients", False, f"No gradient can be followed, and PGD was not tried: {error}")]
    wide = (bounds[1] - bounds[0]) * (1.0 if norm == "linf" else x[0].numel() ** 0.5)
    found = pgd(model, x, y, wide, norm, steps, bounds=bounds, batch_size=batch_size, relative_step=2 / steps)
    left = float(correct(model, found, y, batch_size).double().mean())
    checks.append(_unbounded(left, wide))
    by_gradient = correct(
        model, pgd(model, x, y, eps, norm, steps, bounds=bounds, batch_size=batch_size), y, batch_size
    )
    tried = square(model, x, y, eps, norm, queries=queries, bounds=bounds, generator=generator, batch_size=batch_size)
    by_search = correct(model, tried, y, batch_size)
    checks.append(_search(by_gradient, by_search, steps, queries))
    return checks


def _mode(model: Model) -> Check:
    layers = [
        name
        for name, module in (model.named_modules() if isinstance(model, nn.Module) else [])
        if module.training and isinstance(module, _DRAWS)
    ]
    if not layers:
        return Check("eval mode", True, "No layer that behaves differently in training is in training mode.")
    return Check(
        "eval mode",
        False,
        f"The model is in training mode ({', '.join(layers[:3])}): call model.eval() and attack again.",
    )


def _normalised(x: Tensor, bounds: Bounds) -> Check:
    low, high = float(x.min()), float(x.max())
    if low >= 0 and (high <= 1 or bounds[1] > 1):
        return Check("raw pixels", True, f"Pixels range from {low:g} to {high:g}.")
    return Check(
        "raw pixels",
        False,
        f"Pixels range from {low:g} to {high:g}, as after a normalisation: ε is then in units of the standard deviation. "
        "Put the normalisation inside the model.",
    )


def _deterministic(model: Model, x: Tensor, batch_size: int) -> Check:
    first, second = (logits_of(model, x, batch_size) for _ in range(2))
    apart = float((first - second).abs().max()) if len(x) else 0.0
    if apart <= 1e-5 * float(first.abs().max()):
        return Check("same output twice", True, "The same images give the same logits.")
    return Check(
        "same output twice",
        False,
        f"The same images give logits that differ by {apart:g}: the model is randomised. Attack its mean over many draws.",
    )


def right_before(logits: Tensor, y: Tensor) -> Check:
    """Whether a model is better than a guess on the images as they are: (n, classes) logits against (n,) classes."""
    share, chance = proportion(int((logits.argmax(1) == y).sum()), len(y)), 1 / logits.shape[1]
    if share.low > chance:
        return Check("right before", True, f"The model is right on {share} of the images.")
    return Check(
        "right before",
        False,
        f"The model is right on {share} of the images, no more than by guessing "
        f"({100 * chance:.1f} %): are its weights loaded, and are the classes in the order that it was trained with?",
    )


def _raw(logits: Tensor) -> Check:
    sums = logits.sum(1)
    softmaxed = bool((logits >= 0).all()) and bool((sums - 1).abs().max() < 1e-4)
    if not softmaxed:
        return Check("logits", True, "The outputs are not probabilities.")
    return Check(
        "logits",
        False,
        "The outputs are already probabilities: their cross-entropy is flat where the model is sure. Return the logits, or "
        'attack with loss="margin".',
    )


def _gradients(model: Model, x: Tensor, y: Tensor, batch_size: int) -> Check:
    objective = Objective()
    parts = [objective.gradient(model, x[batch], y[batch])[0].flatten(1) for batch in batches(len(x), batch_size)]
    blind = float((torch.cat(parts).abs().amax(1) == 0).double().mean())
    if blind < _ZERO:
        return Check("gradients", True, f"{100 * blind:.1f} % of the images have no gradient.")
    return Check(
        "gradients",
        False,
        f"{100 * blind:.1f} % of the images have a gradient of exactly zero, which an attack cannot follow: take "
        'loss="margin" or "dlr", or Square.',
    )


def _unbounded(left: float, eps: float) -> Check:
    if left == 0:
        return Check("unbounded attack", True, f"PGD with ε = {eps:g}, the whole range, leaves nothing right.")
    return Check(
        "unbounded attack",
        False,
        f"PGD with ε = {eps:g}, the whole range, leaves {100 * left:.1f} % right, where any image may become any other: "
        "the gradients lead nowhere.",
    )


def _search(by_gradient: Tensor, by_search: Tensor, steps: int, queries: int) -> Check:
    missed = float((by_gradient & ~by_search).double().mean())
    ahead = paired_difference(by_gradient.cpu().numpy(), by_search.cpu().numpy()).low > 0
    sentence = (
        f"Square with {queries} queries fools {100 * missed:.1f} % of the images that PGD-{steps} does not; accuracy is "
        f"{100 * float(by_search.double().mean()):.1f} % under it and {100 * float(by_gradient.double().mean()):.1f} % "
        "under PGD."
    )
    advice = ' It found what the gradients do not show: they may be masked; try loss="margin" and more steps.'
    return Check("random search", not ahead, sentence + (advice if ahead else ""))
