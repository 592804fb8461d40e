"""A data set that keeps some features only, so that a network can learn no others (after Ilyas et al. 2019)."""

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
"""What is projected on the features: the targets, or the images."""


@dataclass(frozen=True)
class ProjectedData:
    """A training set projected on a subspace of the functions of its images.

    Attributes:
        x: (n, ...), images in [0, 1].
        targets: (n, O), regression targets, in the form that a kernel machine is fitted on.
        y: (n,), the classes of the largest targets; with one column, class 1 where it is positive.
        rank: dimension of the subspace.
        kind: what is projected.
    """

    x: Tensor
    targets: Tensor
    y: Tensor
    rank: int
    kind: Kind

    def __repr__(self) -> str:
        return f"ProjectedData({len(self.x)} images, {self.kind} of rank {self.rank})"

    def save(self, path: str | Path, test: tuple[Tensor, Tensor]) -> None:
        """Write an .npz with the training set, its targets, and an unchanged test set.

        `--data` and `load_dataset` read the images and classes of the file. Projected labels are its array `targets`, for
        training by least squares; the classes hold only which target is the largest.

        Args:
            path: the file to write.
            test: images and classes of the test set.
        """
        arrays = {"x_train": self.x, "y_train": self.y, "targets": self.targets, "x_test": test[0], "y_test": test[1]}
        as_numpy: dict[str, Any] = {name: array.cpu().numpy() for name, array in arrays.items()}
        np.savez_compressed(path, **as_numpy)


def robust_dataset(features: NTKFeatures, indices: Indices, kind: Kind = "labels") -> ProjectedData:
    """Project the labels, or the images, of the training set on some features.

    "labels" keeps the images and replaces Y by V Vᵀ Y: a lazy network trained on these targets by least squares becomes the
    machine of these features. "images" keeps the labels and replaces each pixel, taken as a function of the image, by its
    mean plus the projection of its deviation, so that images differ only in these features.

    Args:
        features: features of a fitted machine.
        indices: the features to keep.
        kind: what to project.

    Raises:
        InputError: no features, indices outside the spectrum, or an unknown kind.
    """
    index = features.chosen(indices, once=True)
    if not index:
        raise InputError("expected at least one feature to keep; got none.")
    return _projected(features, features.eigenvectors[:, index], kind)


def random_dataset(features: NTKFeatures, rank: int, kind: Kind, generator: torch.Generator) -> ProjectedData:
    """Project the training set on a random subspace, as a control for `robust_dataset`.

    Args:
        features: features of a fitted machine.
        rank: dimension of the subspace.
        kind: what to project.
        generator: source of the subspace.

    Raises:
        InputError: a rank outside 1 to the number of training images, or an unknown kind.
    """
    n = len(features.eigenvectors)
    if not 1 <= rank <= n:
        raise InputError(f"expected a rank from 1 to {n}, the number of training images; got {rank}.")
    # An orthonormal basis of the span of Gaussian vectors, which is uniform among the subspaces.
    draw = torch.randn(n, rank, generator=generator, device=generator.device, dtype=torch.float64)
    basis, _ = torch.linalg.qr(draw.to(features.eigenvectors))
    return _projected(features, basis, kind)


def _projected(features: NTKFeatures, basis: Tensor, kind: Kind) -> ProjectedData:
    """Project labels or images on the columns of an orthonormal basis, (n, rank)."""
    x, targets = features.machine.train_inputs, features.machine.targets
    if kind == "labels":
        targets = basis @ (basis.T @ targets)
    elif kind == "images":
        # Each column of `flat` is one pixel as a function of the n images.
        flat = x.flatten(1).to(basis)
        mean = flat.mean(0)
        x = (mean + basis @ (basis.T @ (flat - mean))).clamp(0, 1).reshape(x.shape).to(x.dtype)
    else:
        raise InputError(f'expected the kind "labels" or "images"; got "{kind}".')
    y = (targets[:, 0] > 0).long() if targets.shape[1] == 1 else targets.argmax(1)
    return ProjectedData(x, targets, y, basis.shape[1], kind)
