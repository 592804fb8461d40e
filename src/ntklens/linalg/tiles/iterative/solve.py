"""(Θ + ρ I)⁻¹ y from products with Θ, some of its rows and its diagonal: what a store and a cluster have in common."""

from __future__ import annotations

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from ntklens.linalg.filters import rounding_floor
from ntklens.linalg.tiles.base import Entries, Solution
from ntklens.linalg.tiles.iterative.checkpoint import Checkpoint
from ntklens.linalg.tiles.iterative.conjugate_gradients import conjugate_gradients
from ntklens.linalg.tiles.iterative.pivoted_cholesky import PROPOSED, Preconditioner, pivoted_cholesky
from ntklens.progress import Progress, Report

MOST = 2000
"""Products with the matrix at most, for one solution."""


def rank_for(n: int, room: int) -> int:
    """Return the rank of a preconditioner of n rows that is computed within so many bytes.

    8 √n costs about as much as a few dozen products with the matrix, and saves more of them (Díaz et al. 2023, section 2.2,
    recommend from √n to 10 √n).
    """
    # The factor, its QR decomposition and its singular vectors; and the rows of the pivots that are proposed at once.
    columns = (room // (8 * n) - 2 * PROPOSED) // 3
    return max(0, min(n, round(8 * math.sqrt(n)), columns))


def preconditioner_of(entries: Entries, diagonal: Float[Tensor, " n"], rank: int) -> Preconditioner:
    """Compute a preconditioner of Θ at a cost of r n entries and about 6 r² n operations.

    Args:
        entries: of Θ, for the rows of the pivots.
        diagonal: of Θ.
        rank: r.
    """
    return Preconditioner(pivoted_cholesky(entries, diagonal, rank), 0.0)


def solve_by_products(
    multiply: Callable[[Tensor], Tensor],
    preconditioner: Preconditioner,
    rho: float,
    y: Float[Tensor, "n O"],
    *,
    progress: Report | None = None,
    checkpoint: Checkpoint | None = None,
) -> Solution:
    """Compute (Θ + ρ I)⁻¹ y by conjugate gradients with a preconditioner of low rank.

    Args:
        multiply: computes Θ P.
        preconditioner: of Θ, from `preconditioner_of`; it serves every ridge.
        rho: ρ.
        y: right-hand sides, in float64.
        progress: called with a share from 0 to 1.
        checkpoint: where the state is kept, and looked for at the start.

    Raises:
        NumericalFailure: Θ + ρ I is singular to rounding, or the iteration does not converge.
    """
    whole = Progress(progress)
    precondition = preconditioner.with_ridge(rho)
    x, residuals, steps = conjugate_gradients(
        lambda p: multiply(p) + rho * p,
        y,
        precondition,
        most=MOST,
        floor=rounding_floor(precondition.largest + rho, len(y)),
        progress=whole,
        start=None if checkpoint is None else checkpoint.load(),
        save=None if checkpoint is None else checkpoint.save,
    )
    if checkpoint is not None:
        checkpoint.remove()
    whole(1.0)
    return Solution(
        coefficients=x,
        method=f"conjugate gradients, preconditioned by randomly pivoted Cholesky of rank {precondition.rank}",
        residual=float(residuals.max()) if residuals.numel() else 0.0,
        jitter=precondition.mu - rho,
        iterations=steps,
    )
