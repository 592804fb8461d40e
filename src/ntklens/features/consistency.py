"""Whether two kernels have the same features on the same data (Tsilivis & Kempe 2022, claim C4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.errors import InputError
from ntklens.features.eigenfeatures import NTKFeatures


def subspace_overlap(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> float:
    """Compute |AᵀB|_F² / k, the mean squared cosine of the principal angles of two subspaces; 1 when they are the same.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many as those of a.
    """
    return float(principal_cosines(a, b).square().mean())


def principal_cosines(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Compute the cosines of the principal angles of two subspaces in descending order: the singular values of AᵀB.

    Source: Björck & Golub 1973.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many as those of a.
    """
    if a.shape != b.shape:
        raise InputError(f"expected two subspaces of one size; got {tuple(a.shape)} and {tuple(b.shape)}.")
    cosines: Tensor = torch.linalg.svdvals(a.T @ b)
    return cosines


def match(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Pair the columns of two bases so that the sum of the squared cosines is largest (the assignment problem).

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many as those of a.

    Returns:
        For each column of a the index of its partner in b, and their signed cosine.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and used by this function alone

    if a.shape != b.shape:
        raise InputError(f"expected two bases of one size; got {tuple(a.shape)} and {tuple(b.shape)}.")
    cosines = a.T @ b
    _, partner = linear_sum_assignment(-cosines.square().cpu().numpy())
    order = torch.from_numpy(partner).to(a.device)
    return order, cosines.gather(1, order[:, None])[:, 0]


def random_overlap(n: int, k: int, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Return the central 95 % of `subspace_overlap` for two independent random subspaces, whose mean is k/n.

    Args:
        n: dimension of the space.
        k: dimension of the subspaces.
        draws: number of pairs to draw.
        generator: source of the draws.
    """
    return _null(subspace_overlap, n, k, draws, generator)


def random_match(n: int, k: int, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Return the central 95 % of the mean squared cosine of the pairs that `match` finds in independent random bases.

    Args:
        n: dimension of the space.
        k: number of vectors in a basis.
        draws: number of pairs of bases to draw.
        generator: source of the draws.
    """
    return _null(lambda a, b: float(match(a, b)[1].square().mean()), n, k, draws, generator)


def _null(
    statistic: Callable[[Tensor, Tensor], float], n: int, k: int, draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """Return the central 95 % of a statistic of two independent random bases.

    The statistic depends on the bases' relative position alone, so one of them stays the first k unit vectors.
    """
    a = torch.eye(n, k, dtype=torch.float64)
    samples = []
    for _ in range(draws):
        q, _ = torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64))
        samples.append(statistic(a, q))
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def scalar_pictures(
    features: NTKFeatures, x: Float[Tensor, "m *shape"], directions: Float[Tensor, "n k"]
) -> Float[Tensor, "k m *shape"]:
    """Compute ∇_x Θ(x, X) v for each column v, in double precision: the pixels that the scalar of a feature depends on.

    Args:
        features: features of the machine whose kernel is used.
        x: images.
        directions: vectors v over the training images, as columns: eigenvectors, or any others.
    """
    rows = torch.arange(len(x), device=x.device)
    _, pullback = features.machine.expand(directions, torch.float64).vjp(x.to(torch.float64))
    columns = [rows.new_full((len(x),), column) for column in range(directions.shape[1])]
    return torch.stack([pullback.along(column, rows) for column in columns])


def picture_cosine(a: Float[Tensor, "m *shape"], b: Float[Tensor, "m *shape"]) -> Float[Tensor, " m"]:
    """Compute |cosine| of two features' pictures for each image: (m,); the sign of a feature is arbitrary."""
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).abs()
