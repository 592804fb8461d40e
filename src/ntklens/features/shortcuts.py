"""Shortcut audit: which features let a predictor rely on an attribute that is no part of the class.

A predictor is a sum of features, f = Σ_i f^(i) with f^(i) = Θ(x, X) v_i (v_iᵀ α), and so is its margin. Where images whose
attribute agrees with the class have a larger margin than those whose attribute conflicts with it, each feature has an exact
additive share of this gap:

    G_i = E[m^(i) | aligned] - E[m^(i) | conflicting],   Σ_i G_i = the gap of the machine.

Shares of a gap that is not there have no meaning: they are given only where its interval excludes 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_floats, check_range
from ntklens.attacks.checks import check_attack
from ntklens.errors import InputError
from ntklens.features.scores import FeatureScores
from ntklens.linalg import Trained
from ntklens.machine import KernelMachine
from ntklens.progress import Progress, Report
from ntklens.statistics import Estimate, mean

_BATCH = 256
"""Images whose features are computed together."""


@dataclass(frozen=True)
class ShortcutAudit:
    """How a machine's margins depend on an attribute, feature by feature.

    Attributes:
        aligned: accuracy of each feature on images whose attribute agrees with the class.
        conflicting: accuracy of each feature on images whose attribute conflicts with it.
        gap: mean margin on the aligned images minus that on the conflicting ones, with its 95 % interval.
        parts: (n,), what each feature adds to the gap; they sum to it.
        label_energy: (n,), <v_i, y>² / |y|² on the training images, over all outputs.
        attribute_energy: (n,), the same of the attribute; None where it is not known there.
        machine: the machine.
    """

    aligned: FeatureScores
    conflicting: FeatureScores
    gap: Estimate
    parts: Float[Tensor, " n"]
    label_energy: Float[Tensor, " n"]
    attribute_energy: Float[Tensor, " n"] | None
    machine: KernelMachine

    @property
    def has_gap(self) -> bool:
        """Whether the interval of the gap excludes 0."""
        return not self.gap.low <= 0 <= self.gap.high

    @property
    def shares(self) -> Float[Tensor, " n"] | None:
        """The share of the gap that each feature has; None where there is no gap to share."""
        return self.parts / self.gap.value if self.has_gap else None

    @property
    def worst(self) -> Float[Tensor, " n"]:
        """The lower of each feature's two accuracies."""
        return torch.minimum(*(torch.from_numpy(scores.values) for scores in (self.aligned, self.conflicting)))

    def rows(self, count: int = 10) -> list[dict[str, Any]]:
        """Return one line for each of the features with the largest shares, for tables and JSON; none without a gap."""
        shares = self.shares
        if shares is None:
            return []
        return [
            {
                "feature": i,
                "share": float(shares[i]),
                **self.aligned[i].row("aligned"),
                **self.conflicting[i].row("conflicting"),
                "label_energy": float(self.label_energy[i]),
                "attribute_energy": None if self.attribute_energy is None else float(self.attribute_energy[i]),
            }
            for i in shares.argsort(descending=True)[:count].tolist()
        ]

    def without(self, count: int) -> KernelMachine:
        """Return the machine without the features of the largest shares.

        Raises:
            InputError: there is no gap, so that no feature is to blame.
        """
        shares = self.shares
        if shares is None:
            raise InputError(
                f"expected a gap between aligned and conflicting images; got {self.gap.value:.3g} [{self.gap.low:.3g}, "
                f"{self.gap.high:.3g}], which is none. No feature is to be left out."
            )
        if not isinstance(count, int) or not 0 <= count <= len(shares):
            raise InputError(f"expected count from 0 to {len(shares)} features; got {count!r}.")
        chosen = shares.argsort(descending=True)[:count]
        v = self.machine.factorisation.spectrum.eigenvectors[:, chosen]
        a = self.machine.coefficients.to(torch.float64)
        named = ", ".join(map(str, chosen.tolist()))
        machine: KernelMachine = self.machine.with_coefficients(
            a - v @ (v.T @ a), Trained(f"without the features {named}")
        )
        return machine

    def __repr__(self) -> str:
        found = f"gap {self.gap.value:.3g} [{self.gap.low:.3g}, {self.gap.high:.3g}]"
        if not self.has_gap:
            return f"ShortcutAudit({found}: none to share)"
        first = self.rows(1)[0]
        return f"ShortcutAudit({found}; feature {first['feature']} has {100 * first['share']:.0f} % of it)"


def shortcut_audit(
    machine: KernelMachine,
    aligned: Float[Tensor, "m *shape"],
    conflicting: Float[Tensor, "m *shape"],
    y: Int[Tensor, " m"],
    *,
    attribute: Float[Tensor, " n"] | None = None,
    progress: Report | None = None,
) -> ShortcutAudit:
    """Find the features through which a machine relies on an attribute, from pairs of images with and against the class.

    The pairs are the same images with the attribute set both ways, such as a patch in the corner, a background or a colour
    that goes with a class in your training data. It audits your own data: nothing is made that could harm another's.

    Args:
        machine: a fitted machine, with any coefficients.
        aligned: images whose attribute agrees with their class, in [0, 1].
        conflicting: the same images with the attribute of another class.
        y: their classes.
        attribute: the attribute of each training image as a number, such as -1 and 1, where it is known.
        progress: called with the share of the images that is done.

    Raises:
        InputError: arguments that do not fit.
    """
    if not isinstance(machine, KernelMachine):
        raise InputError(f"expected machine as a KernelMachine; got {type(machine).__name__}.")
    spectrum = machine.factorisation.spectrum
    vectors, a = spectrum.eigenvectors, machine.coefficients.to(torch.float64)
    weights = vectors.T @ a  # (n, O): f^(i) = Θ(x, X) v_i times row i
    logits = torch.cat([-weights, weights], 1) if weights.shape[1] == 1 else weights
    above, below = logits.argmax(1), logits.argmin(1)
    margins, right = [], []
    report, total = Progress(progress), 2 * len(aligned)
    for number, (images, name) in enumerate(((aligned, "aligned"), (conflicting, "conflicting"))):
        x, labels = check_attack(images, y, (0, 1))
        x = machine.checked(x)
        if not len(x):
            raise InputError(f"expected {name} as at least one image; got none.")
        check_range(labels, max(2, a.shape[1]))
        of_images, are_right = [], []
        for start in range(0, len(x), _BATCH):
            batch = slice(start, start + _BATCH)
            with torch.no_grad():
                scalars = machine.expand(vectors, torch.float64)(x[batch].to(torch.float64))
            of_images.append(scalars * _directions(weights, labels[batch]))
            predicted = torch.where(scalars > 0, above, torch.where(scalars < 0, below, 0))
            are_right.append(predicted == labels[batch, None])
            report.step(number * len(x) + min(start + _BATCH, len(x)), total)
        margins.append(torch.cat(of_images))
        right.append(torch.cat(are_right).T)
    with_class, against = margins  # (m, n), of each feature
    gap = mean((with_class - against).sum(1).numpy())
    index = range(len(vectors.T))
    energy = None
    if attribute is not None:
        s = as_floats(attribute, "attribute").to(torch.float64)
        if s.shape != (len(vectors),):
            raise InputError(f"expected attribute of shape ({len(vectors)},), one number per training image; got "
                             f"{tuple(s.shape)}.")  # fmt: skip
        energy = (vectors.T @ s).square() / s.square().sum().clamp(min=1e-300)
    return ShortcutAudit(
        aligned=FeatureScores.of(index, right[0]),
        conflicting=FeatureScores.of(index, right[1]),
        gap=gap,
        parts=(with_class - against).mean(0),
        label_energy=(vectors.T @ machine.targets).square().sum(1) / machine.targets.square().sum(),
        attribute_energy=energy,
        machine=machine,
    )


def _directions(weights: Tensor, labels: Tensor) -> Tensor:
    """Return what a feature's scalar is multiplied by in the margin: (m, n).

    The margin is the output of the class minus the mean of the others, or y f for one output.
    """
    if weights.shape[1] == 1:
        return (2.0 * labels[:, None] - 1) * weights[:, 0]
    classes = weights.shape[1]
    own, whole = weights.T[labels], weights.sum(1)
    return own - (whole - own) / (classes - 1)
