"""NTK features: the predictor of one eigenvector of the kernel matrix (Tsilivis & Kempe 2022, section 4)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.attacks import Threat, correct
from ntklens.attacks.balls import per_sample
from ntklens.attacks.checks import check_attack
from ntklens.errors import InputError
from ntklens.features.scores import FeatureScores
from ntklens.features.under_attack import Outcomes, outcomes
from ntklens.linalg import Band, Filter, Indices, check_indices, rounding_floor, whole_indices
from ntklens.machine import KernelMachine

Attack = Callable[[KernelMachine, Tensor, Tensor], Tensor]
"""(the feature as a machine, images, labels) -> attacked images."""


class NTKFeatures:
    """The features f^(i)(x) = λ_i⁻¹ Θ(x, X) v_i v_iᵀ Y of a kernel machine; their sum is the machine at t = ∞.

    Args:
        machine: a fitted machine; its filter does not matter.
        count: the leading features alone, found without the whole spectrum where they are few; all by default.

    Attributes:
        eigenvalues: λ_i, largest first, (n,) in float64.
        eigenvectors: v_i, one a column, (n, n).
        weights: v_iᵀ Y, (n, O): how much of the labels lies along each eigenvector.
    """

    def __init__(self, machine: KernelMachine, count: int | None = None) -> None:
        spectrum = machine.factorisation.spectrum if count is None else machine.factorisation.leading(count)
        self.machine, self.spectrum = machine, spectrum
        self.eigenvalues: Tensor = spectrum.eigenvalues
        self.eigenvectors: Tensor = spectrum.eigenvectors
        self.weights: Tensor = spectrum.eigenvectors.T @ machine.targets

    def __len__(self) -> int:
        """Number of features: one a training input, or as many as were asked for."""
        return len(self.eigenvalues)

    @property
    def rank(self) -> int:
        """Number of eigenvalues that are not zero to rounding: duplicate images, and too many of them, make it less."""
        return int((self.eigenvalues > rounding_floor(float(self.eigenvalues[0]), len(self.eigenvectors))).sum())

    def keep(self, indices: Indices) -> KernelMachine:
        """The machine made of these features alone: `machine.refilter(Band(indices), spectrum)`."""
        return self.machine.refilter(Band(self.chosen(indices)), self.spectrum)

    def outputs(self, x: Float[Tensor, "m *shape"], index: int) -> Float[Tensor, "m O"]:
        """f^(i)(x): the raw outputs of one feature."""
        return self.keep(index).outputs(x)

    def predict(self, x: Float[Tensor, "m *shape"], index: int) -> Int[Tensor, " m"]:
        """Class indices that one feature alone predicts."""
        return self.keep(index).predict(x)

    @property
    def label_energy(self) -> Float[Tensor, " n"]:
        """Share of ``|Y|²`` along each eigenvector; all of them sum to one."""
        return self.weights.square().sum(1) / self.machine.targets.square().sum()

    def learned(self, filter: Filter) -> float:
        """Share of the labels' energy that is fitted: ``1 - |Y - f(X)|² / |Y|²`` = Σ_i e_i (1 - (1 - λ_i g(λ_i))²)."""
        missing = 1 - self.eigenvalues * filter(self.eigenvalues)
        return float((self.label_energy * (1 - missing.square())).sum())

    def usefulness(
        self, x: Float[Tensor, "m *shape"], y: Int[Tensor, " m"], indices: Indices | None = None
    ) -> FeatureScores:
        """P[argmax f^(i)(x) = y] of each feature: its accuracy as a classifier on its own.

        One pass over Θ(x, X) serves all.

        Args:
            x: test images.
            y: their classes.
            indices: features to score; all by default.
        """
        index = self.chosen(indices)
        return FeatureScores.of(index, self.outcomes(x, y, None, index).clean)

    def robustness(
        self,
        x: Float[Tensor, "m *shape"],
        y: Int[Tensor, " m"],
        attack: Attack | Threat | float,
        indices: Indices | None = None,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> FeatureScores:
        """P[argmax f^(i)(x + δ) = y] under an attack on the feature itself.

        Args:
            x: test images.
            y: their classes.
            attack: a number ε for one step in linf of that radius; a `Threat` for another norm or several steps, all
                features at once, each image left alone as soon as it is wrong; or any (machine, x, y) -> attacked
                images, run on one feature's machine after the other.
            indices: features to score; all by default.
            progress: called with the share done.
        """
        index = self.chosen(indices)
        if not callable(attack):
            threat = attack if isinstance(attack, Threat) else Threat(attack)
            return FeatureScores.of(index, self.outcomes(x, y, threat, index, progress=progress).attacked)
        hits = []
        for done, i in enumerate(index, 1):
            feature = self.keep(i)
            hits.append(correct(feature, attack(feature, x, y), y))
            if progress:
                progress(done / len(index))
        return FeatureScores.of(index, torch.stack(hits) if hits else y.new_zeros(0, len(y), dtype=torch.bool))

    def outcomes(
        self,
        x: Float[Tensor, "m *shape"],
        y: Int[Tensor, " m"],
        threat: Threat | None,
        indices: Indices | None = None,
        *,
        progress: Callable[[float], None] | None = None,
    ) -> Outcomes:
        """Which features are right on which images, as they are and under attack.

        Args:
            x: images.
            y: their classes.
            threat: the attack; None for the images as they are.
            indices: features; all by default.
            progress: called with the share done.
        """
        index = self.chosen(indices)
        check_attack(x, y, (0, 1) if threat is None else threat.bounds)
        if not len(x):
            raise InputError("at least one image to score the features on was expected; none came.")
        self._check_classes(y)
        weights = self.weights[index]
        if weights.shape[1] == 1:
            weights = torch.cat([-weights, weights], 1)
        with torch.no_grad():
            return outcomes(self.machine, self.eigenvectors[:, index], weights, x, y, threat, progress)

    def picture(self, x: Float[Tensor, "m *shape"], index: int, y: Int[Tensor, " m"] | None = None) -> Tensor:
        """∇_x f^(i)(x) as signed images in the shape of x: what in the picture the feature looks at.

        Args:
            x: images.
            index: which feature.
            y: classes whose output is differentiated; with two classes these are f^(i) for the second and -f^(i) for the
                first, and f^(i) without y.
        """
        feature = self.keep(index)
        outputs = feature.targets.shape[1]
        if outputs > 1 and y is None:
            raise InputError("with more than two classes the picture needs y, the class whose output is pictured.")
        if y is not None:
            check_attack(x, y, (-math.inf, math.inf))
            self._check_classes(y)
        columns = y.long() if y is not None and outputs > 1 else torch.zeros(len(x), dtype=torch.long, device=x.device)
        _, slope = feature.expand(feature.coefficients, torch.float64).along(x, columns)
        made = slope.along(columns, torch.arange(len(x), device=x.device))
        return made if y is None or outputs > 1 else made * per_sample(2 * y.to(made) - 1, x)

    def _check_classes(self, y: Tensor) -> None:
        classes = max(2, self.weights.shape[1])
        if len(y) and (int(y.min()) < 0 or int(y.max()) >= classes):
            raise InputError(f"classes from 0 to {classes - 1} were expected; {int(y.min())} to {int(y.max())} came.")

    def chosen(self, indices: Indices | None, *, once: bool = False) -> list[int]:
        """Features by their places in the spectrum, all by default; one number stands for itself.

        Args:
            indices: the places.
            once: refuse a place that comes again.

        Raises:
            InputError: no places in it, or a mask.
        """
        index = list(range(len(self))) if indices is None else list(whole_indices(indices))
        check_indices(index, len(self))
        if once and len(set(index)) < len(index):
            raise InputError("each feature may be chosen once; one came more often.")
        return index


def eigenfeatures(machine: KernelMachine, count: int | None = None) -> NTKFeatures:
    """The NTK features of a fitted machine: predictors from one eigenvector of its kernel matrix each.

    Args:
        machine: a fitted machine.
        count: the leading features alone; all by default.

    Example:
        >>> from ntklens.kernels import LinearKernel
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> features = eigenfeatures(KernelMachine(LinearKernel()).fit(x, torch.tensor([0, 1])))
        >>> features.eigenvalues
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    if not isinstance(machine, KernelMachine):
        raise InputError(
            f"a fitted KernelMachine was expected; {type(machine).__name__} came: wrap a network's kernel in one."
        )
    return NTKFeatures(machine, count)


def linear_robust_radius(x: Float[Tensor, "m d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " m"]:
    """|uᵀx| / |u|_1: how far x may move in linf before a linear feature uᵀx changes sign (docs/formulas.md)."""
    return (x @ direction).abs() / direction.abs().sum()
