"""Any activation by its Hermite series: E[φ(u) φ(v)] = Σ_m a_m(q1) a_m(q2) c^m (Mehler 1866; Daniely et al. 2016).

Here a_m(q) = E[φ(√q z) h_m(z)] for a standard normal z, with the normalised Hermite polynomials h_m, and c is the
correlation of u and v. The coefficients are one-dimensional integrals of each input alone, so that a pair of inputs costs
a polynomial in c and no two-dimensional quadrature.
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
"""The value of |z| beyond which the normal density is below the rounding of float64."""


@functools.lru_cache(maxsize=8)
def _quadrature(degree: int, nodes: int) -> tuple[Tensor, Tensor]:
    """Compute the nodes of the integrals a_m and the matrix that turns values of φ at the nodes into a_0, ..., a_degree.

    Gauss-Legendre quadrature is used on each side of zero separately, because the usual activations have a kink there.

    Returns:
        Nodes z (2 nodes,), and the matrix (2 nodes, degree + 1) of weight times normal density times h_m(z).
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
    """An activation φ by its Hermite coefficients up to a degree.

    E[φ'(u) φ'(v)] is computed as the derivative in k of the truncated series (Price's theorem), so that the two
    expectations fit each other exactly.

    Attributes:
        function: φ, elementwise on tensors, smooth but for a kink at zero.
        degree: highest power of the series; the terms beyond it are bounded by `truncation`.
        nodes: quadrature nodes on each side of zero.
    """

    function: Callable[[Tensor], Tensor]
    degree: int = 128
    nodes: int = 200

    def __str__(self) -> str:
        name = getattr(self.function, "__name__", str(self.function))
        return f"{name}, series of degree {self.degree}"

    def coefficients(self, q: Tensor) -> Tensor:
        """Compute a_0(q), ..., a_degree(q): the shape of q with one more axis at the end."""
        z, table = _quadrature(self.degree, self.nodes)
        values = self.function(safe.sqrt(q)[..., None] * z.to(q))
        return values @ table.to(q)

    def truncation(self, q: float) -> float:
        """Compute Σ_{m > degree} a_m(q)², the largest error of E[φ(u) φ(v)] over all correlations at variance q."""
        value = torch.tensor(q, dtype=torch.float64)
        z, table = _quadrature(self.degree, self.nodes)
        # E[φ(u)²] is the sum over all m; column 0 of the table is the plain quadrature, because h_0 = 1.
        second_moment = (self.function(value.sqrt() * z).square() * table[:, 0]).sum()
        return float((second_moment - self.coefficients(value).square().sum()).abs())

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute Σ_m a_m(q1) a_m(q2) c^m by Horner's scheme."""
        a, b, c, _ = self._terms(k, q1, q2)
        total = a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, -1, -1):
            total = total * c + a[..., m] * b[..., m]
        return total

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute Σ_m m a_m(q1) a_m(q2) c^(m-1) / sqrt(q1 q2), and 0 where a variance is 0."""
        a, b, c, scale = self._terms(k, q1, q2)
        total = self.degree * a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, 0, -1):
            total = total * c + m * a[..., m] * b[..., m]
        positive = scale > 0
        return torch.where(positive, total / torch.where(positive, scale, 1.0), 0.0)

    def _terms(self, k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute a_m(q1), a_m(q2), the correlation c and sqrt(q1 q2)."""
        scale = safe.sqrt(q1) * safe.sqrt(q2)
        return self.coefficients(q1), self.coefficients(q2), safe.cosine(k, scale), scale
