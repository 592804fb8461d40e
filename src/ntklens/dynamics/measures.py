"""Measures of a kernel matrix and of its movement: pure functions of matrices and spectra (docs/formulas.md).

Sources: Fort et al. 2020 (kernel distance, velocity), Loo et al. 2022 (polar dynamics, concentration under adversarial
training), Cortes et al. 2012 (centred alignment), Roy & Vetterli 2007 (effective rank).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


def similarity(a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> float:
    """Compute ⟨A, B⟩_F / (|A|_F |B|_F), in [-1, 1]; NaN where a kernel is zero."""
    return float((_unit(a) * _unit(b)).sum())


def kernel_distance(a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> float:
    """Compute 1 - similarity, in [0, 2]: 0 for kernels that are equal up to scale (Fort et al. 2020, eq. 4).

    Example:
        >>> kernel_distance(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        0.2929
    """
    # For unit matrices |A - B|² = 2 - 2 ⟨A, B⟩. The difference keeps the digits of the small distances of a kernel that
    # hardly moves, where 1 - ⟨A, B⟩ would cancel.
    return float((_unit(a) - _unit(b)).square().sum()) / 2


def distance_map(kernels: Float[Tensor, "e n n"]) -> Float[Tensor, "e e"]:
    """Compute the kernel distance of every pair of epochs."""
    unit = torch.stack([_unit(k).flatten() for k in kernels])
    # As in `kernel_distance`, and for the same digits: differences, not the matrix product that cdist takes by default.
    differences: Tensor = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    return differences.square() / 2


def velocity(kernels: Float[Tensor, "e n n"], epochs: Sequence[float]) -> list[float]:
    """Compute the kernel distance per epoch between each record and the one before it; NaN for the first record."""
    velocities = [math.nan]
    for t in range(1, len(kernels)):
        velocities.append(kernel_distance(kernels[t - 1], kernels[t]) / (epochs[t] - epochs[t - 1]))
    return velocities


def lazy_epoch(
    velocities: Sequence[float], epochs: Sequence[float], threshold: float, *, patience: int = 3
) -> float | None:
    """Return the first epoch from which on the velocity stays below the threshold.

    None where it stays below for fewer than the last `patience` records: one slow epoch at the end is no regime.
    """
    slow = 0
    while slow < len(velocities) and velocities[-1 - slow] < threshold:
        slow += 1
    return epochs[-slow] if slow >= patience else None


@dataclass(frozen=True)
class Polar:
    """A path of kernels in polar coordinates around the first kernel.

    Attributes:
        radius: |K_t - K_0|_F / |K_T - K_0|_F with the last kernel K_T.
        angle: arccos of the similarity of K_t and K_0, in radians.
    """

    radius: list[float]
    angle: list[float]


def polar(kernels: Float[Tensor, "e n n"]) -> Polar:
    """Compute radius and angle of every kernel with respect to the first.

    A path that ends where it began has no scale: its radius is infinite wherever it is away from its start.
    """
    displacements = [float((k.double() - kernels[0].double()).norm()) for k in kernels]
    last = displacements[-1]
    radius = [d / last if last else (0.0 if d == 0 else math.inf) for d in displacements]
    return Polar(radius, [_angle(kernels[0], k) for k in kernels])


def split(
    kernel: Float[Tensor, "n n"], eigenvalues: Float[Tensor, " k"], eigenvectors: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n n"]]:
    """Split a kernel into V diag(λ) Vᵀ, its part in the span of some of its eigenvectors, and the rest.

    Args:
        kernel: K.
        eigenvalues: λ, some of the kernel's eigenvalues.
        eigenvectors: V, their eigenvectors, one per column.
    """
    within: Tensor = (eigenvectors * eigenvalues) @ eigenvectors.T
    return within, kernel.double() - within


def concentration(eigenvalues: Float[Tensor, " n"], k: int) -> float:
    """Compute C_k = Σ_{i≤k} λ_i² / Σ_i λ_i², for eigenvalues in any order; 1 for a kernel of zeros."""
    squares = eigenvalues.double().square().sort(descending=True).values
    return float(squares[:k].sum() / squares.sum()) if bool(squares.any()) else 1.0


def effective_rank(eigenvalues: Float[Tensor, " n"]) -> float:
    """Compute exp of the entropy of λ / Σλ: n for a flat spectrum, 1 for rank one, 0 for a kernel of zeros."""
    positive = eigenvalues.double().clamp(min=0)
    if not bool(positive.any()):
        return 0.0
    return float(torch.special.entr(positive / positive.sum()).sum().exp())


def centred_cosine(kernel: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """Compute H K' H / |H K' H|_F with K'_ij = K_ij / √(K_ii K_jj) and H = I - 1 1ᵀ / n, in float64.

    The lengths of the tangents and what all of them share, which training moves most, are taken out. An input without
    tangents has similarity 0 with all others; where nothing is left, the matrix is zero.
    """
    double = kernel.double()
    scale = double.diagonal().clamp(min=0).sqrt()
    inverse = torch.where(scale > 0, 1 / scale, torch.zeros_like(scale))
    centred = _centre(inverse[:, None] * double * inverse)
    norm = centred.norm()
    # Below rounding of a kernel in single precision, as of a kernel of rank one, no direction is left.
    return torch.zeros_like(centred) if float(norm) < 1e-6 * len(centred) else centred / norm


def centred_rank(kernel: Float[Tensor, "n n"]) -> float:
    """Compute the effective rank of the centred cosine kernel; 0 where nothing is left of it.

    Without the centring, one almost constant eigenvector holds most of the spectrum and falls in training, so that the
    training that has come less far looks more concentrated.
    """
    return effective_rank(torch.linalg.eigvalsh(centred_cosine(kernel)))


def alignment(kernel: Float[Tensor, "n n"], targets: Float[Tensor, "n O"]) -> float:
    """Compute the centred alignment (CKA) of a kernel with the kernel Y Yᵀ of the targets."""
    y = targets.double()
    return similarity(_centre(kernel.double()), _centre(y @ y.T))


def specialisation(kernel: Float[Tensor, "n n"], y: Int[Tensor, " n"]) -> list[float]:
    """Compute, for each class, the mean similarity of tangents within the class over that with other classes.

    The similarity of an input with itself, 1 in every kernel, does not count. The ratio is NaN for a class with one input
    and for a lone class.
    """
    scale = kernel.double().diagonal().sqrt()
    cosine = kernel.double() / (scale[:, None] * scale)
    distinct = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    ratios = []
    for c in torch.unique(y):
        inside, outside = y == c, y != c
        within = cosine[inside[:, None] & inside & distinct].mean()
        across = cosine[inside[:, None] & outside].mean()
        ratios.append(float(within / across))
    return ratios


def _unit(kernel: Tensor) -> Tensor:
    """Return the kernel over its Frobenius norm, in float64."""
    double = kernel.double()
    unit: Tensor = double / double.norm()
    return unit


def _angle(a: Tensor, b: Tensor) -> float:
    """Return the angle between two kernels, in radians.

    For unit vectors |A - B| = 2 sin(θ/2) and |A + B| = 2 cos(θ/2) (Kahan). The arc cosine of the similarity would lose half
    of the digits of small angles.
    """
    return 2 * math.atan2(float((_unit(a) - _unit(b)).norm()), float((_unit(a) + _unit(b)).norm()))


def _centre(kernel: Tensor) -> Tensor:
    """Return H K H with H = I - 1 1ᵀ / n: columns and rows have mean zero."""
    columns = kernel - kernel.mean(0, keepdim=True)
    return columns - columns.mean(1, keepdim=True)
