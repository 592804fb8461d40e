"""Which features a predictor has picked up: the projection of its outputs on each eigenvector (claim C5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.features.eigenfeatures import NTKFeatures
from ntklens.features.subsets import bands
from ntklens.linalg import Filter


def share_learned(features: NTKFeatures, outputs: Float[Tensor, "n O"]) -> Float[Tensor, " k"]:
    """How much of each feature there is in outputs on the training images: <v_iᵀ f(X), v_iᵀ Y> / ``|v_iᵀ Y|²``.

    0 before a feature is learned and 1 when it is; gradient flow on the kernel gives 1 - exp(-η λ_i t).

    Args:
        features: of a machine.
        outputs: f(X) of any predictor, a finite network among them, on the machine's training images.
    """
    there = features.eigenvectors.T @ outputs.to(features.eigenvectors)
    energy = features.weights.square().sum(1)
    return (there * features.weights).sum(1) / torch.where(energy > 0, energy, 1.0)


def predicted_share(features: NTKFeatures, filter: Filter) -> Float[Tensor, " k"]:
    """The same of the kernel machine with a filter: λ_i g(λ_i)."""
    return features.eigenvalues * filter(features.eigenvalues)


def over_bands(
    features: NTKFeatures, shares: Float[Tensor, " k"], edges: Sequence[int]
) -> list[tuple[int, int, float, float]]:
    """Means of shares over bands of the spectrum, weighted by the labels' energy in each feature.

    Args:
        features: of a machine.
        shares: of each feature.
        edges: first index of each band; the last band ends with the spectrum.

    Returns:
        (first index, last index, mean, label energy) of each band with features in it. The mean of a band with next to no
        label energy means nothing.
    """
    found = []
    for band in bands(edges, len(features)):
        energy, seen = features.label_energy[band.start : band.stop], shares[band.start : band.stop]
        size = float(energy.sum())
        found.append((band.start, band.stop - 1, float((seen * energy).sum()) / size if size else 0.0, size))
    return found


def half_learned(shares: Float[Tensor, "t k"], times: Sequence[float]) -> Float[Tensor, " k"]:
    """The first time at which half of each feature is there; infinity where it never is."""
    reached = shares >= 0.5
    first = torch.where(reached.any(0), reached.to(torch.int8).argmax(0), len(times))
    grid = torch.tensor([*times, float("inf")], dtype=torch.float64, device=shares.device)
    return grid[first]
