"""Which features a predictor has learned: the projection of its outputs on each eigenvector (claim C5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.arguments import as_floats
from ntklens.errors import InputError
from ntklens.features.eigenfeatures import NTKFeatures, check_features
from ntklens.features.subsets import bands
from ntklens.linalg import Filter


def share_learned(features: NTKFeatures, outputs: Float[Tensor, "n O"]) -> Float[Tensor, " k"]:
    """Compute the learned share of each feature: <v_iᵀ f(X), v_iᵀ Y> / ``|v_iᵀ Y|²``, (k,).

    It is 0 before a feature is learned and 1 when it is; gradient flow on the kernel gives 1 - exp(-η λ_i t).

    Args:
        features: features of a machine.
        outputs: f(X) of any predictor, such as a finite network, on the machine's training images.

    Raises:
        InputError: outputs of another shape than the targets, or that are not finite.
    """
    check_features(features)
    outputs = as_floats(outputs, "outputs")
    if outputs.shape != features.machine.targets.shape:
        raise InputError(
            f"expected outputs on the training images, {tuple(features.machine.targets.shape)}; got {tuple(outputs.shape)}."
        )
    projected = features.eigenvectors.T @ outputs.to(features.eigenvectors)
    energy = features.weights.square().sum(1)
    # A feature without label energy has nothing to learn; its share is 0.
    return (projected * features.weights).sum(1) / torch.where(energy > 0, energy, 1.0)


def predicted_share(features: NTKFeatures, filter: Filter) -> Float[Tensor, " k"]:
    """Return the learned share of each feature in the kernel machine with the filter g: λ_i g(λ_i), (k,)."""
    return features.eigenvalues * filter(features.eigenvalues)


def over_bands(
    features: NTKFeatures, shares: Float[Tensor, " k"], edges: Sequence[int]
) -> list[tuple[int, int, float, float]]:
    """Average shares over bands of the spectrum, weighted by the label energy of each feature.

    Args:
        features: features of a machine.
        shares: one share per feature.
        edges: first index of each band; the last band ends with the spectrum.

    Returns:
        (first index, last index, mean, label energy) of each band that has features. Where the label energy is nearly zero,
        the mean says nothing.
    """
    rows = []
    for band in bands(edges, len(features)):
        energy = features.label_energy[band.start : band.stop]
        total = float(energy.sum())
        mean = float((shares[band.start : band.stop] * energy).sum()) / total if total else 0.0
        rows.append((band.start, band.stop - 1, mean, total))
    return rows


def half_learned(shares: Float[Tensor, "t k"], times: Sequence[float]) -> Float[Tensor, " k"]:
    """Return the first time at which half of each feature is learned: (k,); infinity where it never is.

    Args:
        shares: learned share of each feature at each time.
        times: the times, increasing.
    """
    reached = shares >= 0.5
    # argmax gives the first of equal values; a feature that never gets there points to the infinity after the last time.
    first = torch.where(reached.any(0), reached.to(torch.int8).argmax(0), len(times))
    grid = torch.tensor([*times, float("inf")], dtype=torch.float64, device=shares.device)
    return grid[first]
