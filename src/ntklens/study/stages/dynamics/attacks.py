"""The attacks of trainings and of their tests."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ntklens.attacks import accuracy, fgsm, pgd
from ntklens.study.context import Context
from ntklens.study.spec import DynamicsSpec
from ntklens.vocabulary import FGSM, PGD

TrainingAttack = Callable[[nn.Module, Tensor, Tensor], Tensor]
"""From a network, images and classes to the images that the network is trained on."""


def one_step(context: Context) -> TrainingAttack:
    """Return the one-step attack at the radius of the threat model."""
    threat = context.threat
    return lambda model, x, y: fgsm(model, x, y, threat.eps, threat.norm)


def several_steps(context: Context, spec: DynamicsSpec) -> TrainingAttack:
    """Return the attack of `spec.attack_steps` steps at the radius of the threat model."""
    threat = context.threat
    return lambda model, x, y: pgd(model, x, y, threat.eps, threat.norm, steps=spec.attack_steps)


def training_attack(name: str, context: Context, spec: DynamicsSpec) -> TrainingAttack | None:
    """Return the attack that makes the images of a training; None for a training on clean images."""
    return {FGSM: one_step(context), PGD: several_steps(context, spec)}.get(name)


def accuracies(context: Context, spec: DynamicsSpec, model: nn.Module) -> dict[str, float]:
    """Return the columns of a network's accuracy on the test images: clean, under several steps, and under one step."""
    x, y = context.test
    clean = accuracy(model, x, y)
    robust = accuracy(model, several_steps(context, spec)(model, x, y), y)
    under_one_step = accuracy(model, one_step(context)(model, x, y), y)
    columns = clean.row("accuracy") | robust.row("robust_accuracy")
    return columns | {"one_step_accuracy": under_one_step.value}
