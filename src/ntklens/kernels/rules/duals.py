"""Activations on Gaussian inputs, each in closed form: φ -> (E[φ(u) φ(v)], E[φ'(u) φ'(v)]).

(u, v) is a centred Gaussian pair with covariance k and variances q1 and q2; all three are tensors that broadcast. For an
activation with a closed form, add a class with these two methods here and a row to the table in
`ntklens.kernels.tracing.activations`, which says by which torch functions it is called.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from ntklens.kernels.rules import safe


@runtime_checkable
class Dual(Protocol):
    """The two Gaussian expectations of an activation.

    One whose terms cancel at large variances has `relative_error(q)` besides, about how far its values at a variance q are
    off, relative to them, so that a warning can tell.
    """

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ(u) φ(v)]."""
        ...

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ'(u) φ'(v)], the factor of the NTK; it is the derivative of `nngp` in k (Price's theorem)."""
        ...


@dataclass(frozen=True)
class LeakyReLU:
    """φ(u) = max(u, 0) + a min(u, 0): ReLU at slope a = 0, |u| at a = -1 (Cho & Saul 2009; Jacot et al. 2018).

    With s = sqrt(q1 q2), E[relu(u) relu(v)] = s κ1(k/s), where κ1 is `safe.kappa1`, half of the arc-cosine function of the
    literature (κ1(1) = 1/2), and κ0 = κ1' is `safe.kappa0`. From φ = (1 - a) relu + a identity and E[relu(u) v] = k/2
    follows E[φφ] = (1 - a)² E[relu relu] + 2 a (1 - a) k/2 + a² k = (1 - a)² E[relu relu] + a k.
    """

    slope: float = 0.0

    def __str__(self) -> str:
        if self.slope in (0, -1):
            return "ReLU" if self.slope == 0 else "absolute value"
        return f"LeakyReLU, slope {self.slope:.4g}"

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute (1 - a)² s κ1(k/s) + a k; for an input with itself, (1 + a²) k / 2."""
        # One tensor given three times means an input with itself, at cosine 1, where κ1 = 1/2 needs no arccosine.
        if k is q1 and k is q2:
            return (1 + self.slope**2) / 2 * k
        scale = safe.sqrt(q1) * safe.sqrt(q2)
        relu = scale * safe.kappa1(safe.cosine(k, scale))
        return relu if self.slope == 0 else (1 - self.slope) ** 2 * relu + self.slope * k

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute (1 - a)² κ0(k/s) + a."""
        scale = safe.sqrt(q1) * safe.sqrt(q2)
        relu = safe.kappa0(safe.cosine(k, scale))
        return relu if self.slope == 0 else (1 - self.slope) ** 2 * relu + self.slope


_ROUNDING = 1.1e-16
"""Relative rounding of float64."""


def _gap(k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
    """Compute (1 + q1)(1 + q2) - k², which is 1 + q1 + q2 at least, as k² is q1 q2 at most, however large the variances."""
    gap = (1 + q1) * (1 + q2) - k * k
    # The rounding alone is cut off: the derivative is that of the difference.
    return gap + (1 + q1 + q2 - gap).clamp_min(0).detach()


@dataclass(frozen=True)
class Erf:
    """φ(u) = erf(u) (Williams 1997)."""

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute (2/π) arcsin(2k / sqrt((1 + 2 q1)(1 + 2 q2)))."""
        # Not by atan2: the last bit of torch.atan2 depends on where in a tensor a number stands.
        return (2 / math.pi) * torch.arctan(2 * k * _gap(2 * k, 2 * q1, 2 * q2).rsqrt())

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute (4/π) / sqrt((1 + 2 q1)(1 + 2 q2) - 4 k²)."""
        return (4 / math.pi) * _gap(2 * k, 2 * q1, 2 * q2).rsqrt()

    def relative_error(self, q: float) -> float:
        """Return about how far the derivative is off for near pairs at a variance q: what the rounding of k does to it."""
        return _ROUNDING * q


@dataclass(frozen=True)
class GELU:
    """φ(u) = u Φ(u), the exact Gaussian error linear unit, by integration by parts (Tsuchida et al. 2021).

    With A = (1 + q1)(1 + q2) - k², D = E[Φ'(u) Φ'(v)] = 1 / (2π sqrt(A)), C = E[Φ(u) Φ(v)] = 1/4 + arcsin(k /
    sqrt((1 + q1)(1 + q2))) / 2π and e = 1 / (1 + q1) + 1 / (1 + q2) - 1.
    """

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute k C + D (q1 q2 + e k²)."""
        _, density, cdf, e = self._terms(k, q1, q2)
        return k * cdf + density * (q1 * q2 + e * k * k)

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute C + k D (1 + e + 1 / A), where q1 q2 + e k² = 1 - e A, so that no terms cancel."""
        gap, density, cdf, e = self._terms(k, q1, q2)
        return cdf + k * density * (1 + e + 1 / gap)

    def relative_error(self, q: float) -> float:
        """Return about how far an expectation is off for near pairs at a variance q, where q1 q2 and e k² nearly cancel."""
        return _ROUNDING * math.sqrt(q)

    @staticmethod
    def _terms(k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute A, D, C and e."""
        gap = _gap(k, q1, q2)
        density = gap.rsqrt() / (2 * math.pi)
        cdf = 0.25 + torch.arctan(k * gap.rsqrt()) / (2 * math.pi)
        return gap, density, cdf, 1 / (1 + q1) + 1 / (1 + q2) - 1


@dataclass(frozen=True)
class Sin:
    """φ(u) = sin(u + shift): cosine at shift π/2 (Pearce et al. 2019)."""

    shift: float = 0.0

    def __str__(self) -> str:
        return {0.0: "sine", math.pi / 2: "cosine"}.get(self.shift, f"sine, shift {self.shift:.4g}")

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute exp(-(q1 + q2)/2) (exp(k) - cos(2 shift) exp(-k)) / 2."""
        return self._half_sum(k, q1, q2, -math.cos(2 * self.shift))

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute exp(-(q1 + q2)/2) (exp(k) + cos(2 shift) exp(-k)) / 2."""
        return self._half_sum(k, q1, q2, math.cos(2 * self.shift))

    @staticmethod
    def _half_sum(k: Tensor, q1: Tensor, q2: Tensor, sign: float) -> Tensor:
        # The factor is inside the exponentials, because exp(k) alone overflows where k and the variances are large.
        mean = (q1 + q2) / 2
        return 0.5 * (torch.exp(k - mean) + sign * torch.exp(-k - mean))


@dataclass(frozen=True)
class Exp:
    """φ(u) = exp(u), for which φ' = φ and both expectations are equal."""

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute exp((q1 + q2)/2 + k)."""
        return torch.exp((q1 + q2) / 2 + k)

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute exp((q1 + q2)/2 + k)."""
        return self.nngp(k, q1, q2)


@dataclass(frozen=True)
class Gaussian:
    """φ(u) = exp(-u²) (Williams 1997).

    With D = (1 + 2 q1)(1 + 2 q2) - 4 k²: E[φφ] = D^(-1/2), E[φ'φ'] = 4 k D^(-3/2).
    """

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute D^(-1/2)."""
        return ((1 + 2 * q1) * (1 + 2 * q2) - 4 * k * k).rsqrt()

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute 4 k D^(-3/2)."""
        return 4 * k * self.nngp(k, q1, q2) ** 3
