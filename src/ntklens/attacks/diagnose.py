"""Checks of an attack on a model: when a robust accuracy is not to be trusted.

After Carlini et al. 2019, "On evaluating adversarial robustness", section 3, and Athalye et al. 2018 on masked gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_count, as_images, check_generator
from ntklens.attacks.balls import Bounds
from ntklens.attacks.checks import check_logits
from ntklens.attacks.evaluate import correct
from ntklens.attacks.gradient import pgd
from ntklens.attacks.model import BATCH, Model, batches, logits_of
from ntklens.attacks.objective import Objective
from ntklens.attacks.square import square
from ntklens.attacks.threat import Threat
from ntklens.errors import InputError
from ntklens.modules import guarded, layers_in_training
from ntklens.progress import Progress, Report
from ntklens.statistics import paired_difference, proportion
from ntklens.texts import shortened

_BLIND = 0.02
"""Share of images with a gradient of zero from which on the gradients count as unusable."""
_SAME_OUTPUT = 1e-5
"""Difference of two evaluations, over the largest logit, up to which they count as the same."""


@dataclass(frozen=True)
class Check:
    """One question about an evaluation.

    Attributes:
        name: short name, for tables.
        passed: False where the robust accuracy is not to be trusted.
        sentence: what was observed and, if the check failed, what to do.
        images: number of images that the check looked at.
    """

    name: str
    passed: bool
    sentence: str
    images: int = 0

    def __repr__(self) -> str:
        return f"Check({shortened(self.name, 30)!r}, {'passed' if self.passed else 'failed'})"


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
    attacked: int | None = None,
    batch_size: int = BATCH,
    progress: Report | None = None,
) -> list[Check]:
    """Check a model for what makes attacks on it look weaker than they are.

    Args:
        model: images to logits.
        x: images within the bounds; a hundred or two are enough.
        y: true classes.
        eps: the radius of interest, in units of the pixels.
        norm: "linf" or "l2".
        generator: source of the random search.
        bounds: lowest and highest pixel value.
        steps: steps of PGD.
        queries: maximum number of queries per image of Square.
        attacked: number of images, the first ones, that the last two checks attack; all by default. These two take nearly
            all of the time: an image costs them 2 `steps` gradients and up to `queries` queries.
        batch_size: images at a time.
        progress: called with the share of the work that is done, from 0 to 1.

    Returns:
        Eight checks, in the order of their cost; the last two are left out where there is no gradient to follow.

    Raises:
        InputError: no images, or arguments that do not fit.
    """
    # Everything that the checks are given is looked at first: they would else take a refusal for a finding on the model.
    threat = Threat(eps, norm, bounds=bounds)
    eps, bounds = threat.eps, threat.bounds
    # Normalised images are what one of the checks is for, so these may lie outside the bounds.
    x = as_images(x).detach()
    y = as_classes(y, len(x), device=x.device)
    check_generator(generator)
    attacked = len(x) if attacked is None else attacked
    counts = {"steps": steps, "queries": queries, "attacked": attacked, "batch_size": batch_size}
    for name, value in counts.items():
        if name != "attacked" or len(x):
            as_count(value, name)
    done = Progress(progress)
    if not len(x):
        raise InputError("expected a few images to check the attack on; got none.")
    with guarded(model, x, y, generator=generator, refuse_training=False) as (model, x, y):
        logits = logits_of(model, x, batch_size)
        check_logits(logits, y)
        checks = [
            _eval_mode(model),
            _raw_pixels(x, bounds),
            _deterministic(logits, logits_of(model, x, batch_size)),
            check_clean_accuracy(logits, y),
            _are_logits(logits),
        ]
        checks = [replace(check, images=len(x)) for check in checks]
        try:
            checks.append(replace(_gradients(model, x, y, batch_size), images=len(x)))
        except InputError as error:
            sentence = f"No gradient can be followed, and PGD was not tried: {error}"
            return [*checks, Check("gradients", False, sentence, len(x))]

        # The attacks' shares by what an image costs: a gradient takes about as long as two queries.
        x, y = x[:attacked], y[:attacked]
        by_gradients = 2 * steps / (4 * steps + queries)

        # A ball that holds every image: any prediction can be changed in it.
        whole_range = (bounds[1] - bounds[0]) * (1.0 if norm == "linf" else x[0].numel() ** 0.5)
        attack: dict[str, Any] = {"norm": norm, "bounds": bounds, "batch_size": batch_size}
        x_unbounded = pgd(
            model,
            x,
            y,
            whole_range,
            steps=steps,
            relative_step=2 / steps,
            progress=done.part(0.0, by_gradients),
            **attack,
        )
        unbounded = _unbounded(correct(model, x_unbounded, y, batch_size), whole_range)

        x_pgd = pgd(model, x, y, eps, steps=steps, progress=done.part(by_gradients, by_gradients), **attack)
        part = done.part(2 * by_gradients, 1 - 2 * by_gradients)
        x_square = square(model, x, y, eps, queries=queries, generator=generator, progress=part, **attack)
        by_pgd, by_square = (correct(model, x_adv, y, batch_size) for x_adv in (x_pgd, x_square))
        search = _random_search(by_pgd, by_square, steps, queries)
        done(1.0)
        return [*checks, *(replace(check, images=len(x)) for check in (unbounded, search))]


def _eval_mode(model: Model) -> Check:
    layers = layers_in_training(model)
    good = "No layer that behaves differently in training is in training mode."
    bad = f"The model is in training mode ({', '.join(layers[:3])}): call model.eval() and attack again."
    return _check("eval mode", not layers, good, bad)


def _raw_pixels(x: Tensor, bounds: Bounds) -> Check:
    low, high = float(x.min()), float(x.max())
    observed = f"Pixels range from {low:g} to {high:g}"
    return _check(
        "raw pixels",
        low >= 0 and (high <= 1 or bounds[1] > 1),
        f"{observed}.",
        f"{observed}, as after a normalisation: ε is then in units of the standard deviation. Put the normalisation inside "
        "the model.",
    )


def _deterministic(first: Tensor, second: Tensor) -> Check:
    difference = float((first - second).abs().max())
    return _check(
        "deterministic outputs",
        difference <= _SAME_OUTPUT * float(first.abs().max()),
        "The same images give the same logits.",
        f"The same images give logits that differ by {difference:g}: the model is randomised. Attack its mean over many "
        "draws.",
    )


def check_clean_accuracy(logits: Tensor, y: Tensor) -> Check:
    """Check that a model is better than a guess on clean images, from its logits (n, classes) and the classes (n,)."""
    accuracy = proportion(int((logits.argmax(1) == y).sum()), len(y))
    chance = 1 / logits.shape[1]
    observed = f"The model is right on {accuracy} of the images"
    check = _check(
        "clean accuracy",
        accuracy.low > chance,
        f"{observed}.",
        f"{observed}, no more than by guessing ({100 * chance:.1f} %): are its weights loaded, are the classes in the "
        "order that it was trained with, and are the pixels scaled as it expects them? Its normalisation belongs inside "
        "the model.",
    )
    return replace(check, images=len(y))


def _are_logits(logits: Tensor) -> Check:
    probabilities = bool((logits >= 0).all()) and bool((logits.sum(1) - 1).abs().max() < 1e-4)
    return _check(
        "logits",
        not probabilities,
        "The outputs are not probabilities.",
        "The outputs are already probabilities: their cross-entropy is flat where the model is sure. Return the logits, or "
        'attack with loss="margin".',
    )


def _gradients(model: Model, x: Tensor, y: Tensor, batch_size: int) -> Check:
    objective = Objective()
    gradients = [objective.gradient(model, x[batch], y[batch])[0] for batch in batches(len(x), batch_size)]
    largest = torch.cat([gradient.flatten(1).abs().amax(1) for gradient in gradients])
    blind = float((largest == 0).double().mean())
    return _check(
        "gradients",
        blind < _BLIND,
        f"{100 * blind:.1f} % of the images have no gradient.",
        f"{100 * blind:.1f} % of the images have a gradient of exactly zero, which an attack cannot follow: attack with "
        'loss="margin" or "dlr", or with Square.',
    )


def _unbounded(still_right: Tensor, eps: float) -> Check:
    accuracy = float(still_right.double().mean())
    attack = f"PGD with ε = {eps:g}, the whole range of the pixels,"
    return _check(
        "unbounded attack",
        accuracy == 0,
        f"{attack} leaves no prediction right.",
        f"{attack} leaves {100 * accuracy:.1f} % right, although any image may become any other there: the gradients lead "
        "nowhere.",
    )


def _random_search(by_pgd: Tensor, by_square: Tensor, steps: int, queries: int) -> Check:
    """Compare which predictions are still right under PGD and under Square, both (n,) bool."""
    missed = float((by_pgd & ~by_square).double().mean())
    square_is_ahead = paired_difference(by_pgd.cpu().numpy(), by_square.cpu().numpy()).low > 0
    accuracy_pgd, accuracy_square = (100 * float(right.double().mean()) for right in (by_pgd, by_square))
    observed = (
        f"Square with {queries} queries fools {100 * missed:.1f} % of the images that PGD-{steps} does not; accuracy is "
        f"{accuracy_square:.1f} % under it and {accuracy_pgd:.1f} % under PGD."
    )
    advice = 'Square finds what the gradients do not show, so they may be masked: try loss="margin" and more steps.'
    return _check("random search", not square_is_ahead, observed, f"{observed} {advice}")


def _check(name: str, passed: bool, good: str, bad: str) -> Check:
    return Check(name, passed, good if passed else bad)
