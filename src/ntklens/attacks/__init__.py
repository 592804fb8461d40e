"""Adversarial attacks on anything that maps images to logits."""

from ntklens.attacks.curve import AttackPoint, accuracy_curve
from ntklens.attacks.evaluate import Evaluation, accuracy, correct, evaluate, logits_of
from ntklens.attacks.gradient import Model, fgsm, pgd
from ntklens.attacks.noise import noise

__all__ = [
    "AttackPoint",
    "Evaluation",
    "Model",
    "accuracy",
    "accuracy_curve",
    "correct",
    "evaluate",
    "fgsm",
    "logits_of",
    "noise",
    "pgd",
]
