"""Whether two kernels see the same features of the same data (Tsilivis & Kempe 2022, claim C4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.errors import InputError
from ntklens.features.eigenfeatures import NTKFeatures


def subspace_overlap(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> float:
    """|AᵀB|_F² / k: mean squared cosine of the principal angles of two k-dimensional subspaces; 1 when they are one.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many.
    """
    return float(principal_cosines(a, b).square().mean())


def principal_cosines(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Cosines of the principal angles of two subspaces, largest first: the singular values of AᵀB (Björck & Golub 1973).

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many.
    """
    if a.shape != b.shape:
        raise InputError(f"two subspaces of one size were expected; {tuple(a.shape)} and {tuple(b.shape)} came.")
    cosines: Tensor = torch.linalg.svdvals(a.T @ b)
    return cosines


def match(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Pair the columns of two bases so that the sum of the squared cosines is largest (the assignment problem).

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many.

    Returns:
        For each column of a its partner's place in b, and their cosine, with its sign.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and used by this function alone

    if a.shape != b.shape:
        raise InputError(f"two bases of one size were expected; {tuple(a.shape)} and {tuple(b.shape)} came.")
    cosines = a.T @ b
    _, partner = linear_sum_assignment(-cosines.square().cpu().numpy())
    order = torch.from_numpy(partner).to(a.device)
    return order, cosines.gather(1, order[:, None])[:, 0]


def random_overlap(n: int, k: int, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Central 95 % of `subspace_overlap` for two independent random subspaces: the null; its mean is k/n."""
    return _null(subspace_overlap, n, k, draws, generator)


def random_match(n: int, k: int, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Central 95 % of the mean squared cosine of the pairs that `match` finds in two independent random bases."""
    return _null(lambda a, b: float(match(a, b)[1].square().mean()), n, k, draws, generator)


def _null(
    statistic: Callable[[Tensor, Tensor], float], n: int, k: int, draws: int, generator: torch.Generator
) -> tuple[float, float]:
    """Central 95 % of a statistic of the first k unit vectors and a random rotation of them."""
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
    """∇_x Θ(x, X) v for each column v: what a feature, or any direction of the training set, looks at."""
    z, row = x.to(torch.float64), torch.arange(len(x), device=x.device)
    _, slope = features.machine.expand(directions, torch.float64).vjp(z)
    return torch.stack([slope.along(row.new_full((len(x),), column), row) for column in range(directions.shape[1])])


def picture_cosine(a: Float[Tensor, "m *shape"], b: Float[Tensor, "m *shape"]) -> Float[Tensor, " m"]:
    """|cosine| of two features' pictures, image by image; a feature's sign is arbitrary."""
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).abs()
