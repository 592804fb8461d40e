"""What became of a filter that was applied to targets, and how far it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Applied:
    """V g(Λ) Vᵀ y, and how it was found.

    Attributes:
        coefficients: (n, O), in float64.
        method: a phrase for a report.
        residual: of a linear system, |(Θ + ρ I) A - y| / |y|, the largest of the columns; None for other filters.
        error: the estimated relative error of the coefficients of other filters; None for linear systems.
        smallest_pivot: of an exact factor; None without one.
        jitter: what a preconditioner's diagonal was raised by; it changes the speed alone.
        iterations: steps of an iteration; 0 for a direct solution.

    Example:
        >>> import torch
        >>> print(Applied(torch.zeros(1, 1), "Cholesky in float64", 1e-15, smallest_pivot=0.5))
        Cholesky in float64; smallest pivot 0.5; residual 1.0e-15
    """

    coefficients: Tensor
    method: str
    residual: float | None = None
    error: float | None = None
    smallest_pivot: float | None = None
    jitter: float = 0.0
    iterations: int = 0

    def __str__(self) -> str:
        parts = [self.method]
        if self.iterations:
            parts.append(f"{self.iterations} iterations")
        if self.smallest_pivot is not None:
            parts.append(f"smallest pivot {self.smallest_pivot:.2g}")
        if self.jitter:
            parts.append(f"jitter {self.jitter:.1e} in the preconditioner")
        if self.residual is not None:
            parts.append(f"residual {self.residual:.1e}")
        if self.error is not None:
            parts.append(f"estimated error {self.error:.1e}")
        return "; ".join(parts)
