"""Certificates of a set of predictions against wrong training labels that have to serve all of them together.

The labels that change one prediction best are not those that change another one. What one set of r changes can do at most
is an integer program, whose linear relaxation is a bound. With w_ic for "image i gets the label c", z_tk for "class k
overtakes the prediction t", b_ti the weight of target i in prediction t, and s(c) = 1 for the predicted class, -1 for k and
0 for others:

    max Σ_t z_t,   z_t ≤ Σ_k z_tk,   Σ_ic fall w + L_tk ≥ (gap_tk + L_tk) z_tk,   fall = b_ti (s(y_i) - s(c)),
    Σ_c w_ic ≤ 1,   Σ w ≤ r,

where L_tk is what r changes can add to a margin at most. z_tk = 0 where no r changes let k overtake t alone: so the bound
is never worse than the certificates of single predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from ntklens.arguments import as_classes, as_count, check_range
from ntklens.certificates.labels import Problem
from ntklens.errors import InputError, NumericalFailure
from ntklens.machine import KernelMachine

_MOST_ENTRIES = 1 << 28
"""Entries of the program's matrix, without those that are zero, that fit the memory: 3 GB with their places."""


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
    labels that change one prediction are not those that change another one.

    Args:
        machine: a machine fitted on class indices.
        x: images.
        y: their classes.
        flips: number of labels that may be changed, each to any other class.
        exact: solve the integer program, which may take very long; by default its linear relaxation, in seconds for some
            hundreds of images and two classes, in minutes for more.

    Raises:
        InputError: arguments that do not fit, or a program that is too large.
        NumericalFailure: the program is not solved.
    """
    flips = as_count(flips, "flips", least=0)
    problem = Problem.of(machine, x)
    y = as_classes(y, len(problem.predictions))
    check_range(y, problem.classes)
    right = problem.predictions == y
    owners, rivals = _open_pairs(problem, right, flips)
    if not len(owners):
        return CollectiveFlips(flips, int(right.sum()), len(y), 0, is_exact=True)
    if not flips:  # what is open without a change is a tie
        return CollectiveFlips(flips, int(right.sum()), len(y), len(set(owners.tolist())), is_exact=True)
    program = _program(problem, owners, rivals, flips)
    count = len(set(owners.tolist()))
    changed = program.solved() if exact else program.bounded()
    return CollectiveFlips(flips, int(right.sum()), len(y), min(changed, count), is_exact=exact)


def _open_pairs(problem: Problem, right: Tensor, flips: int) -> tuple[Tensor, Tensor]:
    """Return the right predictions and the rivals that can overtake them one by one: positions and classes, (R,) each."""
    owners, rivals = [], []
    for rival in range(problem.classes):
        falls, gap = problem.falls(rival)
        most = falls.clamp(min=0.0).topk(min(flips, falls.shape[1]), dim=1).values.sum(1)
        is_open = right & (problem.predictions != rival) & (most >= gap)
        owners.append(is_open.nonzero().flatten())
        rivals.append(torch.full_like(owners[-1], rival))
    return torch.cat(owners), torch.cat(rivals)


def _program(problem: Problem, owners: Tensor, rivals: Tensor, flips: int) -> _Program:
    """Return the program of the open pairs of a prediction and a rival."""
    from scipy.sparse import csr_array  # slow to import

    n, classes = problem.weights.shape[1], problem.classes
    rows, added, gaps, of_each = [], [], [], []
    entries = 0
    for owner, rival in zip(owners.tolist(), rivals.tolist(), strict=True):
        predicted = int(problem.predictions[owner])
        s = torch.zeros(classes, dtype=torch.float64)
        s[predicted], s[rival] = 1.0, -1.0
        falls = problem.weights[owner, :, None] * (
            s[problem.labels][:, None] - s
        )  # (n, classes); 0 for the label itself
        adds = float(falls.neg().amax(1).clamp(min=0.0).topk(min(flips, n)).values.sum())
        gap = float(problem.gap(rival)[owner])
        # The solver's tolerances are absolute, and outputs may be small.
        size = max(float(falls.abs().max()), abs(gap) + adds, 1e-300)
        rows.append(csr_array((falls / size).reshape(1, -1).numpy()))
        entries += rows[-1].nnz
        if entries > _MOST_ENTRIES:
            raise InputError(
                f"the program of {len(owners):,} pairs of a prediction and a rival class against {n:,} training labels is "
                "too large. Give fewer images or flips."
            )
        added.append(adds / size)
        gaps.append(gap / size)
        of_each.append(owner)
    _, places = np.unique(np.array(of_each), return_inverse=True)
    return _Program(rows, np.array(gaps), np.array(added), places, n, classes, flips)


@dataclass(frozen=True)
class _Program:
    """The program of the module's text, of R open pairs of a prediction and a rival, and T predictions.

    Attributes:
        falls: R sparse rows (1, n * classes).
        gaps: (R,).
        added: L, (R,).
        owners: (R,), the prediction of each pair, from 0 to T - 1.
        n: number of training labels.
        classes: number of classes.
        flips: r.
    """

    falls: list[Any]
    gaps: NDArray[np.float64]
    added: NDArray[np.float64]
    owners: NDArray[np.int64]
    n: int
    classes: int
    flips: int

    def _constraints(self) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
        """Return A, b and c of min c v with A v ≤ b, for the variables v = (w, z_tk, z_t)."""
        from scipy import sparse  # slow to import

        pairs, count, labels = len(self.gaps), int(self.owners.max()) + 1, self.n * self.classes
        of_owner = sparse.csr_array((np.ones(pairs), (self.owners, np.arange(pairs))), shape=(count, pairs))
        of_image = sparse.kron(sparse.eye_array(self.n), np.ones((1, self.classes)))
        blocks = [
            [-sparse.vstack(self.falls), sparse.diags_array(self.gaps + self.added), None],
            [None, -of_owner, sparse.eye_array(count)],
            [of_image, None, None],
            [sparse.csr_array(np.ones((1, labels))), None, None],
        ]
        limits = [self.added, np.zeros(count), np.ones(self.n), np.array([float(self.flips)])]
        cost = np.concatenate([np.zeros(labels + pairs), -np.ones(count)])
        return sparse.block_array(blocks, format="csr"), np.concatenate(limits), cost

    def solved(self) -> int:
        """Solve the integer program."""
        from scipy.optimize import Bounds, LinearConstraint, milp  # slow to import

        matrix, limits, cost = self._constraints()
        found = milp(
            c=cost,
            constraints=LinearConstraint(matrix, lb=-np.inf, ub=limits),
            bounds=Bounds(0, 1),
            integrality=np.ones(len(cost)),
            options={"mip_rel_gap": 0.0},
        )
        self._check(found)
        return round(-float(found.fun))

    def bounded(self) -> int:
        """Bound the program from above by the multipliers of its linear relaxation.

        Any λ ≥ 0 for the constraints on margins is a proof: Σ_t (1 - min_k λ_tk (gap_tk + L_tk))₊ + Σ_tk λ_tk L_tk + the r
        largest max_c (Σ_tk λ_tk fall_tk,ic)₊. So nothing depends on how exactly the relaxation is solved.
        """
        from scipy.optimize import linprog  # slow to import

        matrix, limits, cost = self._constraints()
        found = linprog(c=cost, A_ub=matrix, b_ub=limits, bounds=(0, 1), method="highs")
        self._check(found)
        pairs = len(self.gaps)
        multipliers = np.clip(-found.ineqlin.marginals[:pairs], 0.0, None)
        worth = sum((m * row for m, row in zip(multipliers, self.falls, strict=True) if m), 0 * self.falls[0])
        best = worth.toarray().reshape(self.n, self.classes).max(axis=1).clip(min=0.0)
        price = np.full(int(self.owners.max()) + 1, np.inf)
        np.minimum.at(price, self.owners, multipliers * (self.gaps + self.added))
        bound = (1 - price).clip(min=0.0).sum() + multipliers @ self.added + np.sort(best)[::-1][: self.flips].sum()
        # Whole predictions change; the rest is for the rounding of the sums.
        return int(np.floor(bound + 1e-6))

    def _check(self, found: Any) -> None:
        if found.status != 0:
            raise NumericalFailure(f"the program of {len(self.gaps)} pairs is not solved: {found.message}.")
