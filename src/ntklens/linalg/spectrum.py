"""Eigenpairs of a symmetric matrix."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


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
