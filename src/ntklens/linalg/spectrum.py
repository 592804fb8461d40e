"""Eigenpairs of a symmetric matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.linalg.filters import Band, Filter, check_indices


@dataclass(frozen=True)
class Spectrum:
    """Eigenpairs of a matrix, Θ = V diag(λ) Vᵀ, in descending order of the eigenvalues: all n of them or the k largest.

    Attributes:
        eigenvalues: λ, (n,) or (k,), in float64. Eigenvalues that rounding has made negative are zero.
        eigenvectors: V, (n, n) or (n, k), one eigenvector per column.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor

    def __repr__(self) -> str:
        return f"Spectrum({len(self.eigenvalues)} of {len(self.eigenvectors)} eigenvalues)"


def applied(spectrum: Spectrum, g: Filter, y: Float[Tensor, "n O"]) -> Float[Tensor, "n O"]:
    """Compute V g(Λ) Vᵀ y; eigenvectors that are not among those given have weight 0.

    Args:
        spectrum: all eigenpairs, or the leading ones.
        g: the filter.
        y: targets.

    Raises:
        NumericalFailure: the filter inverts eigenvalues that are zero to rounding.
        InputError: a band beyond the eigenpairs.
    """
    v, count = spectrum.eigenvectors, len(spectrum.eigenvalues)
    if isinstance(g, Band):
        check_indices(g.indices, count)
    # Filters judge what is zero to rounding by the size of the matrix, n, so they are given n eigenvalues. The rest are
    # copies of the last one, not zeros, which a filter that inverts them would refuse; their weights are dropped.
    rest = spectrum.eigenvalues[-1:].expand(len(v) - count)
    weights = g(torch.cat([spectrum.eigenvalues, rest]))[:count]
    return v @ (weights[:, None] * (v.T @ y.to(torch.float64)))
