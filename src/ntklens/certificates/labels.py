"""Certificates against wrong training labels: how many have to be changed before a prediction does.

The outputs of a kernel machine are linear in its targets, f(x) = b(x) Y with b(x) = Θ(x, X) V g(Λ) Vᵀ. So every changed
label moves an output by an amount of its own, whatever the other labels are, and the worst set of r changes is that of the
r largest moves. That is exact for one prediction. For a whole set of predictions, which one set of changes has to fool
together, it is an integer program, whose linear relaxation is a bound (Sabanayagam et al. 2024, LabelCert, and its scalable
successor, have certificates of this kind for support vector machines and through the NTK).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ntklens.arguments import as_classes, as_count, check_range
from ntklens.errors import InputError, NumericalFailure
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
    problem = _Problem.of(machine, x)
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
class CollectiveFlips:
    """How many of a set of right predictions one set of changed labels can change together.

    Attributes:
        flips: number of labels that may be changed.
        right: number of predictions that are right before.
        total: number of predictions.
        changed: the most right predictions that can be changed: exact, or an upper bound that no set of changes exceeds.
        is_exact: whether it is exact.
    """

    flips: int
    right: int
    total: int
    changed: int
    is_exact: bool

    @property
    def certified_accuracy(self) -> float:
        """The share of predictions that stay right, at least."""
        return (self.right - self.changed) / self.total


def collective_flips(
    machine: KernelMachine,
    x: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    flips: int,
    *,
    exact: bool = False,
) -> CollectiveFlips:
    """Bound how many right predictions of a set one set of changed training labels can change together.

    It is never more than the number of predictions that are not certified one by one, and mostly much less, because the
    labels that change one prediction are not those that change another one. Two classes alone are covered.

    Args:
        machine: a machine of two classes, fitted on class indices.
        x: images.
        y: their classes.
        flips: number of labels that may be changed.
        exact: solve the integer program, which may take very long; by default its linear relaxation, in seconds for some
            hundreds of images.

    Raises:
        InputError: more than two classes, or arguments that do not fit.
        NumericalFailure: the program is not solved.
    """
    flips = as_count(flips, "flips", least=0)
    problem = _Problem.of(machine, x)
    if problem.classes > 2:
        raise InputError(f"expected a machine of two classes; got {problem.classes}. label_flips takes any number.")
    y = as_classes(y, len(problem.predictions))
    check_range(y, 2)
    right = problem.predictions == y
    alone = label_flips(machine, x).needed
    open_ = right & (alone != NEVER) & (alone <= flips)
    count = int(open_.sum())
    if not count or not flips:
        changed = int((right & (alone == 0)).sum())
        return CollectiveFlips(flips, int(right.sum()), len(y), changed, is_exact=True)
    falls = torch.where(problem.predictions[:, None] == 0, problem.falls(1)[0], problem.falls(0)[0])[open_].numpy()
    gaps = torch.where(problem.predictions == 0, problem.falls(1)[1], problem.falls(0)[1])[open_].numpy()
    # Σ_i fall_ti w_i + L_t ≥ (gap_t + L_t) z_t, where L_t is what the changes may add to a margin at most.
    added = -np.sort(falls.clip(max=0.0), axis=1)[:, :flips].sum(1)
    # The solver's tolerances are absolute, and outputs may be small.
    sizes = np.maximum(np.abs(falls).max(axis=1), np.abs(gaps) + added)[:, None]
    program = _Program(falls / sizes, gaps / sizes[:, 0], added / sizes[:, 0], flips)
    changed = program.solved() if exact else program.bounded()
    return CollectiveFlips(flips, int(right.sum()), len(y), min(changed, count), is_exact=exact)


@dataclass(frozen=True)
class _Program:
    """max Σ_t z_t with Σ_i fall_ti w_i + L_t ≥ (gap_t + L_t) z_t and Σ_i w_i ≤ r, for w and z in {0, 1}.

    Attributes:
        falls: (T, n).
        gaps: (T,).
        added: L, (T,).
        flips: r.
    """

    falls: NDArray[np.float64]
    gaps: NDArray[np.float64]
    added: NDArray[np.float64]
    flips: int

    def solved(self) -> int:
        """Solve the integer program."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import

        count, n = self.falls.shape
        found = milp(
            c=np.concatenate([np.zeros(n), -np.ones(count)]),
            constraints=[
                LinearConstraint(np.hstack([self.falls, -np.diag(self.gaps + self.added)]), lb=-self.added, ub=np.inf),
                LinearConstraint(np.concatenate([np.ones(n), np.zeros(count)])[None], lb=0, ub=self.flips),
            ],
            bounds=Bounds(0, 1),
            integrality=np.ones(n + count),
            options={"mip_rel_gap": 0.0},
        )
        self._check(found)
        return round(-float(found.fun))

    def bounded(self) -> int:
        """Bound the program from above by the multipliers of its linear relaxation.

        Any λ ≥ 0 for the first constraints is a proof: Σ_t (1 - λ_t (gap_t + L_t))₊ + Σ_t λ_t L_t + the r largest
        (Σ_t λ_t fall_ti)₊. So nothing depends on how exactly the relaxation is solved.
        """
        from scipy.optimize import linprog  # slow to import

        count, n = self.falls.shape
        found = linprog(
            c=np.concatenate([np.zeros(n), -np.ones(count)]),
            A_ub=np.vstack([
                np.hstack([-self.falls, np.diag(self.gaps + self.added)]),
                np.concatenate([np.ones(n), np.zeros(count)]),
            ]),
            b_ub=np.append(self.added, self.flips),
            bounds=(0, 1),
            method="highs",
        )  # fmt: skip
        self._check(found)
        multipliers = np.clip(-found.ineqlin.marginals[:count], 0.0, None)
        worth = np.sort((multipliers @ self.falls).clip(min=0.0))[::-1][: self.flips].sum()
        bound = (1 - multipliers * (self.gaps + self.added)).clip(min=0.0).sum() + multipliers @ self.added + worth
        # Whole predictions change; the rest is for the rounding of the sums.
        return int(np.floor(bound + 1e-6))

    def _check(self, found: Any) -> None:
        if found.status != 0:
            raise NumericalFailure(f"the program of {len(self.falls)} predictions is not solved: {found.message}.")


@dataclass(frozen=True)
class _Problem:
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
    def of(cls, machine: KernelMachine, x: Tensor) -> _Problem:
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
        gap = self.logits.gather(1, p)[:, 0] - self.logits[:, rival]
        return falls, gap - _SLACK * b.abs().sum(1)
