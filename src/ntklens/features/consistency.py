"""Whether two kernels have the same features on the same data (Tsilivis & Kempe 2022, claim C4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ntklens.arguments import as_count, as_floats, as_images, check_generator, same_device
from ntklens.errors import InputError
from ntklens.features.eigenfeatures import NTKFeatures, check_features


def subspace_overlap(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> float:
    """Compute |AᵀB|_F² / k, the mean squared cosine of the principal angles of two subspaces; 1 when they are the same.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many as those of a.
    """
    return float(principal_cosines(a, b).detach().square().mean())


def principal_cosines(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """Compute the cosines of the principal angles of two subspaces in descending order: the singular values of AᵀB.

    Source: Björck & Golub 1973.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many as those of a.
    """
    a, b = _bases(a, b)
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

    a, b = _bases(a, b)
    cosines = a.T @ b
    _, partner = linear_sum_assignment(-cosines.detach().square().cpu().numpy())
    order = torch.from_numpy(partner).to(a.device)
    return order, cosines.gather(1, order[:, None])[:, 0]


def _bases(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return two bases as tensors of one size and dtype."""
    a, b = as_floats(a, "a"), as_floats(b, "b")
    if a.shape != b.shape or a.ndim != 2 or not a.numel():
        raise InputError(f"expected a and b as bases of one size, (n, k); got {tuple(a.shape)} and {tuple(b.shape)}.")
    same_device(b, a.device, "b", "a")
    dtype = torch.promote_types(a.dtype, b.dtype)
    return a.to(dtype), b.to(dtype)


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
    if as_count(k, "k") > as_count(n, "n"):
        raise InputError(f"expected k, the dimension of the subspaces, from 1 to n = {n}; got {k}.")
    as_count(draws, "draws")
    check_generator(generator)
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
    check_features(features)
    x = features.machine.checked(x)
    rows = torch.arange(len(x), device=x.device)
    directions = as_floats(directions, "directions")
    if directions.ndim != 2 or len(directions) != len(features.eigenvectors):
        raise InputError(
            f"expected directions of shape ({len(features.eigenvectors)}, k), columns over the training images; got "
            f"{tuple(directions.shape)}."
        )
    _, pullback = features.machine.expand(directions, torch.float64).vjp(x.to(torch.float64))
    columns = [rows.new_full((len(x),), column) for column in range(directions.shape[1])]
    return torch.stack([pullback.along(column, rows) for column in columns])


def picture_cosine(a: Float[Tensor, "m *shape"], b: Float[Tensor, "m *shape"]) -> Float[Tensor, " m"]:
    """Compute |cosine| of two features' pictures for each image: (m,); the sign of a feature is arbitrary."""
    a, b = as_images(a, "a"), as_images(b, "b")
    if a.shape != b.shape:
        raise InputError(f"expected a and b as pictures of one shape; got {tuple(a.shape)} and {tuple(b.shape)}.")
    same_device(b, a.device, "b", "a")
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).abs()
