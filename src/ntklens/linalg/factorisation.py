"""A symmetric positive semidefinite matrix, factored once and applied often."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ntklens.errors import NumericalFailure
from ntklens.linalg.filters import Filter, Ridge, rounding_floor


@dataclass(frozen=True)
class Spectrum:
    """Θ = V diag(λ) Vᵀ with the eigenvalues largest first.

    Attributes:
        eigenvalues: (n,), float64; what rounding left below zero is zero.
        eigenvectors: (n, n), one a column.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor


class Factorisation:
    """Cholesky factors and the spectrum of one matrix, each computed when first asked for and then kept.

    Args:
        matrix: (n, n), symmetric; it is held in float64.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix.to(torch.float64)
        self._spectrum: Spectrum | None = None
        self._cholesky: dict[float, Tensor] = {}

    @property
    def spectrum(self) -> Spectrum:
        """The eigendecomposition; cost 9 n³ once."""
        if self._spectrum is None:
            values, vectors = torch.linalg.eigh(self.matrix)
            self._spectrum = Spectrum(values.flip(0).clamp(min=0), vectors.flip(1))
        return self._spectrum

    def solve(self, rho: float, y: Tensor) -> Tensor:
        """(Θ + ρ I)⁻¹ y by Cholesky; cost n³/3 once for each ρ.

        Raises:
            NumericalFailure: the matrix is singular to rounding.
        """
        if rho not in self._cholesky:
            shifted = self.matrix.clone()
            shifted.diagonal().add_(rho)
            factor, info = torch.linalg.cholesky_ex(shifted)
            pivot = float(factor.diagonal().min()) ** 2
            if int(info) or not pivot > rounding_floor(float(shifted.diagonal().max()), len(shifted)):
                raise NumericalFailure(
                    f"the kernel matrix is not positive definite to rounding (ridge {rho:g}): are there duplicate "
                    "inputs? Use a larger ridge, such as Ridge(1e-6), or a finite time."
                )
            self._cholesky[rho] = factor
        return torch.cholesky_solve(y.to(torch.float64), self._cholesky[rho])

    def apply(self, g: Filter, y: Tensor) -> Tensor:
        """V g(Λ) Vᵀ y: (n, O). Ridge filters need no spectrum; the others do."""
        if isinstance(g, Ridge) and self._spectrum is None:
            return self.solve(g.rho, y)
        s = self.spectrum
        return s.eigenvectors @ (g(s.eigenvalues)[:, None] * (s.eigenvectors.T @ y.to(torch.float64)))
