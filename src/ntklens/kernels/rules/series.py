"""Any activation by its Hermite series: E[φ(u) φ(v)] = Σ_m a_m(q1) a_m(q2) c^m (Mehler 1866; Daniely et al. 2016).

a_m(q) = E[φ(√q z) h_m(z)] with the normalised Hermite polynomials h_m; c is the correlation of u and v. The coefficients
are one-dimensional integrals, so that a pair costs a polynomial in c and no two-dimensional quadrature.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ntklens.kernels.rules import safe

_REACH = 13.0
"""|z| beyond which the normal density is below the rounding of float64."""


@functools.lru_cache(maxsize=8)
def _rule(degree: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Nodes z (k,) and the matrix (k, degree + 1) of weights times normal density times h_m(z).

    Gauss-Legendre on each side of zero, where the kinks of the usual activations lie.
    """
    x, w = np.polynomial.legendre.leggauss(nodes)
    half = _REACH * (x + 1) / 2
    z = np.concatenate([-half[::-1], half])
    weight = np.concatenate([w[::-1], w]) * _REACH / 2 * np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    h = [np.ones_like(z), z]
    for m in range(2, degree + 1):  # h_m = (z h_{m-1} - sqrt(m-1) h_{m-2}) / sqrt(m)
        h.append((z * h[-1] - math.sqrt(m - 1) * h[-2]) / math.sqrt(m))
    table = np.stack(h[: degree + 1], 1) * weight[:, None]
    return torch.from_numpy(z), torch.from_numpy(table)


@dataclass(frozen=True)
class Series:
    """φ by its Hermite coefficients up to a degree; the derivative's expectation is the series' own (Price's theorem).

    Attributes:
        function: φ, elementwise on tensors, with at most a kink at zero.
        degree: terms kept. What is left out of E[φφ] is at most Σ_{m > degree} a_m², see `truncation`.
        nodes: quadrature nodes on each half line.
    """

    function: Callable[[Tensor], Tensor]
    degree: int = 128
    nodes: int = 200

    def coefficients(self, q: Tensor) -> Tensor:
        """a_m(q): shape of q with one more axis, 0 to degree."""
        z, table = _rule(self.degree, self.nodes)
        values = self.function(safe.sqrt(q)[..., None] * z.to(q))
        return values @ table.to(q)

    def truncation(self, q: float) -> float:
        """What the series leaves out of E[φ(u)²] at variance q, the worst case over all correlations."""
        value = torch.tensor(q, dtype=torch.float64)
        z, table = _rule(self.degree, self.nodes)
        second = (self.function(value.sqrt() * z).square() * table[:, 0]).sum()
        return float((second - self.coefficients(value).square().sum()).abs())

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Σ_m a_m(q1) a_m(q2) c^m, by Horner."""
        a, b, c, _ = self._parts(k, q1, q2)
        total = a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, -1, -1):
            total = total * c + a[..., m] * b[..., m]
        return total

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Σ_m m a_m(q1) a_m(q2) c^(m-1) / sqrt(q1 q2)."""
        a, b, c, scale = self._parts(k, q1, q2)
        total = self.degree * a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, 0, -1):
            total = total * c + m * a[..., m] * b[..., m]
        positive = scale > 0
        return torch.where(positive, total / torch.where(positive, scale, 1.0), 0.0)

    def _parts(self, k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scale = safe.sqrt(q1) * safe.sqrt(q2)
        return self.coefficients(q1), self.coefficients(q2), safe.cosine(k, scale), scale
