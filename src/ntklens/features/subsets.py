"""Machines made of some of the features, and what early stopping and a ridge keep of them."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Int
from torch import Tensor

from ntklens.features.eigenfeatures import NTKFeatures
from ntklens.features.scores import FRAGILE, PARTLY, ROBUST, UNSCORED, USELESS
from ntklens.linalg import Indices


def subsets(names: Sequence[str]) -> dict[str, list[int]]:
    """Sets of features by their categories, and the complements: what is left without the robust, or the non-robust, ones.

    Args:
        names: the category of each feature, in the order of the spectrum; "not scored" ones are a set of their own.

    Example:
        >>> subsets(["robust and useful", "not useful", "useful non-robust"])["all but the useful non-robust"]
        [0, 1]
    """
    of = {kind: [i for i, name in enumerate(names) if name == kind] for kind in (ROBUST, PARTLY, FRAGILE, USELESS)}
    known = {
        "all": list(range(len(names))),
        **of,
        "all but the robust": [i for i, name in enumerate(names) if name != ROBUST],
        "all but the useful non-robust": [i for i, name in enumerate(names) if name != FRAGILE],
    }
    unscored = [i for i, name in enumerate(names) if name == UNSCORED]
    return {**known, UNSCORED: unscored} if unscored else known


def bands(edges: Sequence[int], total: int) -> list[range]:
    """Stretches of the spectrum, of the features from one edge to the next; the last ends with the spectrum.

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
    """What each training image has of the labels that some features carry: (P Y)_j · Y_j / ``|Y|²``, (n,).

    P projects on the features' eigenvectors. The sum over all images is the features' share of the label energy, and over
    all features 1/n an image when its target has the size of the others; negative where the features say otherwise of an
    image than its label.

    Args:
        features: of a machine.
        indices: some of them.
    """
    vectors, y = features.eigenvectors[:, features.chosen(indices, once=True)], features.machine.targets
    projected = vectors @ (vectors.T @ y)
    return (projected * y).sum(1) / y.square().sum()


def class_shares(shares: Tensor, y: Int[Tensor, " n"]) -> Tensor:
    """The sum of an attribution over the images of each class: (classes,)."""
    return shares.new_zeros(int(y.max()) + 1).index_add(0, y, shares)
