"""Divided differences of filters: how the coefficients of a predictor follow a change of its kernel matrix.

For α = h(Θ) Y with Θ = U diag(λ) Uᵀ the differential is (Daleckii & Krein 1965; Higham, Functions of Matrices, 2008, §3.2)

    dα = U [Γ ∘ (Uᵀ dΘ U)] Uᵀ Y,   Γ_ab = (h(λ_a) - h(λ_b)) / (λ_a - λ_b),   Γ_aa = h'(λ_a).

Taken as it stands, the quotient loses its digits where two eigenvalues are near each other, which most of them are. Each
filter below has a form without such a difference. Gradient flow and gradient descent share one: with s = ηλt, or s = ηλT,

    h(λ) = ηt Φ(s),   Φ = (1 - e⁻ˢ) / s   or   (1 - (1 - s/T)^T) / s,

is itself the divided difference -E[0, s] of E(s) = e⁻ˢ, or (1 - s/T)^T, so that Φ's divided difference is the one of second
order, -E[0, a, b]. For a ≥ b it is (E[0, b] - E[a, b]) / a, which is exact but for small a, where the power series is
summed.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from ntklens.errors import InputError
from ntklens.linalg.filters import Filter, GradientDescent, GradientFlow, Ridge, inverts

_SMALL = 0.5
"""s up to which the power series is summed; beyond it the quotient by a ≥ s loses less than one digit."""
_TERMS = 20
"""Terms of the power series, whose last is below 1e-24 at `_SMALL`."""


def divided_differences(g: Filter, eigenvalues: Float[Tensor, " n"]) -> Float[Tensor, "n n"]:
    """Compute Γ_ab = (h(λ_a) - h(λ_b)) / (λ_a - λ_b), and h'(λ_a) for equal eigenvalues; O(n²) in time and memory.

    Args:
        g: h, as `Ridge`, `GradientFlow` or `GradientDescent`.
        eigenvalues: λ, of 0 or more, in float64.

    Raises:
        InputError: another filter, which is no smooth function of the eigenvalues, or has no form here.
        NumericalFailure: the filter inverts eigenvalues that are zero to rounding, or its descent diverges.
    """
    weights = g(eigenvalues)  # which refuses what it cannot be applied to
    if isinstance(g, Ridge) or inverts(g):
        return -weights[:, None] * weights
    if isinstance(g, GradientFlow):
        scale, steps = g.learning_rate * g.time, math.inf
    elif isinstance(g, GradientDescent):
        scale, steps = g.learning_rate * g.steps, g.steps
    else:
        raise InputError(
            f"expected a filter that is a smooth function of the eigenvalues, Ridge, GradientFlow or GradientDescent; got "
            f"{g!r}."
        )
    if scale == 0:
        return eigenvalues.new_zeros(len(eigenvalues), len(eigenvalues))
    return scale**2 * _second_order(scale * eigenvalues, steps)


def _second_order(s: Tensor, steps: float) -> Tensor:
    """Compute -E[0, s_a, s_b], the divided differences of Φ, for all pairs."""
    a, b = torch.maximum(s[:, None], s), torch.minimum(s[:, None], s)
    whole = (_first_order(b, a, steps) - _first_order(torch.zeros_like(b), b, steps)) / torch.where(a > 0, a, 1.0)
    small = a < _SMALL
    if not bool(small.any()):
        return whole
    # Φ(s) = Σ_k c_k (-s)^k / (k + 1)!, and its divided difference has Σ_j a^j b^(k-1-j) in the place of s^k.
    a, b = torch.where(small, a, 0.0), torch.where(small, b, 0.0)
    series, power, sums = torch.zeros_like(a), torch.ones_like(a), torch.ones_like(a)
    factor = 1.0
    for k in range(1, _TERMS):
        factor *= -(1 - (k / steps if steps < math.inf else 0.0)) / (k + 1)  # of C(T, k + 1) (-1)^k / T^(k + 1)
        series += factor * sums
        power = power * b
        sums = a * sums + power
    return torch.where(small, series, whole)


def _first_order(b: Tensor, a: Tensor, steps: float) -> Tensor:
    """Compute -E[b, a] = (E(b) - E(a)) / (a - b) for 0 ≤ b ≤ a, and -E'(a) where they are equal."""
    gap = a - b
    safe = torch.where(gap > 0, gap, 1.0)
    if steps == math.inf:
        return torch.exp(-b) * torch.where(gap > 0, -torch.expm1(-safe) / safe, 1.0)
    if steps == 0:
        return torch.zeros_like(a)
    # (p^T - q^T) / (p - q) over T, with p = 1 - b/T ≥ q = 1 - a/T. Of one sign it is m^(T-1) (1 - (1-δ)^T) / (T δ), m the
    # one of larger size and δ = 1 - other/m; of two signs nothing cancels in p - q.
    p, q = 1 - b / steps, 1 - a / steps
    m = torch.where(p + q >= 0, p, q)
    nonzero = torch.where(m == 0, 1.0, m)
    delta = gap / steps / nonzero.abs()
    one_sign = (p * q > 0) | (gap == 0)
    d = torch.where(one_sign & (delta > 0), delta, 0.5)
    mean = torch.where(delta > 0, -torch.expm1(steps * torch.log1p(-d)) / (steps * d), 1.0)
    direct = (p**steps - q**steps) / safe
    return torch.where(one_sign, m ** (steps - 1) * mean, direct)
