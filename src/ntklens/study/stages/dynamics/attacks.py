"""The attacks of trainings and of their tests."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ntklens.attacks import accuracy, fgsm, pgd
from ntklens.study.context import Context
from ntklens.study.spec_dynamics import DynamicsSpec
from ntklens.vocabulary import FGSM, PGD

TrainingAttack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images and classes to the images that the network is trained on."""
_BATCH = 500
"""Images that are attacked at a time; on a processor, thousands at once take more than twice as long."""


def one_step(context: Context) -> TrainingAttack:
    """Return the one-step attack at the radius of the threat model."""
    threat = context.threat
    return lambda model, x, y: fgsm(model, x, y, threat.eps, threat.norm, batch_size=_BATCH)


def several_steps(context: Context, spec: DynamicsSpec) -> TrainingAttack:
    """Return the attack of `spec.attack_steps` steps at the radius of the threat model."""
    threat = context.threat
    steps = spec.attack_steps
    return lambda model, x, y: pgd(model, x, y, threat.eps, threat.norm, steps=steps, batch_size=_BATCH)


def training_attack(name: str, context: Context, spec: DynamicsSpec) -> TrainingAttack | None:
    """Return the attack that makes the images of a training; None for a training on clean images."""
    return {FGSM: one_step(context), PGD: several_steps(context, spec)}.get(name)


def knows_one_step(spec: DynamicsSpec) -> bool:
    """Return whether a training may be on one-step images, and is therefore watched for the signs of its breakdown.

    Nobody knows how checkpoints were trained. The trainings beside a one-step training are measured like it.
    """
    return spec.watch is not None or FGSM in spec.trainings


def scored(spec: DynamicsSpec, n_test: int) -> list[int]:
    """Return which of the test images networks are scored on: for checkpoints a part of them, in even steps."""
    count = n_test if spec.watch is None else min(spec.watch_test, n_test)
    return [place * n_test // count for place in range(count)]


def tests_at(spec: DynamicsSpec, epoch: int) -> bool:
    """Return whether the network is tested under attack after an epoch of the experiment's own trainings."""
    return knows_one_step(spec) or epoch == spec.epochs or (epoch > 0 and epoch % spec.test_every == 0)


def accuracies(
    context: Context, spec: DynamicsSpec, model: nn.Module, *, under_attack: bool = True
) -> dict[str, float]:
    """Return the columns of a network's accuracy on the test images: clean, under several steps, and under one step.

    Args:
        context: the experiment, for images, norm and radius.
        spec: the steps of PGD, and whether one step is asked for (`knows_one_step`).
        model: images to logits.
        under_attack: leave out all but the clean accuracy where this is false.
    """
    x, y = context.test
    places = scored(spec, len(y))
    if len(places) < len(y):
        x, y = x[places], y[places]
    columns = accuracy(model, x, y).row("accuracy")
    if under_attack:
        columns |= accuracy(model, several_steps(context, spec)(model, x, y), y).row("robust_accuracy")
        if knows_one_step(spec):
            columns["one_step_accuracy"] = accuracy(model, one_step(context)(model, x, y), y).value
    return columns
