"""A data set in which only some features are left, so that a network can learn no others (after Ilyas et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ntklens.errors import InputError
from ntklens.features.eigenfeatures import NTKFeatures
from ntklens.linalg import Indices

Kind = Literal["labels", "images"]


@dataclass(frozen=True)
class ProjectedData:
    """A training set projected on a subspace of the functions of its images.

    Attributes:
        x: (n, ...), images in [0, 1].
        targets: (n, O), as a kernel machine is fitted on.
        y: (n,), the classes of the largest targets.
        rank: dimension of the subspace.
        kind: what was projected.
    """

    x: Tensor
    targets: Tensor
    y: Tensor
    rank: int
    kind: Kind

    def save(self, path: str | Path, test: tuple[Tensor, Tensor]) -> None:
        """Write an .npz with the training set, its targets beside, and a test set as it is.

        `--data` and `load_dataset` read images and classes from it. What was projected in the labels is in the array
        `targets`, for a training by least squares; of it the classes keep the signs alone.
        """
        arrays = {"x_train": self.x, "y_train": self.y, "targets": self.targets, "x_test": test[0], "y_test": test[1]}
        plain: dict[str, Any] = {name: array.cpu().numpy() for name, array in arrays.items()}
        np.savez_compressed(path, **plain)


def robust_dataset(features: NTKFeatures, indices: Indices, kind: Kind = "labels") -> ProjectedData:
    """The training set with its labels, or its images, projected on some features.

    "labels" keeps the images and replaces Y by V Vᵀ Y: a lazy network trained on these targets by least squares becomes the
    machine of these features. "images" keeps the labels and replaces each pixel, as a function of the images, by its
    projection (about its mean), so that images differ only by what these features see.

    Args:
        features: of a fitted machine.
        indices: the features to keep.
        kind: what to project.

    Raises:
        InputError: no features, indices beyond them, or another kind.
    """
    index = features.chosen(indices, once=True)
    if not index:
        raise InputError("at least one feature to keep was expected; none came.")
    return _projected(features, features.eigenvectors[:, index], kind)


def random_dataset(features: NTKFeatures, rank: int, kind: Kind, generator: torch.Generator) -> ProjectedData:
    """The control: the same training set projected on a random subspace of the same dimension."""
    n = len(features.eigenvectors)
    if not 1 <= rank <= n:
        raise InputError(f"a rank from 1 to {n}, the number of training images, was expected; {rank} came.")
    draw = torch.randn(n, rank, generator=generator, device=generator.device, dtype=torch.float64)
    return _projected(features, torch.linalg.qr(draw.to(features.eigenvectors))[0], kind)


def _projected(features: NTKFeatures, basis: Tensor, kind: Kind) -> ProjectedData:
    x, targets = features.machine.train_inputs, features.machine.targets
    if kind == "labels":
        targets = basis @ (basis.T @ targets)
    elif kind == "images":
        flat = x.flatten(1).to(basis)
        mean = flat.mean(0)
        x = (mean + basis @ (basis.T @ (flat - mean))).clamp(0, 1).reshape(x.shape).to(x.dtype)
    else:
        raise InputError(f'the kind must be "labels" or "images"; "{kind}" came.')
    y = (targets[:, 0] > 0).long() if targets.shape[1] == 1 else targets.argmax(1)
    return ProjectedData(x, targets, y, basis.shape[1], kind)
