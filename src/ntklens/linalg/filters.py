"""Predictors as filters on the spectrum: f(x) = Θ(x, X) V g(Λ) Vᵀ Y.

The loss is 1/2 Σ |f - y|², a sum and not a mean: a learning rate for the mean-squared loss of other libraries is
n times as large (`neural_tangents.predict.gradient_descent_mse` divides by the size of the training targets).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from ntklens.arguments import as_count, as_floats, as_number, shape_of
from ntklens.errors import InputError, NumericalFailure

Indices = Iterable[SupportsIndex] | Tensor | SupportsIndex
"""Positions in a spectrum, 0 for the largest eigenvalue; a single number is one position."""


@runtime_checkable
class Filter(Protocol):
    """g: from the eigenvalues, in descending order, to the weight of each eigenvector in the predictor's coefficients."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Return one weight per eigenvalue."""
        ...


def _as_eigenvalues(value: Any) -> Tensor:
    eigenvalues = as_floats(value, "eigenvalues")
    if eigenvalues.ndim != 1:
        raise InputError(f"expected eigenvalues (n,); got {shape_of(eigenvalues)}.")
    return eigenvalues


def check_filter(value: Any) -> None:
    """Raise InputError unless this is a filter, and not its class."""
    if not isinstance(value, Filter) or isinstance(value, type):
        raise InputError(f"expected a filter, such as nl.Ridge(0.1); got {value!r}.")


def checked_number(value: float, name: str, *, positive: bool = False, finite: bool = True) -> float:
    """Return a number that a filter takes: of 0 or more, or positive, and mostly finite; InputError for another."""
    value = as_number(value, name)
    in_range = value > 0 if positive else value >= 0
    if not in_range or (finite and not math.isfinite(value)):
        sign = "positive" if positive else "non-negative"
        raise InputError(f"expected a {sign}{' and finite' if finite else ''} {name}; got {value}.")
    return value


@dataclass(frozen=True)
class Ridge:
    """g(λ) = 1 / (λ + ρ): kernel ridge regression; ρ = 0 is the network trained for ever (t = ∞)."""

    rho: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", checked_number(self.rho, "ridge"))

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Compute 1 / (λ + ρ)."""
        eigenvalues = _as_eigenvalues(eigenvalues)
        shifted = eigenvalues + self.rho
        _check_invertible(shifted, _largest(shifted), len(shifted))
        return 1 / shifted


@dataclass(frozen=True)
class GradientFlow:
    """g(λ) = (1 - exp(-η λ t)) / λ: gradient flow from the zero function, stopped at `time` (Jacot et al. 2018).

    Attributes:
        time: t, from 0; math.inf is allowed.
        learning_rate: η.
    """

    time: float
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", checked_number(self.time, "time", finite=False))
        rate = checked_number(self.learning_rate, "learning rate", positive=True)
        object.__setattr__(self, "learning_rate", rate)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Compute (1 - exp(-η λ t)) / λ, and η t at λ = 0."""
        eigenvalues = _as_eigenvalues(eigenvalues)
        if math.isinf(self.time):
            return Ridge(0.0)(eigenvalues)
        duration = self.learning_rate * self.time
        # expm1 keeps the digits of small λ, where 1 - exp(-x) would cancel.
        zero = eigenvalues == 0
        safe = torch.where(zero, 1.0, eigenvalues)
        return torch.where(zero, duration, -torch.expm1(-duration * safe) / safe)


@dataclass(frozen=True)
class GradientDescent:
    """g(λ) = (1 - (1 - ηλ)^T) / λ: full-batch gradient descent from the zero function, T steps.

    Attributes:
        steps: T.
        learning_rate: η, below 2 / λ_1 for the descent to converge.
    """

    steps: int
    learning_rate: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", as_count(self.steps, "steps", least=0))
        rate = checked_number(self.learning_rate, "learning rate", positive=True)
        object.__setattr__(self, "learning_rate", rate)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Compute (1 - (1 - ηλ)^T) / λ, and η T at λ = 0."""
        eigenvalues = _as_eigenvalues(eigenvalues)
        rate = self.learning_rate * eigenvalues
        if len(rate) and _largest(rate) >= 2:
            raise NumericalFailure(
                f"gradient descent diverges: the learning rate {self.learning_rate:g} is not below 2 / λ_1 = "
                f"{2 / _largest(eigenvalues):g}. Lower it."
            )
        # (1 - r)^T = exp(T log(1 - r)) for small r = ηλ, where 1 - (1 - r)^T would cancel; above 1 the base is negative.
        small = rate < 0.5
        slow = -torch.expm1(self.steps * torch.log1p(-torch.where(small, rate, 0.0)))
        fast = 1 - (1 - rate) ** self.steps
        zero = eigenvalues == 0
        fitted = torch.where(small, slow, fast) / torch.where(zero, 1.0, eigenvalues)
        return torch.where(zero, self.learning_rate * self.steps, fitted)


@dataclass(frozen=True)
class Band:
    """g(λ_i) = 1/λ_i on the chosen indices and 0 elsewhere: the predictor made of these features alone.

    Attributes:
        indices: positions in the spectrum, 0 for the largest eigenvalue.
    """

    indices: tuple[int, ...]

    def __init__(self, indices: Indices) -> None:
        chosen = whole_indices(indices)
        if len(set(chosen)) != len(chosen):
            raise InputError("expected indices that differ; got one more than once.")
        if chosen and min(chosen) < 0:
            raise InputError(f"expected indices from 0 on; got {min(chosen)}.")
        object.__setattr__(self, "indices", chosen)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Compute 1/λ on the band and 0 elsewhere."""
        eigenvalues = _as_eigenvalues(eigenvalues)
        n = len(eigenvalues)
        check_indices(self.indices, n)
        index = torch.tensor(self.indices, dtype=torch.long, device=eigenvalues.device)
        chosen = eigenvalues[index]
        _check_invertible(chosen, _largest(eigenvalues), n)
        return torch.zeros_like(eigenvalues).index_copy(0, index, 1 / chosen)


class Unfiltered:
    """What stands in the place of a filter where the coefficients are no function of the spectrum."""

    @property
    def how(self) -> str:
        """How the coefficients are found, in words."""
        raise NotImplementedError

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """Raise InputError: there are no weights of eigenvectors."""
        raise InputError(
            f"the coefficients of this machine were trained ({self.how}), and no filter gives them. "
            "For another machine take another filter: machine.refilter(nl.Ridge(0.1))."
        )


@dataclass(frozen=True)
class Trained(Unfiltered):
    """Coefficients that were trained outside of a machine; see `KernelMachine.with_coefficients`.

    Attributes:
        objective: how they were trained, in words.
    """

    objective: str

    @property
    def how(self) -> str:
        """How they were trained."""
        return self.objective


def inverts(g: Filter) -> bool:
    """Return whether a filter is g(λ) = 1/λ, training for infinite time."""
    return (isinstance(g, Ridge) and g.rho == 0) or (isinstance(g, GradientFlow) and math.isinf(g.time))


def whole_indices(indices: Indices) -> tuple[int, ...]:
    """Return positions in a spectrum as a tuple of plain numbers.

    Raises:
        InputError: the indices are not whole numbers, or are a mask.
    """
    listed = indices.flatten().tolist() if isinstance(indices, (Tensor, np.ndarray)) else indices
    try:
        each = list(listed) if isinstance(listed, Iterable) else [listed]
        if any(isinstance(i, bool) for i in each):
            raise InputError("expected indices; got a mask. Give the positions at which it is true, mask.nonzero().")
        return tuple(operator.index(i) for i in each)
    except TypeError:
        raise InputError(f"expected indices as whole numbers, positions in the spectrum; got {indices!r}.") from None


def check_indices(indices: Iterable[int], n: int) -> None:
    """Check that every position is in a spectrum of n eigenvalues.

    Raises:
        InputError: one is not.
    """
    outside = [i for i in indices if not 0 <= i < n]
    if outside:
        raise InputError(f"expected indices from 0 to {n - 1}; got {outside[0]}.")


def _largest(eigenvalues: Tensor) -> float:
    return float(eigenvalues.detach().max()) if len(eigenvalues) else 0.0


def _check_invertible(eigenvalues: Tensor, largest: float, n: int) -> None:
    smallest = float(eigenvalues.detach().min()) if len(eigenvalues) else math.inf
    if smallest <= rounding_floor(largest, n):
        raise NumericalFailure(
            f"the kernel matrix is singular to rounding (eigenvalue {smallest:.1e}): are there duplicate "
            "inputs? Use a ridge, such as Ridge(1e-6), or a finite time."
        )


def rounding_floor(largest: float, n: int) -> float:
    """Return n ε λ_1 in float64, up to which rounding may lift an eigenvalue that is zero."""
    return n * torch.finfo(torch.float64).eps * largest
