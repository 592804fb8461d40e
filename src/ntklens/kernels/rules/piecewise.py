"""Piecewise linear activations with kinks anywhere: ReLU6, Hardtanh, Hardsigmoid and the like.

By Price's theorem the derivative of E[φ'(u) φ'(v)] in the covariance is Σ_ij s_i s_j p(t_i, t_j), with kinks t_i, jumps of
the slope s_i and the bivariate normal density p. Integrating from independence to the correlation, with ρ = sin θ (Plackett
1954; Drezner & Wesolowsky 1990), leaves a smooth integral over an angle.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.rules import safe

_NODES = 48


@functools.lru_cache(maxsize=1)
def _legendre() -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(_NODES)
    return torch.from_numpy((x + 1) / 2), torch.from_numpy(w / 2)


@dataclass(frozen=True)
class PiecewiseLinear:
    """φ with slope `slopes[0]` left of the first kink, `slopes[i]` right of kink i, and value `origin` at zero.

    Attributes:
        kinks: t_1 < t_2 < ….
        slopes: one more than kinks.
        origin: φ(0).
    """

    kinks: tuple[float, ...]
    slopes: tuple[float, ...]
    origin: float = 0.0

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """E[φ(u)] E[φ(v)] + k D(k) - ∫ κ D'(κ) dκ, D = E[φ'φ']: the twofold integral by parts."""
        mean1, mean2 = self._mean(q1), self._mean(q2)
        slope, moment = self._integrals(k, q1, q2)
        return mean1 * mean2 + k * (self._slope(q1) * self._slope(q2) + slope) - moment

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """E[φ'(u)] E[φ'(v)] + ∫ D'(κ) dκ."""
        return self._slope(q1) * self._slope(q2) + self._integrals(k, q1, q2)[0]

    def _jumps(self) -> list[tuple[float, float]]:
        return [(t, b - a) for t, a, b in zip(self.kinks, self.slopes, self.slopes[1:], strict=False)]

    def _slope(self, q: Tensor) -> Tensor:
        """E[φ'(u)] = slope far left + Σ s_i P[u > t_i]."""
        root = safe.sqrt(q)
        total = torch.full_like(q, self.slopes[0])
        for t, jump in self._jumps():
            total = total + jump * _above(t, root)
        return total

    def _mean(self, q: Tensor) -> Tensor:
        """E[φ(u)]: φ = c + slope u + Σ s_i relu(u - t_i), term by term."""
        root = safe.sqrt(q)
        constant = self.origin - sum(jump * max(-t, 0.0) for t, jump in self._jumps())
        total = torch.full_like(q, constant)
        for t, jump in self._jumps():
            density = torch.where(
                root > 0, torch.exp(-0.5 * (t / torch.where(root > 0, root, 1.0)) ** 2), float(t == 0)
            )
            total = total + jump * (root * density / math.sqrt(2 * math.pi) - t * _above(t, root))
        return total

    def _integrals(self, k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor]:
        """∫ D' dκ and ∫ κ D' dκ from 0 to k."""
        root1, root2 = safe.sqrt(q1), safe.sqrt(q2)
        scale = root1 * root2
        end = safe.arcsin(safe.cosine(k, scale))
        nodes, weights = _legendre()
        slope, moment = torch.zeros_like(k * scale), torch.zeros_like(k * scale)
        positive = scale > 0
        a1 = 1 / torch.where(root1 > 0, root1, 1.0)
        a2 = 1 / torch.where(root2 > 0, root2, 1.0)
        for x, w in zip(nodes.tolist(), weights.tolist(), strict=True):
            sine, cosine = torch.sin(x * end), torch.cos(x * end)
            inside = torch.zeros_like(end)
            for t, s in self._jumps():
                for r, other in self._jumps():
                    quadratic = (t * a1) ** 2 - 2 * (t * a1) * (r * a2) * sine + (r * a2) ** 2
                    inside = inside + s * other * torch.exp(-quadratic / (2 * cosine * cosine).clamp(min=1e-300))
            part = torch.where(positive, w * end * inside / (2 * math.pi), 0.0)
            slope = slope + part
            moment = moment + part * sine * scale
        return slope, moment


def _above(t: float, root: Tensor) -> Tensor:
    """P[u > t] for a standard deviation; at 0, whether 0 > t."""
    positive = root > 0
    tail = 0.5 * torch.erfc(t / torch.where(positive, root, 1.0) / math.sqrt(2))
    return torch.where(positive, tail, float(t < 0))
