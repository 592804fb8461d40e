"""Adversarial attacks on anything that maps images to logits: networks, kernel machines, other people's models.

`attack` runs one by name and scores it; `fgsm`, `pgd`, `square` and `noise` return the images alone. The modules, in the
order to read them:

- `threat`: what an attacker may do, a `Threat`; `balls` has the projections and directions of its norms.
- `model`: what an attack sees of a model; `losses` and `objective` say what it ascends and when it has succeeded.
- `ascent`: the loop of the gradient attacks: gradient, step, projection. Beside it stand `active` (early stopping) and
  `transforms` (momentum, diverse inputs, translation); `gradient` has its public forms `fgsm` and `pgd`.
- `square`: a random search without gradients. `noise`: the control without an adversary.
- `evaluate`, `run`, `curve`: scores of attacked images, an attack from start to score, accuracy against ε.
- `diagnose`: reasons not to trust a robust accuracy. `checks`: arguments that are refused.
"""

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
