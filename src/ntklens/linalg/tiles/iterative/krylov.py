"""Gradient flow and gradient descent without a spectrum: functions of a matrix by Krylov spaces of its shifted inverse.

A predictor that is stopped early has the coefficients g(Θ) y with g(λ) = (1 - e^{-τλ}) / λ. As a function of
b = 1 / (1 + γλ), which is in (0, 1] for all λ ≥ 0, it is smooth, and most so where γ is a tenth of τ. So g(Θ) y is found
by block Lanczos on B = (I + γΘ)⁻¹, which is applied by a factor of Θ + I / γ; a few dozen applications give ten digits
whatever the spectrum is (van den Eshof & Hochbruck 2006). One γ serves all times within two decades.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import NumericalFailure
from ntklens.linalg.filters import Filter, GradientDescent, GradientFlow
from ntklens.progress import Progress, Report

TOLERANCE = 1e-9
"""Change over the last three blocks, relative to the result, at which a result counts as found."""
_SHIFT = 10.0
"""τ / γ for the time in the middle of those that share a γ."""
_DECADES = 2.0
"""How many powers of ten of times share a γ, which costs a factor; a narrower range would save a few applications."""
_LOOK_BACK = 3
"""Blocks whose effect on a result is taken for its error."""
_MOST = 100
"""Blocks of a Krylov space at most."""


Apply = Callable[[Tensor], tuple[Tensor, float]]
"""Applies the shifted inverse, and tells the relative residual."""


class Space:
    """A block Krylov space of B = (I + γΘ)⁻¹ that starts at y, and B within it.

    Args:
        apply: computes B v for v of shape (n, k), and returns the relative residual of the system with it.
        y: (n, O).
        gamma: γ.
        largest: λ_1, beyond which no eigenvalue of Θ is.
    """

    def __init__(self, apply: Apply, y: Float[Tensor, "n O"], gamma: float, largest: float) -> None:
        self.gamma = gamma
        self.largest = largest
        self._apply = apply
        y = y.to(torch.float64)
        block, self._start = _orthonormal(y, float(y.norm()))  # y = Q_1 R
        self._blocks = [block]
        self._projected = torch.zeros(0, 0, dtype=torch.float64)  # Qᵀ B Q of the blocks that B was applied to
        self.applications = 0
        self.inexact = 0.0
        self.is_complete = block.shape[1] == 0

    def copy(self) -> Space:
        """Return a space that grows without a change of this one."""
        twin = copy.copy(self)
        twin._blocks = list(self._blocks)
        return twin

    def grow(self) -> None:
        """Apply B to the last block, and add to the space what is new in the result."""
        last = self._blocks[-1]
        image, residual = self._apply(last)
        self.inexact = max(self.inexact, residual)
        self.applications += 1
        size = float(image.norm())
        # Orthogonalise against all blocks, twice: rounding would lose orthogonality after a few of them.
        parts = [torch.zeros(block.shape[1], last.shape[1], dtype=torch.float64) for block in self._blocks]
        for _ in range(2):
            for block, part in zip(self._blocks, parts, strict=True):
                product = block.T @ image
                image = image - block @ product
                part += product
        column, old = torch.cat(parts), len(self._projected)
        projected = torch.zeros(len(column), len(column), dtype=torch.float64)
        projected[:old, :old] = self._projected
        projected[:, old:] = column
        projected[old:, :] = column.T
        projected[old:, old:] = (column[old:] + column[old:].T) / 2
        self._projected = projected
        block, _ = _orthonormal(image, size)
        self.is_complete = block.shape[1] == 0
        if not self.is_complete:
            self._blocks.append(block)

    def coordinates(self, g: Filter, without: int = 0) -> tuple[Float[Tensor, "size O"], Float[Tensor, "size O"]]:
        """Return g(Θ) y and Θ g(Θ) y in the basis of the space, as they are known without the last few blocks."""
        size = sum(block.shape[1] for block in self._blocks[: self.applications - without])
        values, vectors = torch.linalg.eigh(self._projected[:size, :size])
        # b = 1 / (1 + γλ) ascends, so that λ descends. Rounding moves b by 1e-16, and λ beyond its range.
        eigenvalues = ((1 / values.clamp(min=1e-300) - 1) / self.gamma).clamp(min=0, max=self.largest)
        weights, start = g(eigenvalues)[:, None], vectors[: len(self._start)].T @ self._start
        return vectors @ (weights * start), vectors @ (weights * eigenvalues[:, None] * start)

    def combine(self, coordinates: Tensor) -> Float[Tensor, "n O"]:
        """Return Q c for coordinates c in the basis."""
        result = torch.zeros(len(self._blocks[0]), coordinates.shape[1], dtype=torch.float64)
        start = 0
        for block in self._blocks:
            stop = min(len(coordinates), start + block.shape[1])
            result += block[:, : stop - start] @ coordinates[start:stop]
            start = stop
        return result

    def error(self, filters: Sequence[Filter]) -> float:
        """Return by how much the last three blocks have changed the results; infinite with fewer blocks.

        The change is relative, that of the worst column, of the coefficients and of what they predict for the training
        inputs.
        """
        if self.is_complete:
            return 0.0
        if self.applications <= _LOOK_BACK:
            return math.inf
        return max(
            change for g in filters for change in map(_change, self.coordinates(g, _LOOK_BACK), self.coordinates(g))
        )

    @property
    def rounding(self) -> float:
        """What rounding may add to the error: that of b, 1e-16, beside the smallest b, and that of the applications."""
        return 4 * torch.finfo(torch.float64).eps * (1 + self.gamma * self.largest) + self.inexact

    def until(self, filters: Sequence[Filter], progress: Report | None = None) -> float:
        """Grow until the error of every filter's result is below the tolerance; return it.

        Raises:
            NumericalFailure: the results still change after the most blocks.
        """
        error: float
        while (error := self.error(filters)) > TOLERANCE:
            if self.applications >= _MOST:
                raise NumericalFailure(
                    f"the predictor at this time is not found after {_MOST} applications of the shifted inverse: it still "
                    f"changes by {error:.1e} of itself. Use fewer training inputs, whose whole spectrum fits into memory."
                )
            self.grow()
            Progress(progress)(min(1.0, max(0.0, math.log(min(1.0, max(error, TOLERANCE))) / math.log(TOLERANCE))))
        return error


def duration_of(g: Filter) -> float | None:
    """Return τ, the learning rate times the time, of a filter that stops early; None for other filters."""
    if isinstance(g, GradientFlow) and math.isfinite(g.time):
        return g.learning_rate * g.time
    if isinstance(g, GradientDescent):
        return g.learning_rate * g.steps
    return None


def cell_of(duration: float) -> int:
    """Return the number of the range of times that share a γ."""
    return math.floor(math.log10(duration) / _DECADES)


def gamma_of(cell: int) -> float:
    """Return the γ of a cell."""
    return float(10.0 ** (_DECADES * (cell + 0.5)) / _SHIFT)


def space_of(
    cell: int,
    apply: Apply,
    y: Float[Tensor, "n O"],
    largest: float,
    progress: Report | None = None,
) -> Space:
    """Return the Krylov space in which gradient flow is found for all times of a cell.

    It depends on the cell alone, so that a result has the same bits whichever times were asked for before.

    Args:
        cell: number of the range of times.
        apply: computes (I + γΘ)⁻¹ v, for the γ of the cell, and the residual.
        y: (n, O).
        largest: λ_1.
        progress: called with the share of the digits that are found.
    """
    space = Space(apply, y, gamma_of(cell), largest)
    space.until([GradientFlow(10.0 ** (_DECADES * (cell + part))) for part in (0.0, 0.5, 1.0)], progress)
    return space


def apply_in(space: Space, g: Filter) -> tuple[Float[Tensor, "n O"], float, int]:
    """Compute g(Θ) y in a space, or in a larger one where it is too small for this filter.

    Returns:
        g(Θ) y; its estimated relative error; and how often the shifted inverse was applied.
    """
    own = space.copy()
    error = own.until([g])
    return own.combine(own.coordinates(g)[0]), max(error, own.rounding), own.applications


def descend(multiply: Callable[[Tensor], Tensor], g: GradientDescent, y: Float[Tensor, "n O"]) -> Tensor:
    """Compute the coefficients of gradient descent step by step: α ← α + η (y - Θ α). This is exact."""
    a = torch.zeros_like(y)
    for _ in range(g.steps):
        a = a + g.learning_rate * (y - multiply(a)) if bool(a.any()) else g.learning_rate * y
    return a


def _change(before: Tensor, after: Tensor) -> float:
    """Return the change of the worst column, relative to the column."""
    difference = after.clone()
    difference[: len(before)] -= before
    sizes = after.norm(dim=0)
    return max((difference.norm(dim=0) / sizes)[sizes > 0].tolist(), default=0.0)


def _orthonormal(block: Tensor, size: float) -> tuple[Tensor, Tensor]:
    """Return an orthonormal basis of the columns, and their coordinates in it.

    Args:
        block: (n, k).
        size: what directions are compared with: those that are zero to its rounding are left out.
    """
    basis, triangle = torch.linalg.qr(block)
    left, sizes, _ = torch.linalg.svd(triangle)
    basis = basis @ left[:, : len(sizes)][:, sizes > 1e-14 * len(block) ** 0.5 * size]
    return basis, basis.T @ block
