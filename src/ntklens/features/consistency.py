"""Whether two kernels see the same features of the same data (Tsilivis & Kempe 2022, claim C4)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError


def subspace_overlap(a: Float[Tensor, "n k"], b: Float[Tensor, "n k"]) -> float:
    """|AᵀB|_F² / k: mean squared cosine of the principal angles of two k-dimensional subspaces; 1 when they are one.

    Args:
        a: orthonormal columns.
        b: orthonormal columns, as many.
    """
    if a.shape != b.shape:
        raise InputError(f"two subspaces of one size were expected; {tuple(a.shape)} and {tuple(b.shape)} came.")
    return float((a.T @ b).square().sum() / a.shape[1])


def random_overlap(n: int, k: int, draws: int, generator: torch.Generator) -> tuple[float, float]:
    """Central 95 % of `subspace_overlap` for two independent random subspaces: the null; its mean is k/n."""
    a = torch.eye(n, k, dtype=torch.float64)
    samples = []
    for _ in range(draws):
        q, _ = torch.linalg.qr(torch.randn(n, k, generator=generator, dtype=torch.float64))
        samples.append(subspace_overlap(a, q))
    low, high = np.quantile(samples, [0.025, 0.975])
    return float(low), float(high)


def picture_cosine(a: Float[Tensor, "m *shape"], b: Float[Tensor, "m *shape"]) -> Float[Tensor, " m"]:
    """|cosine| of two features' pictures, image by image; a feature's sign is arbitrary."""
    return torch.cosine_similarity(a.flatten(1), b.flatten(1), dim=1).abs()
