"""Certificates against wrong training labels: how many have to be changed before a prediction does.

The outputs of a kernel machine are linear in its targets, f(x) = b(x) Y with b(x) = Θ(x, X) V g(Λ) Vᵀ. So every changed
label moves an output by an amount of its own, whatever the other labels are, and the worst set of r changes is that of the
r largest moves, which is exact (Sabanayagam et al. 2024, LabelCert, and its scalable successor have certificates of this
kind for support vector machines and through the NTK). `collective` bounds what one set of changes does to many predictions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ntklens.arguments import as_classes, as_count, check_range
from ntklens.errors import InputError
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate, proportion
from ntklens.targets import class_labels, class_logits

_SLACK = 1e-12
"""Part of Σ|b| |Y| that a margin may be smaller by, for rounding."""
NEVER = -1
"""Number of changes where no number of them changes a prediction."""


@dataclass(frozen=True)
class LabelFlips:
    """How many training labels have to be changed before each prediction does.

    Attributes:
        needed: (m,), the smallest number of changed labels that changes the prediction, or leaves it a tie; `NEVER` (-1)
            where none does. The prediction is certified against one fewer.
        predictions: (m,), the predicted classes.
        training: number of training labels.
        classes: number of classes.
    """

    needed: Int[Tensor, " m"]
    predictions: Int[Tensor, " m"]
    training: int
    classes: int

    def certified(self, flips: int) -> Bool[Tensor, " m"]:
        """Return which predictions stay, whichever labels are changed, up to this number of them."""
        flips = as_count(flips, "flips", least=0)
        return (self.needed == NEVER) | (self.needed > flips)

    def accuracy(self, y: Int[Tensor, " m"], flips: int) -> Estimate:
        """Return the share of predictions that are right and certified, with its 95 % interval."""
        y = as_classes(y, len(self.predictions), device=self.predictions.device)
        check_range(y, self.classes)
        held = self.certified(flips) & (self.predictions == y)
        return proportion(int(held.sum()), len(held))

    def __repr__(self) -> str:
        finite = self.needed[self.needed != NEVER]
        middle = f", median {int(finite.median())}" if len(finite) else ""
        return f"LabelFlips({len(self.needed)} predictions, {self.training} training labels{middle})"


def label_flips(machine: KernelMachine, x: Float[Tensor, "m *shape"]) -> LabelFlips:
    """Count how many training labels have to be changed before each prediction of a machine does; exact.

    Any label may become any other class. The filter stays what it is: one that was chosen by the labels would have to be
    chosen again.

    Args:
        machine: a machine fitted on class indices, with any filter.
        x: images.

    Raises:
        InputError: the machine was fitted on other targets than classes.
    """
    problem = Problem.of(machine, x)
    needed = torch.full((len(problem.predictions),), NEVER)
    for rival in range(problem.classes):
        fall, gap = problem.falls(rival)
        reached = fall.clamp(min=0.0).sort(dim=1, descending=True).values.cumsum(1) >= gap[:, None]
        count = torch.where(reached.any(1), reached.int().argmax(1) + 1, NEVER)
        # A tie needs no change at all.
        count = torch.where(gap <= 0, torch.zeros_like(count), count)
        count[problem.predictions == rival] = NEVER
        better = (count != NEVER) & ((needed == NEVER) | (count < needed))
        needed = torch.where(better, count, needed)
    return LabelFlips(needed, problem.predictions, len(problem.labels), problem.classes)


@dataclass(frozen=True)
class Problem:
    """Predictions as linear functions of the training targets.

    Attributes:
        weights: b(x), (m, n).
        labels: (n,), the training labels.
        logits: (m, classes).
        predictions: (m,).
        classes: number of classes.
    """

    weights: Tensor
    labels: Tensor
    logits: Tensor
    predictions: Tensor
    classes: int

    @classmethod
    def of(cls, machine: KernelMachine, x: Tensor) -> Problem:
        """Return the predictions of a machine at images, as functions of its targets."""
        if not isinstance(machine, KernelMachine):
            raise InputError(f"expected machine as a KernelMachine; got {type(machine).__name__}.")
        weights, targets = machine.readout(x), machine.targets
        classes = max(2, targets.shape[1])
        labels = class_labels(targets)
        if labels is None:
            raise InputError(
                "expected a machine that was fitted on class indices, whose labels can change; got one on other targets."
            )
        logits = class_logits(weights @ targets)
        return cls(weights, labels, logits, logits.argmax(1), classes)

    def falls(self, rival: int) -> tuple[Tensor, Tensor]:
        """Return by how much a change of each label can bring a rival nearer, (m, n), and how far the rival is, (m,).

        Where the rival is the prediction itself, the rows have no meaning.
        """
        b, y, p = self.weights, self.labels, self.predictions[:, None]
        if self.classes == 2:
            # The margin is |f|, and a flip of y_i moves f by -2 b_i y_i.
            sign = 2.0 * p - 1
            falls = 2 * sign * b * (2.0 * y - 1)
        else:
            # With a positive b the label becomes the rival: 2 b from the prediction, nothing from the rival itself, b from
            # others. With a negative one it becomes the prediction, likewise.
            from_prediction, from_rival = y == p, y == rival
            up = torch.where(from_prediction, 2.0, torch.where(from_rival, 0.0, 1.0))
            down = torch.where(from_rival, 2.0, torch.where(from_prediction, 0.0, 1.0))
            falls = torch.where(b > 0, up * b, down * b.abs())
        return falls, self.gap(rival)

    def gap(self, rival: int) -> Tensor:
        """Return how far a rival is from the prediction, (m,), less what rounding may be."""
        gap = self.logits.gather(1, self.predictions[:, None])[:, 0] - self.logits[:, rival]
        return gap - _SLACK * self.weights.abs().sum(1)
