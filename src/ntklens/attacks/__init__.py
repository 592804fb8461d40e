"""Adversarial attacks on anything that maps images to logits."""

from ntklens.attacks.curve import AttackPoint, accuracy_curve
from ntklens.attacks.diagnose import Check, diagnose
from ntklens.attacks.evaluate import Evaluation, accuracy, correct, evaluate
from ntklens.attacks.gradient import fgsm, pgd
from ntklens.attacks.model import Model, logits_of
from ntklens.attacks.noise import noise
from ntklens.attacks.run import METHODS, AttackResult, attack
from ntklens.attacks.square import square
from ntklens.attacks.threat import Threat

__all__ = [
    "METHODS",
    "AttackPoint",
    "AttackResult",
    "Check",
    "Evaluation",
    "Model",
    "Threat",
    "accuracy",
    "accuracy_curve",
    "attack",
    "correct",
    "diagnose",
    "evaluate",
    "fgsm",
    "logits_of",
    "noise",
    "pgd",
    "square",
]
