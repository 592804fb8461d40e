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
    """<A, B>_F / (|A|_F |B|_F), in [-1, 1]."""
    return float((_unit(a) * _unit(b)).sum())


def kernel_distance(a: Float[Tensor, "n n"], b: Float[Tensor, "n n"]) -> float:
    """1 - similarity, in [0, 2]: 0 for kernels equal up to scale (Fort et al. 2020, eq. 4).

    Taken from the difference of the kernels at unit norm, |A^ - B^|² / 2, so that the small distances of a kernel that
    hardly moves keep their digits.

    Example:
        >>> kernel_distance(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
        0.2929
    """
    return float((_unit(a) - _unit(b)).square().sum()) / 2


def distance_map(kernels: Float[Tensor, "e n n"]) -> Float[Tensor, "e e"]:
    """Kernel distance of every pair of epochs."""
    unit = torch.stack([_unit(k).flatten() for k in kernels])
    apart: Tensor = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist")
    return apart.square() / 2


def velocity(kernels: Float[Tensor, "e n n"], epochs: Sequence[float]) -> list[float]:
    """Kernel distance of each epoch from the one before, a unit of time; NaN for the first."""
    moved = [math.nan]
    for t in range(1, len(kernels)):
        moved.append(kernel_distance(kernels[t - 1], kernels[t]) / (epochs[t] - epochs[t - 1]))
    return moved


def lazy_epoch(
    velocities: Sequence[float], epochs: Sequence[float], threshold: float, *, patience: int = 3
) -> float | None:
    """The first epoch from which on the velocity stays below the threshold.

    None when it does not stay below it for the last `patience` epochs at least: one slow epoch at the end is no regime.
    """
    slow = 0
    while slow < len(velocities) and velocities[-1 - slow] < threshold:
        slow += 1
    return epochs[-slow] if slow >= patience else None


@dataclass(frozen=True)
class Polar:
    """A path of kernels seen from the first.

    Attributes:
        radius: |K_t - K_0|_F / |K_T - K_0|_F.
        angle: arccos of the similarity of K_t and K_0, in radians.
    """

    radius: list[float]
    angle: list[float]


def polar(kernels: Float[Tensor, "e n n"]) -> Polar:
    """Radius and angle of every kernel with respect to the first."""
    moved = [float((k.double() - kernels[0].double()).norm()) for k in kernels]
    radius = [m / moved[-1] if moved[-1] else 0.0 if m == 0 else math.inf for m in moved]
    return Polar(radius, [_angle(kernels[0], k) for k in kernels])


def restricted(kernel: Float[Tensor, "n n"], k: int, *, top: bool) -> Float[Tensor, "n n"]:
    """The part of a kernel in its own top-k eigenspace, or in the rest."""
    values, vectors = torch.linalg.eigh(kernel.double())
    chosen = slice(len(values) - k, None) if top else slice(0, len(values) - k)
    v: Tensor = vectors[:, chosen]
    part: Tensor = (v * values[chosen]) @ v.T
    return part


def concentration(eigenvalues: Float[Tensor, " n"], k: int) -> float:
    """C_k = Σ_{i<=k} λ_i² / Σ_i λ_i², for eigenvalues in any order; 1 for a kernel of zeros."""
    squares = eigenvalues.double().square().sort(descending=True).values
    return float(squares[:k].sum() / squares.sum()) if bool(squares.any()) else 1.0


def effective_rank(eigenvalues: Float[Tensor, " n"]) -> float:
    """Exp of the entropy of λ / Σλ: n for a flat spectrum, 1 for rank one, 0 for a kernel of zeros."""
    share = eigenvalues.double().clamp(min=0)
    if not bool(share.any()):
        return 0.0
    share = share / share.sum()
    return float(torch.special.entr(share).sum().exp())


def alignment(kernel: Float[Tensor, "n n"], targets: Float[Tensor, "n O"]) -> float:
    """Centred alignment (CKA) of a kernel with the targets' Y Yᵀ."""
    y = targets.double()
    return similarity(_centre(kernel.double()), _centre(y @ y.T))


def specialisation(kernel: Float[Tensor, "n n"], y: Int[Tensor, " n"]) -> list[float]:
    """For each class, mean similarity of its inputs' tangents with each other over that with other classes'.

    An input's similarity with itself, 1 in every kernel, does not count. NaN for a class of one input, or a lone class.
    """
    scale = kernel.double().diagonal().sqrt()
    cosine = kernel.double() / (scale[:, None] * scale)
    distinct = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    ratios = []
    for c in torch.unique(y):
        own, other = y == c, y != c
        ratios.append(float(cosine[own[:, None] & own & distinct].mean() / cosine[own[:, None] & other].mean()))
    return ratios


def _unit(kernel: Tensor) -> Tensor:
    double = kernel.double()
    unit: Tensor = double / double.norm()
    return unit


def _angle(a: Tensor, b: Tensor) -> float:
    """Between two kernels, in radians; keeps its digits near 0, where the arc cosine loses half of them."""
    return 2 * math.atan2(float((_unit(a) - _unit(b)).norm()), float((_unit(a) + _unit(b)).norm()))


def _centre(kernel: Tensor) -> Tensor:
    rows = kernel - kernel.mean(0, keepdim=True)
    return rows - rows.mean(1, keepdim=True)
