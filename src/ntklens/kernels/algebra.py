"""Sums, positive multiples and products of kernels, which are kernels again (Schur 1911 for products)."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from ntklens.arguments import as_number
from ntklens.errors import InputError
from ntklens.kernels.base import Kernel, KernelByPullback
from ntklens.kernels.expansion import Pullback
from ntklens.modules import without_autocast
from ntklens.progress import Progress, Report
from ntklens.texts import shortened


def added(first: Kernel, second: Any) -> Kernel:
    """Return the sum of two kernels; 0 as one of them, with which Python's `sum` begins, changes nothing.

    Raises:
        InputError: the second is no kernel.
    """
    if isinstance(second, Kernel):
        return SumKernel(first, second)
    if isinstance(second, int) and not isinstance(second, bool) and second == 0:
        return first
    raise InputError(f"expected a kernel to add to a kernel; got {_told(second)}.")


def multiplied(first: Kernel, second: Any) -> Kernel:
    """Return the product of two kernels, entry by entry, or a multiple of one.

    Raises:
        InputError: the second is neither a kernel nor a positive number.
    """
    if isinstance(second, Kernel):
        return ProductKernel(first, second)
    if not isinstance(second, (Tensor, np.ndarray, np.number, int, float)):
        raise InputError(_no_factor(second))
    return ScaledKernel(first, as_number(second, "the factor of a kernel"))


def _no_factor(value: Any) -> str:
    return f"expected a kernel or a positive and finite number to multiply a kernel by; got {_told(value)}."


def _told(value: Any) -> str:
    return repr(value) if isinstance(value, (int, float)) else type(value).__name__


@dataclass(frozen=True, repr=False)
class _Combined(KernelByPullback):
    """What sums and products share: each value and each gradient is put together from those of two kernels.

    Attributes:
        first: a kernel.
        second: another one.
    """

    first: Kernel
    second: Kernel
    _sign: ClassVar[str]

    @staticmethod
    @abstractmethod
    def _combine(a: Tensor, b: Tensor) -> Tensor:
        """Return the values made of those of the two kernels."""

    def _of_both(self, a: Tensor, b: Tensor) -> Tensor:
        if a.shape != b.shape:
            raise InputError(
                f"expected two kernels with as many values per pair; got {tuple(a.shape)} and {tuple(b.shape)} from "
                f"{self!r}."
            )
        return type(self)._combine(a, b.to(a))

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2) between x1 and x2, or of x1 with itself."""
        return self._of_both(self.first(x1, x2), self.second(x1, x2))

    def between(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the matrix between tensors that are known to fit."""
        return self._of_both(self.first.between(x1, x2), self.second.between(x1, x2))

    def gram(self, x: Tensor, progress: Report | None = None) -> Tensor:
        """Compute the matrix of x with itself, (n, n)."""
        whole = Progress(progress)
        return self._of_both(self.first.gram(x, whole.part(0.0, 0.5)), self.second.gram(x, whole.part(0.5, 0.5)))

    def diagonal(self, x: Tensor) -> Tensor:
        """Compute K(x_i, x_i) for every input: (n,)."""
        return self._of_both(self.first.diagonal(x), self.second.diagonal(x))

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for tensors that are known to fit."""
        a, of_a = self.first.vjp_between(x1, x2)
        b, of_b = self.second.vjp_between(x1, x2)

        @without_autocast
        def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            in_a, in_b = self._shares(weights, *((a, b) if rows is None else (a[rows], b[rows])))
            gradient = of_a(in_a, rows)
            return gradient + of_b(in_b, rows).to(gradient)

        return self._of_both(a, b), pull

    @abstractmethod
    def _shares(self, weights: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Return the weights of the two kernels' gradients."""

    def identity(self) -> str:
        """Return the text by which a file tells this kernel from others."""
        return f"({self.first.identity()} {self._sign} {self.second.identity()})"

    def __repr__(self) -> str:
        return f"{shortened(repr(self.first), 40)} {self._sign} {shortened(repr(self.second), 40)}"


@dataclass(frozen=True, repr=False)
class SumKernel(_Combined):
    """K + K': the tangent kernel, and the prior, of two independent networks whose outputs are added."""

    _sign = "+"

    @staticmethod
    def _combine(a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def _shares(self, weights: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return weights, weights

    @property
    def prior(self) -> Kernel:
        """The sum of the priors.

        Raises:
            InputError: one of the kernels has no prior.
        """
        return SumKernel(self.first.prior, self.second.prior)


@dataclass(frozen=True, repr=False)
class ProductKernel(_Combined):
    """K K', entry by entry."""

    _sign = "*"

    @staticmethod
    def _combine(a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def _shares(self, weights: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return weights.to(b) * b, weights.to(a) * a

    @property
    def prior(self) -> Kernel:
        """The kernel itself, where both kernels are their own priors: the covariance of a Gaussian process.

        Raises:
            InputError: one of the kernels has another prior, or none; there is no network whose tangent kernel it is.
        """
        if self.first.prior != self.first or self.second.prior != self.second:
            raise InputError(
                "expected a product of kernels that are their own priors, such as kernel.prior * RBFKernel(0.3); got "
                f"{self!r}, which is the tangent kernel of no network and has no prior."
            )
        return self


@dataclass(frozen=True, repr=False)
class ScaledKernel(Kernel):
    """c K: the tangent kernel, and the prior, of a network whose outputs are multiplied by sqrt(c).

    Attributes:
        kernel: K.
        factor: c, positive and finite.

    Raises:
        InputError: another factor.
    """

    kernel: Kernel
    factor: float

    def __post_init__(self) -> None:
        factor = as_number(self.factor, "the factor of a kernel")
        if not 0 < factor < math.inf:
            raise InputError(_no_factor(factor))
        object.__setattr__(self, "factor", factor)

    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2) between x1 and x2, or of x1 with itself."""
        return self.factor * self.kernel(x1, x2)

    def between(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the matrix between tensors that are known to fit."""
        return self.factor * self.kernel.between(x1, x2)

    def gram(self, x: Tensor, progress: Report | None = None) -> Tensor:
        """Compute the matrix of x with itself, (n, n)."""
        return self.factor * self.kernel.gram(x, progress)

    def diagonal(self, x: Tensor) -> Tensor:
        """Compute K(x_i, x_i) for every input: (n,)."""
        return self.factor * self.kernel.diagonal(x)

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""
        return self.factor * self.kernel.gradient(x1, x2, weights)

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute the matrix (n1, n2) and its pullback."""
        return self._scaled(*self.kernel.vjp(x1, x2))

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for tensors that are known to fit."""
        return self._scaled(*self.kernel.vjp_between(x1, x2))

    def _scaled(self, matrix: Tensor, pullback: Pullback) -> tuple[Tensor, Pullback]:
        @without_autocast
        def pull(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            return self.factor * pullback(weights, rows)

        return self.factor * matrix, pull

    def identity(self) -> str:
        """Return the text by which a file tells this kernel from others."""
        return f"({self.factor!r} * {self.kernel.identity()})"

    def __repr__(self) -> str:
        return f"{self.factor:.4g} * {shortened(repr(self.kernel), 70)}"

    @property
    def prior(self) -> Kernel:
        """The multiple of the kernel's prior.

        Raises:
            InputError: the kernel has no prior.
        """
        return ScaledKernel(self.kernel.prior, self.factor)
