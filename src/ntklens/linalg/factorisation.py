"""A symmetric positive semidefinite matrix, factored once and applied often."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.sparse.linalg import eigsh
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure
from ntklens.linalg.filters import Band, Filter, Ridge, rounding_floor


@dataclass(frozen=True)
class Spectrum:
    """Θ = V diag(λ) Vᵀ with the eigenvalues largest first.

    Attributes:
        eigenvalues: (n,), float64, or the first of them; what rounding left below zero is zero.
        eigenvectors: (n, n), one a column, or as many.
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
        self._leading: Spectrum | None = None
        self._cholesky: dict[float, Tensor] = {}

    @property
    def spectrum(self) -> Spectrum:
        """The eigendecomposition; cost 9 n³ once."""
        if self._spectrum is None:
            values, vectors = torch.linalg.eigh(self.matrix)
            self._spectrum = Spectrum(values.flip(0).clamp(min=0), vectors.flip(1))
        return self._spectrum

    def leading(self, count: int) -> Spectrum:
        """The largest `count` eigenvalues and their vectors; by Lanczos (ARPACK) where that is much less than all.

        Raises:
            InputError: not from 1 to n of them.
        """
        n = len(self.matrix)
        if not 1 <= count <= n:
            raise InputError(f"from 1 to {n} eigenvectors, one a training input, were expected; {count} came.")
        if self._spectrum is not None or count > n // 10:
            return _first(self.spectrum, count)
        if self._leading is None or len(self._leading.eigenvalues) < count:
            start = torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            values, vectors = eigsh(self.matrix.cpu().numpy(), count, which="LA", v0=start.numpy())
            order = values.argsort()[::-1]
            found = (
                torch.from_numpy(part.copy()).to(self.matrix.device) for part in (values[order], vectors[:, order])
            )
            self._leading = Spectrum(*found)
        return _first(self._leading, count)

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
        s, n = self._enough(g), len(self.matrix)
        weights = g(torch.nn.functional.pad(s.eigenvalues, (0, n - len(s.eigenvalues))))[: len(s.eigenvalues)]
        return s.eigenvectors @ (weights[:, None] * (s.eigenvectors.T @ y.to(torch.float64)))

    def _enough(self, g: Filter) -> Spectrum:
        """The whole spectrum; for chosen features, the leading part where it is there and holds them."""
        part = self._leading
        known = 0 if part is None else len(part.eigenvalues)
        fits = self._spectrum is None and isinstance(g, Band) and max(g.indices, default=0) < known
        return part if fits and part is not None else self.spectrum


def _first(spectrum: Spectrum, count: int) -> Spectrum:
    return Spectrum(spectrum.eigenvalues[:count], spectrum.eigenvectors[:, :count])
