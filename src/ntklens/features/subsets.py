"""Sets of features: by category, by bands of the spectrum, and what of the labels they carry."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from ntklens.features.eigenfeatures import NTKFeatures
from ntklens.features.scores import FRAGILE, PARTLY, ROBUST, UNSCORED, USELESS
from ntklens.linalg import Indices


def subsets(names: Sequence[str]) -> dict[str, list[int]]:
    """Return sets of features: all, one set per category, and all but the robust or but the useful non-robust ones.

    Args:
        names: the category of each feature, in the order of the spectrum; features that were not scored are a set of
            their own.

    Example:
        >>> subsets(["robust and useful", "not useful", "useful non-robust"])["all but the useful non-robust"]
        [0, 1]
    """
    by_category = {
        category: [i for i, name in enumerate(names) if name == category]
        for category in (ROBUST, PARTLY, FRAGILE, USELESS)
    }
    sets = {
        "all": list(range(len(names))),
        **by_category,
        "all but the robust": [i for i, name in enumerate(names) if name != ROBUST],
        "all but the useful non-robust": [i for i, name in enumerate(names) if name != FRAGILE],
    }
    unscored = [i for i, name in enumerate(names) if name == UNSCORED]
    return {**sets, UNSCORED: unscored} if unscored else sets


def bands(edges: Sequence[int], total: int) -> list[range]:
    """Return bands of the spectrum, each from one edge to the next; the last band ends with the spectrum.

    Args:
        edges: first index of each band, increasing.
        total: number of features.

    Example:
        >>> bands((0, 1, 10, 100), 50)
        [range(0, 1), range(1, 10), range(10, 50)]
    """
    stops = (*edges[1:], total)
    return [range(first, min(stop, total)) for first, stop in zip(edges, stops, strict=True) if first < total]


def attribution(features: NTKFeatures, indices: Indices) -> Tensor:
    """Compute each training image's share of the label energy that some features carry: (P Y)_j · Y_j / ``|Y|²``, (n,).

    P projects on the features' eigenvectors. The shares of all images add up to the features' share of the label energy.
    With all features an image has 1/n if all targets have the same size. A share is negative where the features contradict
    the image's label.

    Args:
        features: features of a machine.
        indices: which of them.
    """
    vectors = features.eigenvectors[:, features.chosen(indices, once=True)]
    targets = features.machine.targets
    projected = vectors @ (vectors.T @ targets)
    return (projected * targets).sum(1) / targets.square().sum()


def class_shares(shares: Tensor, y: Int[Tensor, " n"]) -> Tensor:
    """Sum an attribution over the images of each class: (classes,)."""
    return shares.new_zeros(int(y.max()) + 1).index_add(0, y, shares)
