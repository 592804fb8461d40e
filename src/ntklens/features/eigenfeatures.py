"""NTK features: the predictor of one eigenvector of the kernel matrix (Tsilivis & Kempe 2022, section 4)."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_floats, as_images, check_range
from ntklens.attacks import Threat, correct
from ntklens.attacks.balls import Bounds, per_sample
from ntklens.attacks.checks import check_attack
from ntklens.errors import InputError
from ntklens.features.proved import proved
from ntklens.features.scores import FeatureScores
from ntklens.features.under_attack import Outcomes, outcomes
from ntklens.linalg import Band, Filter, Indices, check_filter, check_indices, rounding_floor, whole_indices
from ntklens.machine import KernelMachine
from ntklens.progress import Parts, Progress, Report

FeatureAttack = Callable[[KernelMachine, Tensor, Tensor], Tensor]
"""(the feature as a machine, images, classes) -> attacked images."""


class NTKFeatures:
    """The features f^(i)(x) = λ_i⁻¹ Θ(x, X) v_i v_iᵀ Y of a kernel machine; their sum is the machine at t = ∞.

    Args:
        machine: a fitted machine; its filter does not matter.
        count: number of leading features, found without the whole spectrum where they are few; all by default.

    Attributes:
        eigenvalues: λ_i in descending order, (k,) in float64.
        eigenvectors: v_i as columns, (n, k).
        weights: v_iᵀ Y, (k, O): how much of the labels lies along each eigenvector.
    """

    def __init__(self, machine: KernelMachine, count: int | None = None) -> None:
        if not isinstance(machine, KernelMachine):
            raise InputError(
                f"expected machine as a fitted KernelMachine; got {type(machine).__name__}. For a network, wrap its kernel "
                "in one."
            )
        factors = machine.factorisation
        if count is not None and as_count(count, "count") > len(factors):
            raise InputError(f"expected count from 1 to {len(factors)}, the number of training inputs; got {count}.")
        spectrum = factors.spectrum if count is None else factors.leading(operator.index(count))
        self.machine, self.spectrum = machine, spectrum
        self.eigenvalues: Tensor = spectrum.eigenvalues
        self.eigenvectors: Tensor = spectrum.eigenvectors
        self.weights: Tensor = spectrum.eigenvectors.T @ machine.targets

    def __len__(self) -> int:
        """Return the number of features: one per training input, or the number that was asked for."""
        return len(self.eigenvalues)

    def __repr__(self) -> str:
        first = f", largest eigenvalue {float(self.eigenvalues[0]):.3g}" if len(self) else ""
        return f"NTKFeatures({len(self)} features of {len(self.eigenvectors)} inputs{first})"

    @property
    def rank(self) -> int:
        """Number of eigenvalues above rounding: fewer than images where images are repeated or the kernel is degenerate."""
        return int((self.eigenvalues > rounding_floor(float(self.eigenvalues[0]), len(self.eigenvectors))).sum())

    def keep(self, indices: Indices) -> KernelMachine:
        """Return the machine made of some features alone: `machine.refilter(Band(indices), spectrum)`."""
        return self.machine.refilter(Band(self.chosen(indices)), self.spectrum)

    def outputs(self, x: Float[Tensor, "m *shape"], index: int) -> Float[Tensor, "m O"]:
        """Compute f^(i)(x), the raw outputs of one feature: (m, O)."""
        return self.keep(index).outputs(x)

    def predict(self, x: Float[Tensor, "m *shape"], index: int) -> Int[Tensor, " m"]:
        """Return the classes that one feature alone predicts: (m,)."""
        return self.keep(index).predict(x)

    @property
    def label_energy(self) -> Float[Tensor, " n"]:
        """Share of ``|Y|²`` along each eigenvector, (k,); over the whole spectrum the shares sum to one."""
        return self.weights.square().sum(1) / self.machine.targets.square().sum()

    def learned(self, filter: Filter) -> float:
        """Compute the share of the label energy that a filter fits: ``1 - |Y - f(X)|² / |Y|²``.

        With e_i the label energy of each feature it is Σ_i e_i (1 - (1 - λ_i g(λ_i))²).

        Args:
            filter: g.
        """
        check_filter(filter)
        residual = 1 - self.eigenvalues * filter(self.eigenvalues)
        return float((self.label_energy * (1 - residual.square())).sum())

    def usefulness(
        self, x: Float[Tensor, "m *shape"], y: Int[Tensor, " m"], indices: Indices | None = None
    ) -> FeatureScores:
        """Compute P[argmax f^(i)(x) = y], the accuracy of each feature as a classifier of its own.

        All features are scored from one pass over Θ(x, X).

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
        attack: FeatureAttack | Threat | float,
        indices: Indices | None = None,
        *,
        progress: Report | None = None,
    ) -> FeatureScores:
        """Compute P[argmax f^(i)(x + δ) = y], the accuracy of each feature under an attack on that feature.

        Args:
            x: test images.
            y: their classes.
            attack: a number ε for one step of that radius in linf; a `Threat` for another norm or several steps; or any
                function (machine, x, y) -> attacked images. A number or a `Threat` attacks all features at once, and each
                image until it is wrong; a function is run on the machine of one feature after the other.
            indices: features to score; all by default.
            progress: called with the share of the work that is done, from 0 to 1.
        """
        index = self.chosen(indices)
        if not callable(attack):
            threat = attack if isinstance(attack, Threat) else Threat(attack)
            return FeatureScores.of(index, self.outcomes(x, y, threat, index, progress=progress).attacked)
        x, y = self._checked(x, y, (0, 1))
        progress = Progress(progress)
        right = y.new_zeros(len(index), len(y), dtype=torch.bool)
        for place, i in enumerate(index):
            feature = self.keep(i)
            x_adv = as_images(attack(feature, x, y), "the images of the attack")
            right[place] = correct(feature, x_adv, y)
            progress.step(place + 1, len(index))
        return FeatureScores.of(index, right)

    def certified(
        self,
        x: Float[Tensor, "m *shape"],
        y: Int[Tensor, " m"],
        threat: Threat | float,
        indices: Indices | None = None,
        *,
        tiers: str = "both",
        progress: Report | None = None,
    ) -> FeatureScores:
        """Compute a lower bound of each feature's robustness: the share of images on which it is proved right in the ball.

        `robustness` of the same threat is the upper bound: the robustness itself lies between the two.

        Args:
            x: test images.
            y: their classes.
            threat: the ball, and the steps of the attack that finds out which images need a second bound; or a number ε
                for 10 steps in linf.
            indices: features to certify; all by default.
            tiers: "both", or "linear" for the bound that takes milliseconds per image for all features together. The other
                one takes a tenth of a second or more for every image and feature that this one leaves open.
            progress: called with the share of the work that is done, from 0 to 1.

        Raises:
            InputError: arguments that do not fit.
            UnsupportedLayer: no bound is known for the machine's kernel.
            NumericalFailure: an attack succeeds where a bound says that none does. It is not expected, and is checked in
                every call.
        """
        if tiers not in ("both", "linear"):
            raise InputError(f'expected tiers "both" or "linear"; got {tiers!r}.')
        index = self.chosen(indices)
        threat = threat if isinstance(threat, Threat) else Threat(threat, steps=10)
        x, y = self._checked(x, y, threat.bounds)
        parts = Parts(Progress(progress), {"attack": 1.0, "proof": 4.0})
        vectors, weights = self.eigenvectors[:, index], self._class_weights(index)
        # The proof is about the features in float64, and so is the attack that it is compared with.
        x = x.to(torch.float64)
        with parts("attack") as part, torch.no_grad():
            tried = threat if tiers == "both" else None
            found = outcomes(self.machine, vectors, weights, x, y, tried, part, torch.float64)
        with parts("proof") as part:
            right = proved(
                self.machine, vectors, weights, x, found.clean, found.attacked, threat, quadratic=tiers == "both",
                progress=part,
            )  # fmt: skip
        return FeatureScores.of(index, right)

    def outcomes(
        self,
        x: Float[Tensor, "m *shape"],
        y: Int[Tensor, " m"],
        threat: Threat | None,
        indices: Indices | None = None,
        *,
        progress: Report | None = None,
    ) -> Outcomes:
        """Find which features are right on which images, clean and under attack.

        Args:
            x: images.
            y: their classes.
            threat: the attack; None for the clean images alone.
            indices: features; all by default.
            progress: called with the share of the work that is done, from 0 to 1.
        """
        index = self.chosen(indices)
        if threat is not None and not isinstance(threat, Threat):
            raise InputError(f"expected threat as a Threat, such as Threat(8 / 255); got {threat!r}.")
        x, y = self._checked(x, y, (0, 1) if threat is None else threat.bounds)
        with torch.no_grad():
            return outcomes(
                self.machine, self.eigenvectors[:, index], self._class_weights(index), x, y, threat, progress
            )

    def picture(self, x: Float[Tensor, "m *shape"], index: Indices, y: Int[Tensor, " m"] | None = None) -> Tensor:
        """Compute ∇_x f^(i)(x) as signed images in the shape of x: which pixels the feature depends on.

        Args:
            x: images.
            index: which feature, or several, whose sum is pictured.
            y: classes whose output is differentiated. With two classes that is f^(i) for the second class and -f^(i) for
                the first, and without y it is f^(i).

        Raises:
            InputError: more than two classes and no y, or classes that do not fit.
        """
        feature = self.keep(index)
        outputs = feature.targets.shape[1]
        if outputs > 1 and y is None:
            raise InputError(
                "with more than two classes the picture needs y, the classes whose outputs are differentiated."
            )
        if y is not None:
            x, y = check_attack(x, y, (-math.inf, math.inf))
            check_range(y, self._class_count())
        x = feature.checked(x)
        if not len(x):
            return torch.zeros_like(x)
        columns = y.long() if y is not None and outputs > 1 else torch.zeros(len(x), dtype=torch.long, device=x.device)
        _, pullback = feature.expand(feature.coefficients, torch.float64).along(x, columns)
        gradient = pullback.along(columns, torch.arange(len(x), device=x.device))
        if y is None or outputs > 1:
            return gradient
        return gradient * per_sample(2 * y.to(gradient) - 1, x)

    def _checked(self, x: Tensor, y: Tensor, bounds: Bounds) -> tuple[Tensor, Tensor]:
        """Return images to score on, and their classes."""
        x, y = check_attack(x, y, bounds)
        x = self.machine.checked(x)
        if not len(x):
            raise InputError("expected x as at least one image to score the features on; got none.")
        check_range(y, self._class_count())
        return x, y

    def _class_weights(self, index: list[int]) -> Tensor:
        """Return the factors from the features' scalars to logits, up to their scale: (k, classes)."""
        weights = self.weights[index]
        # One scalar output f stands for the logits (-f, f).
        return torch.cat([-weights, weights], 1) if weights.shape[1] == 1 else weights

    def _class_count(self) -> int:
        return max(2, self.weights.shape[1])

    def chosen(self, indices: Indices | None, *, once: bool = False) -> list[int]:
        """Return features' places in the spectrum as a list.

        Args:
            indices: one place, or several; all by default.
            once: refuse a place that is given twice.

        Raises:
            InputError: places outside the spectrum, a mask, or a place given twice.
        """
        index = list(range(len(self))) if indices is None else list(whole_indices(indices))
        check_indices(index, len(self))
        if once and len(set(index)) < len(index):
            raise InputError("expected each feature once; got one of them more often.")
        return index


def eigenfeatures(machine: KernelMachine, count: int | None = None) -> NTKFeatures:
    """Return the NTK features of a fitted machine: one predictor per eigenvector of its kernel matrix.

    Args:
        machine: a fitted machine.
        count: number of leading features; all by default.

    Example:
        >>> from ntklens.kernels import LinearKernel
        >>> x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
        >>> features = eigenfeatures(KernelMachine(LinearKernel()).fit(x, torch.tensor([0, 1])))
        >>> features.eigenvalues
        tensor([2.0000, 0.5000], dtype=torch.float64)
    """
    return NTKFeatures(machine, count)


def check_features(features: NTKFeatures) -> None:
    """Raise InputError unless these are features of a machine."""
    if not isinstance(features, NTKFeatures):
        raise InputError(f"expected features as those of eigenfeatures(machine); got {type(features).__name__}.")


def linear_robust_radius(x: Float[Tensor, "m d"], direction: Float[Tensor, " d"]) -> Float[Tensor, " m"]:
    """Compute |uᵀx| / |u|₁: how far x may move in linf before a linear feature uᵀx changes sign (docs/formulas.md).

    Raises:
        InputError: inputs or a direction that do not fit each other, or a direction that is zero.
    """
    x, u = as_images(x), as_floats(direction, "direction")
    if x.ndim != 2 or u.shape != x.shape[1:]:
        raise InputError(f"expected x (m, d) and a direction (d,); got {tuple(x.shape)} and {tuple(u.shape)}.")
    if not bool(u.any()):
        raise InputError("expected a direction that is not zero, since a feature of zero has no sign; got zeros.")
    dtype = torch.promote_types(x.dtype, u.dtype)
    x, direction = x.to(dtype), u.to(dtype)
    return (x @ direction).abs() / direction.abs().sum()
