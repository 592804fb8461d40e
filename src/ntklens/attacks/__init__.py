"""Adversarial attacks on anything that maps images to logits."""

from ntklens.attacks.evaluate import Evaluation, accuracy, correct, evaluate, logits_of
from ntklens.attacks.gradient import Model, fgsm, pgd
from ntklens.attacks.noise import noise

__all__ = ["Evaluation", "Model", "accuracy", "correct", "evaluate", "fgsm", "logits_of", "noise", "pgd"]
