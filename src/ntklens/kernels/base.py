"""What every kernel offers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from ntklens.arguments import as_floats, as_images, as_tensor, check_finite, same_device, shape_of
from ntklens.errors import InputError
from ntklens.kernels.expansion import Expansion, Pullback
from ntklens.kernels.matrix_expansion import MatrixExpansion
from ntklens.modules import without_autocast
from ntklens.progress import Progress, Report


class Kernel(ABC):
    """A positive semidefinite function of two inputs, and its gradient in the first.

    A kernel of your own writes `__call__` and `gradient`; a machine on it then fits, predicts and can be attacked. The
    other methods have defaults, which a kernel overrides where it knows a shorter way or a prior.

    Kernels are added and multiplied, with each other and with positive numbers: `k1 + k2`, `2 * k1`, `k1 * k2` (entry by
    entry) are kernels.

    Example:
        >>> class Polynomial(Kernel):
        ...     def __call__(self, x1, x2=None):
        ...         return (1 + x1 @ (x1 if x2 is None else x2).T) ** 2
        ...     def gradient(self, x1, x2, weights):
        ...         return (2 * weights * (1 + x1 @ x2.T)) @ x2
        >>> Polynomial()(torch.eye(2))
        tensor([[4., 1.],
                [1., 4.]])
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the methods of every kernel, users' own among them, compute in the precision of their inputs."""
        super().__init_subclass__(**kwargs)
        for name in ("__call__", "gradient", "between", "gram", "vjp", "vjp_between", "diagonal"):
            if name in vars(cls):
                setattr(cls, name, without_autocast(vars(cls)[name]))

    __array_ufunc__ = None  # a number of numpy leaves the product with a kernel to the kernel

    def __add__(self, other: Kernel) -> Kernel:
        """Return the sum of two kernels.

        Raises:
            InputError: the other is no kernel.
        """
        from ntklens.kernels.algebra import added  # whose kernels are kernels of this class

        return added(self, other)

    __radd__ = __add__

    def __mul__(self, other: Kernel | float) -> Kernel:
        """Return the product of two kernels, entry by entry, or the multiple by a positive number.

        Raises:
            InputError: the other is neither a kernel nor a positive and finite number.
        """
        from ntklens.kernels.algebra import multiplied

        return multiplied(self, other)

    __rmul__ = __mul__

    @abstractmethod
    def __call__(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """Compute the matrix (n1, n2); of x1 with itself, exactly symmetric, when x2 is None."""

    @abstractmethod
    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""

    def between(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Compute the matrix (n1, n2) between tensors that are known to fit; a kernel overrides this where a call checks.

        A machine calls it again and again with the training inputs that it has checked once.
        """
        return self(x1, x2)

    def gram(self, x: Tensor, progress: Report | None = None) -> Tensor:
        """Compute the matrix of x with itself, (n, n); a kernel overrides this where it can tell its progress.

        Args:
            x: (n, *shape).
            progress: called with the share of the pairs that is done, from 0 to 1; by default once, at the end.
        """
        matrix = self(x)
        Progress(progress)(1.0)
        return matrix

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute the matrix (n1, n2), and the function from weights (n1, n2) to `gradient(x1, x2, weights)`.

        A kernel overrides this where its gradient is cheaper beside its matrix than alone.
        """
        x1, x2 = as_tensor(x1, "x1"), as_tensor(x2, "x2")

        def pullback(weights: Tensor, rows: Tensor | None = None) -> Tensor:
            return self.gradient(x1 if rows is None else x1[rows], x2, weights)

        return self(x1, x2), pullback

    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for tensors that are known to fit; a kernel overrides this where `vjp` checks."""
        return self.vjp(x1, x2)

    def diagonal(self, x: Tensor) -> Tensor:
        """Compute K(x_i, x_i) for every input: (n,). The default takes one call per input.

        Raises:
            InputError: the kernel has several values per pair, or x is no batch.
        """
        x = as_tensor(x, "x")
        check_finite(x, "x")
        values = [self(x[i : i + 1]) for i in range(len(x))]
        if any(value.shape != (1, 1) for value in values):
            raise InputError(
                f"expected a kernel with one value per pair; got {tuple(values[0].shape)} for one pair. Use "
                'outputs="trace" or "pseudo".'
            )
        return torch.cat([x.new_zeros(0), *(value.flatten() for value in values)])

    def identity(self) -> str:
        """Return the text by which the file of a machine tells its kernel from others; nothing in it is shortened."""
        return repr(self)

    @property
    def prior(self) -> Kernel:
        """The covariance of this kernel's random functions before training: for a network's NTK, its NNGP.

        Raises:
            InputError: this kernel has no such covariance, which is the default.
        """
        raise InputError(
            f"{type(self).__name__} has no prior, the covariance of networks before training. Use a kernel that has one, "
            "such as analytic_kernel(module)."
        )

    def expansion(self, z: Tensor, coefficients: Tensor, arithmetic: torch.dtype) -> Expansion:
        """Return the function f(x) = Σ_j K(x, z_j) A_j, by the shortest way that this kernel knows.

        Args:
            z: (n, *shape) inputs in float64.
            coefficients: A, (n, k) in float64.
            arithmetic: dtype of the kernel and its gradient.
        """
        return MatrixExpansion(self, z.to(arithmetic), coefficients)


def checked_pair(x1: Any, x2: Any) -> tuple[Tensor, Tensor | None]:
    """Return the two batches of a kernel as tensors of one shape per input, on one device.

    Args:
        x1: the first batch, as a tensor or an array.
        x2: the second one; None for the first with itself.

    Raises:
        InputError: a batch that is no floating-point one, has values that are not finite, or does not fit the other.
    """
    first = as_images(x1, "x1")
    if x2 is None:
        return first, None
    second = as_images(x2, "x2")
    if second.shape[1:] != first.shape[1:]:
        raise InputError(
            f"expected x1 and x2 of one shape per input; got {tuple(first.shape[1:])} and {tuple(second.shape[1:])}."
        )
    same_device(second, first.device, "x2", "x1")
    return first, second


class KernelByPullback(Kernel):
    """A kernel that computes its gradient beside its matrix: `vjp_between` is its own, and the rest follows from it."""

    @abstractmethod
    def vjp_between(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute what `vjp` does for tensors that are known to fit."""

    def gradient(self, x1: Tensor, x2: Tensor, weights: Tensor) -> Tensor:
        """Compute d/dx1 of sum(weights * K(x1, x2)), in the shape of x1."""
        x1, z = checked_both(x1, x2)
        return self.vjp_between(x1, z)[1](checked_weights(weights, x1, z))

    def vjp(self, x1: Tensor, x2: Tensor) -> tuple[Tensor, Pullback]:
        """Compute the matrix (n1, n2), and return with it the function from weights to the gradient."""
        return self.vjp_between(*checked_both(x1, x2))


def checked_both(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Return the two batches of a kernel as `checked_pair` does, where a call needs both.

    Raises:
        InputError: a batch that does not fit, or none.
    """
    x1, x2 = checked_pair(x1, as_tensor(x2, "x2"))
    assert x2 is not None
    return x1, x2


def checked_rows(rows: Any, x1: Tensor) -> Tensor:
    """Return indices of some rows of x1, (k,), int64, from 0 on.

    Args:
        rows: indices, negative ones from the end on; or n1 truth values.
        x1: (n1, ...).

    Raises:
        InputError: no such rows, or on another device than x1 and the processor.
    """
    n = len(x1)
    given = torch.zeros(0, dtype=torch.int64) if isinstance(rows, list) and not rows else as_tensor(rows, "rows")
    if given.device.type != "cpu":
        same_device(given, x1.device, "rows", "x1")
    if given.dtype == torch.bool and given.shape == (n,):
        return given.nonzero()[:, 0]
    if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool or given.ndim != 1:
        raise InputError(
            f"expected rows as indices of x1, one whole number each, or as {n} truth values; got {given.dtype} of "
            f"{shape_of(given)}."
        )
    given = given.to(torch.int64)
    if len(given) and not (int(given.min()) >= -n and int(given.max()) < n):
        raise InputError(f"expected rows as indices of x1 up to {n - 1}; got {int(given.min())} to {int(given.max())}.")
    return given % n if n else given


def checked_weights(weights: Any, x1: Tensor, x2: Tensor) -> Tensor:
    """Return weights of all pairs as a tensor without a graph, (n1, n2).

    Raises:
        InputError: weights of another shape, or that are not finite.
    """
    w = as_floats(weights, "weights").detach()
    if w.shape != (len(x1), len(x2)):
        raise InputError(f"expected weights of shape ({len(x1)}, {len(x2)}), one per pair; got {tuple(w.shape)}.")
    same_device(w, x1.device, "weights", "x1")
    return w
