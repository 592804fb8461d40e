"""The largest eigenpairs of a symmetric matrix of which only products are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg.spectrum import Spectrum
from ntklens.progress import Report

_WIDEST = 128
"""Columns of a block at most. An eigenvalue of a higher multiplicity may be found with fewer of its copies."""
_SPARE = 8
"""Columns of a block beyond the eigenpairs that are asked for: they make the others converge in fewer products."""
_MOST = 500
"""Products after which the iteration is given up."""


def leading_pairs(
    multiply: Callable[[Tensor], Tensor],
    n: int,
    count: int,
    *,
    tolerance: float = 1e-10,
    progress: Report | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Spectrum, Float[Tensor, " count"]]:
    """Compute the `count` largest eigenvalues of a symmetric matrix Θ and their eigenvectors.

    Block Lanczos with full orthogonalisation and thick restarts (Wu & Simon 2000): Rayleigh-Ritz on a basis Q that grows by
    a block per product. ΘQ is kept beside Q, so that residuals need no product of their own, and a block that lost its
    rank is filled up with random vectors without harm. A block has as many columns as there are eigenpairs to be found, up
    to 128, because a Krylov space contains no more copies of a multiple eigenvalue than its block has columns.

    Args:
        multiply: computes Θ X in float64 for X of shape (n, k).
        n: rows of Θ.
        count: number of eigenpairs.
        tolerance: of the residuals, relative to λ_1.
        progress: called with a share from 0 to 1, by the digits of the largest residual.
        generator: draws the first block; seeded with 0 by default, so that every run gives the same bits.

    Returns:
        The eigenpairs, and |Θ v - λ v| / λ_1 for each of them.

    Raises:
        InputError: `count` is not between 1 and n.
        NumericalFailure: the residuals stay above the tolerance.
    """
    if not 1 <= count <= n:
        raise InputError(f"expected from 1 to {n} eigenvectors, as many as training inputs at most; got {count}.")
    generator = torch.Generator().manual_seed(0) if generator is None else generator
    width = min(n, count + _SPARE, _WIDEST)
    most = min(n, count + 3 * width)
    # A basis that is nearly complete is worth completing: Rayleigh-Ritz on all of it is exact.
    most = n if n - most < width else most
    basis = torch.empty(n, most, dtype=torch.float64)
    image = torch.empty(n, most, dtype=torch.float64)  # Θ Q
    projected = torch.zeros(most, most, dtype=torch.float64)  # Qᵀ Θ Q
    block = _orthonormal(torch.randn(n, width, generator=generator, dtype=torch.float64), basis[:, :0], generator)
    used, worst, share = 0, math.inf, 0.0
    for _ in range(_MOST):
        end = used + block.shape[1]
        basis[:, used:end] = block
        image[:, used:end] = multiply(block)
        projected[:end, used:end] = basis[:, :end].T @ image[:, used:end]
        projected[used:end, :used] = projected[:used, used:end].T
        corner = projected[used:end, used:end]
        projected[used:end, used:end] = (corner + corner.T) / 2
        last, used = slice(used, end), end
        values, rotation = torch.linalg.eigh(projected[:used, :used])
        values, rotation = values.flip(0), rotation.flip(1)
        if used >= count:
            leading = rotation[:, :count]
            vectors = basis[:, :used] @ leading
            errors = (image[:, :used] @ leading - vectors * values[:count]).norm(dim=0)
            # Relative to λ_1; a matrix of zeros has residuals of zero.
            residuals = errors / max(float(values.abs().max()), torch.finfo(torch.float64).tiny)
            worst = float(residuals.max())
            if progress is not None:
                share = max(share, min(1.0, math.log(max(worst, tolerance)) / math.log(tolerance)))
                progress(share)
            if worst <= tolerance or used == n:
                return Spectrum(values[:count].clamp(min=0), vectors), residuals
        # The next block of the Krylov space: the part of Θ Q_last that Q does not have. Its directions are the residuals of
        # all Ritz vectors, so that it also continues the space after a restart.
        block = _orthonormal(image[:, last], basis[:, :used], generator)
        if used + block.shape[1] > most and most < n:
            kept = min(count + width, most - width)
            basis[:, :kept] = basis[:, :used] @ rotation[:, :kept]
            image[:, :kept] = image[:, :used] @ rotation[:, :kept]
            projected.zero_()
            projected[:kept, :kept] = torch.diag(values[:kept])
            used = kept
    raise NumericalFailure(
        f"the {count} largest eigenvalues did not converge in {_MOST} products: their residuals are {worst:.1e} of the "
        f"largest eigenvalue, and {tolerance:.1e} is asked for. Ask for fewer eigenvectors."
    )


def _orthonormal(block: Tensor, basis: Tensor, generator: torch.Generator) -> Tensor:
    """Return an orthonormal block that is orthogonal to the basis, with what the given block adds to it first.

    Directions that rounding made, or that are not there, are replaced by random ones.
    """
    n, used = basis.shape
    block = block[:, : n - used].clone()
    for _ in range(5):
        # Subtract what lies in the basis, and do so again on columns of length 1: twice is enough (Giraud et al. 2005).
        block -= basis @ (basis.T @ block)
        block = torch.linalg.qr(block).Q
        block -= basis @ (basis.T @ block)
        # A column that is short now was noise that lay in the basis.
        poor = (block.norm(dim=0) < 0.5).nonzero().flatten()
        if not len(poor):
            break
        block[:, poor] = torch.randn(n, len(poor), generator=generator, dtype=torch.float64)
    block = torch.linalg.qr(block).Q
    block -= basis @ (basis.T @ block)
    clean: Tensor = torch.linalg.qr(block).Q
    return clean
