"""Predictors as filters on the spectrum: f(x) = Θ(x, X) V g(Λ) Vᵀ Y.

The loss is 1/2 Σ |f - y|², a sum and not a mean: a learning rate for the mean-squared loss of other libraries is
n times as large (`neural_tangents.predict.gradient_descent_mse` divides by the size of the training targets).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor

from ntklens.errors import InputError, NumericalFailure

Indices = Iterable[SupportsIndex] | Tensor | SupportsIndex
"""Places in a spectrum, 0 for the largest eigenvalue; one number stands for itself."""


@runtime_checkable
class Filter(Protocol):
    """g: from the eigenvalues, largest first, to the weight of each eigenvector in the predictor's coefficients."""

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """One weight an eigenvalue."""
        ...


def _check(value: float, name: str, *, positive: bool = False, finite: bool = True) -> None:
    fits = value > 0 if positive else value >= 0
    if not fits or (finite and not math.isfinite(value)):
        bound = "above 0" if positive else "0 or above"
        raise InputError(f"{name} must be {bound}{' and finite' if finite else ''}; {value} came.")


@dataclass(frozen=True)
class Ridge:
    """g(λ) = 1 / (λ + ρ): kernel ridge regression; ρ = 0 is the network trained for ever (t = ∞)."""

    rho: float = 0.0

    def __post_init__(self) -> None:
        _check(self.rho, "the ridge")

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """1 / (λ + ρ)."""
        shifted = eigenvalues + self.rho
        _check_invertible(shifted, rounding_floor(float(shifted.max()), len(shifted)))
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
        _check(self.time, "the time", finite=False)
        _check(self.learning_rate, "the learning rate", positive=True)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """(1 - exp(-η λ t)) / λ, and η t at λ = 0."""
        if math.isinf(self.time):
            return Ridge(0.0)(eigenvalues)
        duration = self.learning_rate * self.time
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
        _check(self.steps, "the number of steps")
        _check(self.learning_rate, "the learning rate", positive=True)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """(1 - (1 - ηλ)^T) / λ, and η T at λ = 0."""
        rate = self.learning_rate * eigenvalues
        if float(rate.max()) >= 2:
            raise NumericalFailure(
                f"gradient descent diverges: the learning rate {self.learning_rate:g} is not below 2 / λ_1 = "
                f"{2 / float(eigenvalues.max()):g}; lower it."
            )
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
            raise InputError("each index may stand in a band once.")
        object.__setattr__(self, "indices", chosen)

    def __call__(self, eigenvalues: Tensor) -> Tensor:
        """1/λ on the band."""
        n = len(eigenvalues)
        check_indices(self.indices, n)
        index = torch.tensor(self.indices, dtype=torch.long, device=eigenvalues.device)
        chosen = eigenvalues[index]
        _check_invertible(chosen, rounding_floor(float(eigenvalues.max()), n))
        return torch.zeros_like(eigenvalues).index_copy(0, index, 1 / chosen)


def whole_indices(indices: Indices) -> tuple[int, ...]:
    """Positions in a spectrum as plain numbers; one stands for itself.

    Raises:
        InputError: no whole numbers, or a mask.
    """
    given = indices.flatten().tolist() if isinstance(indices, Tensor) else indices
    try:
        each = list(given) if isinstance(given, Iterable) else [given]
        if any(isinstance(i, bool) for i in each):
            raise InputError("indices were expected; a mask came: give the places where it holds, mask.nonzero().")
        return tuple(operator.index(i) for i in each)
    except TypeError:
        raise InputError(f"whole numbers, positions in the spectrum, were expected; {indices!r} came.") from None


def check_indices(indices: Iterable[int], n: int) -> None:
    """Refuse positions beyond a spectrum of n eigenvalues."""
    wrong = [i for i in indices if not 0 <= i < n]
    if wrong:
        raise InputError(f"indices from 0 to {n - 1} were expected; {wrong[0]} came.")


def _check_invertible(eigenvalues: Tensor, floor: float) -> None:
    if len(eigenvalues) and float(eigenvalues.min()) <= floor:
        raise NumericalFailure(
            f"the kernel matrix is singular to rounding (eigenvalue {float(eigenvalues.min()):.1e}): are there duplicate "
            "inputs? Use a ridge, such as Ridge(1e-6), or a finite time."
        )


def rounding_floor(largest: float, n: int) -> float:
    """What rounding leaves of a zero eigenvalue, at most: n ε λ_1 in float64."""
    return n * torch.finfo(torch.float64).eps * largest
