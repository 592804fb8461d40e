"""What every kernel offers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Kernel(Protocol):
    """A positive semidefinite function of two inputs, and its gradient in the first.

    A kernel machine, and everything that is built on one, needs these two methods and nothing else.
    """

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The matrix of shape (n1, n2); of x1 with itself, exactly symmetric, when x2 is None."""
        ...

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""
        ...


@runtime_checkable
class Pull(Protocol):
    """The second half of a vector-Jacobian product, once the matrix is known."""

    def __call__(self, weights: Tensor, rows: Tensor | None = None) -> Tensor:
        """d/dx1 of sum(weights * K(x1, x2)); with indices of x1, of these rows alone."""
        ...


@runtime_checkable
class WithProduct(Kernel, Protocol):
    """A kernel whose gradient is cheaper beside its matrix than alone."""

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pull]:
        """The matrix (n1, n2), and what takes weights to the gradient."""
        ...


def vjp(kernel: Kernel, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pull]:
    """The matrix (n1, n2) of any kernel, and what takes weights (n1, n2) to `kernel.gradient(x1, x2, weights)`."""
    if isinstance(kernel, WithProduct):
        return kernel.vjp(x1, x2)
    return kernel(x1, x2), without_product(kernel, x1, x2)


def without_product(kernel: Kernel, x1: Tensor, x2: Tensor) -> Pull:
    """The gradient alone, which shares nothing with the matrix."""

    def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
        return kernel.gradient(x1 if rows is None else x1[rows], x2, weights)

    return pull


@runtime_checkable
class Prior(Kernel, Protocol):
    """A kernel that is the covariance of random functions."""

    def diagonal(self, x: Tensor) -> Tensor:
        """K(x_i, x_i): (n,)."""
        ...


@runtime_checkable
class WithPrior(Protocol):
    """A kernel that knows the covariance of its functions before training."""

    @property
    def prior(self) -> Prior:
        """That covariance: the NNGP of a network's NTK; for a plain kernel, the kernel itself."""
        ...
