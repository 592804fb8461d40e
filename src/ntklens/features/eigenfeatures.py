"""NTK features: the predictor of one eigenvector of the kernel matrix (Tsilivis & Kempe 2022, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import correct, fgsm
from ntklens.errors import InputError
from ntklens.linalg import Band
from ntklens.machine import KernelMachine
from ntklens.statistics import Estimate, proportion

Attack = Callable[[KernelMachine, Tensor, Tensor], Tensor]
"""(the feature as a machine, images, labels) -> attacked images."""

BATCH = 512


@dataclass(frozen=True)
class FeatureScores:
    """One estimate a feature, with its 95 % interval.

    Attributes:
        indices: positions in the spectrum.
        estimates: in the same order.
    """

    indices: tuple[int, ...]
    estimates: tuple[Estimate, ...]

    @property
    def values(self) -> np.ndarray:
        """The estimates alone."""
        return np.array([e.value for e in self.estimates])

    def __getitem__(self, index: int) -> Estimate:
        """The estimate of the feature with this index in the spectrum."""
        return self.estimates[self.indices.index(index)]


class NTKFeatures:
    """The features f^(i)(x) = λ_i⁻¹ Θ(x, X) v_i v_iᵀ Y of a kernel machine; their sum is the machine at t = ∞.

    Args:
        machine: a fitted machine; its filter does not matter.

    Attributes:
        eigenvalues: λ_i, largest first, (n,) in float64.
        eigenvectors: v_i, one a column, (n, n).
        weights: v_iᵀ Y, (n, O): how much of the labels lies along each eigenvector.
    """

    def __init__(self, machine: KernelMachine) -> None:
        spectrum = machine.factorisation.spectrum
        self.machine = machine
        self.eigenvalues: Tensor = spectrum.eigenvalues
        self.eigenvectors: Tensor = spectrum.eigenvectors
        self.weights: Tensor = spectrum.eigenvectors.T @ machine.targets

    def __len__(self) -> int:
        """Number of features, one a training input."""
        return len(self.eigenvalues)

    def keep(self, indices: int | Sequence[int] | range | Tensor) -> KernelMachine:
        """The machine made of these features alone: `machine.refilter(Band(indices))`."""
        return self.machine.refilter(Band(indices))

    def outputs(self, x: Float[Tensor, "m *shape"], index: int) -> Float[Tensor, "m O"]:
        """f^(i)(x): the raw outputs of one feature."""
        return self.keep(index).outputs(x)

    def predict(self, x: Float[Tensor, "m *shape"], index: int) -> Int[Tensor, " m"]:
        """Class indices that one feature alone predicts."""
        return self.keep(index).predict(x)

    @property
    def label_energy(self) -> Float[Tensor, " n"]:
        """Share of ``|Y|²`` along each eigenvector; sums to one."""
        energy = self.weights.square().sum(1)
        return energy / energy.sum()

    @torch.no_grad()
    def usefulness(
        self, x: Float[Tensor, "m *shape"], y: Int[Tensor, " m"], indices: Iterable[int] | None = None
    ) -> FeatureScores:
        """P[argmax f^(i)(x) = y] of each feature: its accuracy as a classifier on its own.

        One pass over Θ(x, X) serves all: the outputs of feature i are the scalar Θ(x, X) v_i times its weights,
        so its prediction is the class of the largest weight where the scalar is positive, of the smallest where not.

        Args:
            x: test images.
            y: their classes.
            indices: features to score; all by default.
        """
        index = self._indices(indices)
        vectors, weights = self.eigenvectors[:, index], self.weights[index]
        if weights.shape[1] == 1:
            weights = torch.cat([-weights, weights], 1)
        above, below = weights.argmax(1), weights.argmin(1)
        hits = torch.zeros(len(index), dtype=torch.long)
        train = self.machine.double_inputs
        for start in range(0, len(x), BATCH):
            part = x[start : start + BATCH]
            scalar = self.machine.kernel(part.to(torch.float64), train) @ vectors
            predicted = torch.where(scalar > 0, above, below)
            hits += (predicted == y[start : start + BATCH, None]).sum(0)
        return FeatureScores(tuple(index), tuple(proportion(int(h), len(x)) for h in hits))

    def robustness(
        self,
        x: Float[Tensor, "m *shape"],
        y: Int[Tensor, " m"],
        attack: Attack | float,
        indices: Iterable[int] | None = None,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> FeatureScores:
        """P[argmax f^(i)(x + δ) = y] under an attack on the feature itself.

        Args:
            x: test images.
            y: their classes.
            attack: (machine, x, y) -> attacked images, run on each feature's own machine; a number ε stands for the
                one-step attack in linf of that radius.
            indices: features to score; all by default.
            progress: called with the share done.
        """
        index = self._indices(indices)
        run: Attack = attack if callable(attack) else _one_step(attack)
        scores = []
        for done, i in enumerate(index, 1):
            feature = self.keep(i)
            scores.append(proportion(int(correct(feature, run(feature, x, y), y).sum()), len(y)))
            if progress:
                progress(done / len(index))
        return FeatureScores(tuple(index), tuple(scores))

    def picture(self, x: Float[Tensor, "m *shape"], index: int, y: Int[Tensor, " m"] | None = None) -> Tensor:
        """∇_x f^(i)(x) as signed images in the shape of x: what in the picture the feature looks at.

        Args:
            x: images.
            index: which feature.
            y: classes whose output is differentiated; for two classes the scalar f^(i) is, whatever y.
        """
        feature = self.keep(index)
        columns = feature.coefficients.T
        if len(columns) > 1:
            if y is None:
                raise InputError("with more than two classes the picture needs y, the class whose output is pictured.")
            columns = columns[y]
        else:
            columns = columns.expand(len(x), -1)
        weights = columns.to(torch.float64)
        return feature.kernel.gradient(x.to(torch.float64), feature.double_inputs, weights).to(x.dtype)

    def _indices(self, indices: Iterable[int] | None) -> list[int]:
        index = list(range(len(self))) if indices is None else [int(i) for i in indices]
        wrong = [i for i in index if not 0 <= i < len(self)]
        if wrong:
            raise InputError(f"feature indices from 0 to {len(self) - 1} were expected; {wrong[0]} came.")
        return index


def eigenfeatures(machine: KernelMachine) -> NTKFeatures:
    """The NTK features of a fitted machine: predictors from one eigenvector of its kernel matrix each.

    Example:
        >>> from ntklens.kernels import LinearKernel
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> features = eigenfeatures(KernelMachine(LinearKernel()).fit(x, torch.tensor([0, 1])))
        >>> features.eigenvalues
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    return NTKFeatures(machine)


def _one_step(eps: float) -> Attack:
    def attack(model: KernelMachine, x: Tensor, y: Tensor) -> Tensor:
        return fgsm(model, x, y, eps)

    return attack


def categories(
    usefulness: FeatureScores, robustness: FeatureScores, majority: float, *, robust_share: float = 0.5
) -> list[str]:
    """Each feature's category.

    "useful" when the lower end of its usefulness interval is above the majority class's rate; of those, "robust and
    useful" when at least `robust_share` of the usefulness survives the attack, else "useful non-robust".
    """
    names = []
    for useful, robust in zip(usefulness.estimates, robustness.estimates, strict=True):
        if useful.low <= majority:
            names.append("not useful")
        elif robust.value >= robust_share * useful.value:
            names.append("robust and useful")
        else:
            names.append("useful non-robust")
    return names


def linear_robust_radius(x: Float[Tensor, "m d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " m"]:
    """|uᵀx| / |u|_1: how far x may move in linf before a linear feature uᵀx changes sign (docs/formulas.md)."""
    return (x @ direction).abs() / direction.abs().sum()
