"""f(x) = Σ_j K(x, z_j) A_j for coefficients A that stay: the function that a kernel machine and its features evaluate."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Pullback(Protocol):
    """The second half of a vector-Jacobian product, once the values are known."""

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        """Compute d/dx of sum(weights * values), in the shape of x.

        Args:
            weights: in the shape of the values, (n, ...); with `rows`, (len(rows), ...).
            rows: indices of x; the result is then for these rows alone.
        """
        ...


@runtime_checkable
class ExpansionPullback(Pullback, Protocol):
    """The pullback of an expansion, which also gives the gradient of single columns."""

    def along(self, columns: Tensor, rows: Tensor) -> Tensor:
        """Compute ∇f_c(x_r) for pairs of a column c and a row r, both (pairs,): (pairs, *shape)."""
        ...


@runtime_checkable
class Expansion(Protocol):
    """The function f with k columns; values are in float64, gradients in the dtype of x."""

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the values, (n, k)."""
        ...

    def vjp(self, x: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute the values, (n, k), and the function from weights (n, k) to gradients."""
        ...

    def along(self, x: Tensor, columns: Tensor) -> tuple[Tensor, ExpansionPullback]:
        """Compute f_c(x_i) for one column c per input, (n,).

        The second result is the pullback of all columns, as of `vjp`; its `along` gives the gradients of single ones.
        """
        ...
