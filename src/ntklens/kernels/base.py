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
