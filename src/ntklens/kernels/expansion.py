"""f(x) = Σ_j K(x, z_j) A_j for coefficients A that stay: what a kernel machine and its features evaluate."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ntklens.kernels.base import Kernel, Pull, vjp


@runtime_checkable
class Slope(Protocol):
    """The second half of a vector-Jacobian product, once the values are known."""

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        """d/dx of sum(weights * f(x)), in the shape of x; with indices of x, of these rows alone."""
        ...

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        """∇f_c(x_r) for pairs of a row r and a column c, both (pairs,)."""
        ...


@runtime_checkable
class Expansion(Protocol):
    """The function f with k columns; values come in float64, gradients in the dtype of x."""

    def __call__(self, x: Tensor) -> Tensor:
        """Values, (n, k)."""
        ...

    def vjp(self, x: Tensor) -> tuple[Tensor, Slope]:
        """Values, (n, k), and what takes weights to gradients."""
        ...

    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Slope]:
        """Values f_c(x_i) for one column an input, (n,), and the same."""
        ...


@runtime_checkable
class WithExpansion(Kernel, Protocol):
    """A kernel that knows a shorter way to f than through its matrix."""

    def expansion(self, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> Expansion | None:
        """The function f of inputs z (m, *shape) and coefficients (m, k) in float64; None where the matrix is the way."""
        ...


def expansion(kernel: Kernel, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> Expansion:
    """The shortest way to f that a kernel has.

    Args:
        kernel: K.
        z: (m, *shape), inputs in float64.
        coefficients: (m, k) in float64.
        arithmetic: of the kernel and its gradient.
    """
    if isinstance(kernel, WithExpansion):
        own = kernel.expansion(z, coefficients, arithmetic)
        if own is not None:
            return own
    return ThroughMatrix(kernel, z.to(arithmetic), coefficients)


class ThroughMatrix:
    """f(x) = K(x, Z) A as it stands.

    Args:
        kernel: K.
        z: inputs, in the dtype of the arithmetic.
        coefficients: (m, k) in float64.
    """

    def __init__(self, kernel: Kernel, z: Tensor, coefficients: Tensor) -> None:
        self.kernel, self.z, self.coefficients = kernel, z, coefficients.to(torch.float64)
        self._rows = coefficients.T.to(z.dtype).contiguous()

    def __call__(self, x: Tensor) -> Tensor:
        """Its values."""
        with torch.no_grad():
            return self.kernel(x.to(self.z.dtype), self.z).to(torch.float64) @ self.coefficients

    def vjp(self, x: Tensor) -> tuple[Tensor, Slope]:
        """Values, and their gradients from the kernel's own."""
        matrix, pull = vjp(self.kernel, x.detach().to(self.z.dtype), self.z)
        return matrix.to(torch.float64) @ self.coefficients, _Pulled(pull, self.coefficients, self._rows, x.dtype)

    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, Slope]:
        """One product a pair, not one for every column."""
        matrix, pull = vjp(self.kernel, x.detach().to(self.z.dtype), self.z)
        values = torch.linalg.vecdot(matrix.to(torch.float64), self._rows[columns].to(torch.float64))
        return values, _Pulled(pull, self.coefficients, self._rows, x.dtype)


class _Pulled:
    """Gradients of f from those of a kernel."""

    def __init__(self, pull: Pull, coefficients: Tensor, rows: Tensor, dtype: torch.dtype) -> None:
        self._pull, self._coefficients, self._rows, self._dtype = pull, coefficients, rows, dtype

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        inside = weights.to(torch.float64) @ self._coefficients.T
        return self._pull(inside.to(self._rows.dtype), rows).to(self._dtype)

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        return self._pull(self._rows[columns], rows).to(self._dtype)
