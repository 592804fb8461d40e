"""Piecewise linear activations with kinks anywhere: ReLU6, Hardtanh, Hardsigmoid and similar ones.

Write D(κ) = E[φ'(u) φ'(v)] for covariance κ. By Price's theorem D'(κ) = Σ_ij s_i s_j p_κ(t_i, t_j), with the kinks t_i,
the jumps s_i of the slope at them, and the density p_κ of the bivariate normal distribution. Integrating from
independence, κ = 0, to the covariance k gives D(k) = D(0) + ∫ D'(κ) dκ. The substitution κ = sqrt(q1 q2) sin θ removes
the singularity of the density at correlation ±1 (Plackett 1954; Drezner & Wesolowsky 1990) and leaves a smooth integral
over the angle θ, which Gauss-Legendre quadrature computes to the last digits.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.rules import safe

_NODES = 64
"""Quadrature nodes of the integral over the angle."""


@functools.lru_cache(maxsize=1)
def _legendre() -> tuple[Tensor, Tensor]:
    """Compute nodes and weights of a quadrature on [0, 1] that is fine near 1: Gauss-Legendre in y, x = 1 - (1 - y)³.

    Near correlation 1 the integrand of two inputs of different norms changes within an angle of that difference.
    """
    x, w = np.polynomial.legendre.leggauss(_NODES)
    rest = (1 - x) / 2
    return torch.from_numpy(1 - rest**3), torch.from_numpy(w / 2 * 3 * rest**2)


@dataclass(frozen=True)
class PiecewiseLinear:
    """φ with slope `slopes[0]` left of the first kink, `slopes[i]` right of kink i, and value `origin` at zero.

    Attributes:
        kinks: t_1 < t_2 < ....
        slopes: one more than there are kinks.
        origin: φ(0).
    """

    kinks: tuple[float, ...]
    slopes: tuple[float, ...]
    origin: float = 0.0

    def __str__(self) -> str:
        kinks = ", ".join(f"{kink:.4g}" for kink in self.kinks)
        return f"piecewise linear, kinks at {kinks}"

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ(u)] E[φ(v)] + k D(k) - ∫ κ D'(κ) dκ.

        By Price's theorem E[φ(u) φ(v)] grows by ∫ D(κ) dκ from independence on, which is integrated by parts.
        """
        mean1, mean2 = self._mean(q1), self._mean(q2)
        growth, moment = self._integrals(k, q1, q2)
        return mean1 * mean2 + k * (self._mean_slope(q1) * self._mean_slope(q2) + growth) - moment

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute D(k) = E[φ'(u)] E[φ'(v)] + ∫ D'(κ) dκ."""
        return self._mean_slope(q1) * self._mean_slope(q2) + self._integrals(k, q1, q2)[0]

    def _jumps(self) -> list[tuple[float, float]]:
        """Return (t_i, s_i) of every kink."""
        return [(t, after - before) for t, before, after in zip(self.kinks, self.slopes, self.slopes[1:], strict=False)]

    def _mean_slope(self, q: Tensor) -> Tensor:
        """Compute E[φ'(u)] = slopes[0] + Σ_i s_i P[u > t_i]."""
        std = safe.sqrt(q)
        total = torch.full_like(q, self.slopes[0])
        for t, jump in self._jumps():
            total = total + jump * _probability_above(t, std)
        return total

    def _mean(self, q: Tensor) -> Tensor:
        """Compute E[φ(u)] from φ(u) = c + slopes[0] u + Σ_i s_i relu(u - t_i)."""
        std = safe.sqrt(q)
        constant = self.origin - sum(jump * max(-t, 0.0) for t, jump in self._jumps())
        total = torch.full_like(q, constant)
        for t, jump in self._jumps():
            # E[relu(u - t)] = std exp(-(t/std)²/2) / sqrt(2π) - t P[u > t]
            density = torch.where(std > 0, torch.exp(-0.5 * (t / torch.where(std > 0, std, 1.0)) ** 2), float(t == 0))
            total = total + jump * (std * density / math.sqrt(2 * math.pi) - t * _probability_above(t, std))
        return total

    def _integrals(self, k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """Compute ∫ D'(κ) dκ and ∫ κ D'(κ) dκ from 0 to k."""
        std1, std2 = safe.sqrt(q1), safe.sqrt(q2)
        scale = std1 * std2
        end = safe.arcsin(safe.cosine(k, scale))  # the angle at κ = k
        nodes, weights = _legendre()
        growth, moment = torch.zeros_like(k * scale), torch.zeros_like(k * scale)
        positive = scale > 0
        inverse1 = 1 / torch.where(std1 > 0, std1, 1.0)
        inverse2 = 1 / torch.where(std2 > 0, std2, 1.0)
        for x, w in zip(nodes.tolist(), weights.tolist(), strict=True):
            sine, cosine = torch.sin(x * end), torch.cos(x * end)
            # With a = t/std1 and b = r/std2: p_κ(t, r) dκ = exp(-(a² - 2 a b sin θ + b²) / 2 cos² θ) / 2π dθ.
            density = torch.zeros_like(end)
            for t, jump in self._jumps():
                for r, other_jump in self._jumps():
                    quadratic = (t * inverse1) ** 2 - 2 * (t * inverse1) * (r * inverse2) * sine + (r * inverse2) ** 2
                    exponential = torch.exp(-quadratic / (2 * cosine * cosine).clamp(min=1e-300))
                    density = density + jump * other_jump * exponential
            term = torch.where(positive, w * end * density / (2 * math.pi), 0.0)
            growth = growth + term
            moment = moment + term * sine * scale
        return growth, moment


def _probability_above(t: float, std: Tensor) -> Tensor:
    """Compute P[u > t] for a centred Gaussian u of this standard deviation; at 0, whether 0 > t."""
    positive = std > 0
    tail = 0.5 * torch.erfc(t / torch.where(positive, std, 1.0) / math.sqrt(2))
    return torch.where(positive, tail, float(t < 0))
