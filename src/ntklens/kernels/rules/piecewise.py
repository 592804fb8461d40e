"""Piecewise linear activations with kinks anywhere: ReLU6, Hardtanh, Hardsigmoid and similar ones.

φ is a line plus a hinge for each kink t_i, at which the slope jumps by s_i:

    φ(u) = φ(0) + ℓ u + Σ_i s_i h_i(u),   h_i(u) = max(u - t_i, 0) for t_i >= 0,   max(t_i - u, 0) for t_i < 0.

Only expectations of two hinges depend on the covariance k in a hard way. Let t and t' be their |t_i|, s and r the standard
deviations of u and v, a = t / s and b = t' / r. Turn the signs of u and v such that both hinges open to the right, which
may turn the sign of k, and let g = 1 - |k| / (s r). By Price's theorem the second derivative of E[h h'] by k is the density
p of u and v at (t, t') (Plackett 1954), and in τ = (1 - κ / s r) / 2, half a gap,

    p dκ = (1/2π) exp(-A/τ - B/(1 - τ)) dτ / sqrt(τ (1 - τ)),   A = (a - b)² / 8,   B = (a + b)² / 8,

from τ = 0, where both inputs are multiples of one Gaussian, to T = g / 2, which is at most 1/2. With Q and n the tail and
the density of the normal distribution, m = max(a, b) and a positive k,

    P[u > t, v > t'] = Q(m) - C,       E[h h'] = (s r + t t') Q(m) - (s t' or r t) n(m) - s r g Q(m) + s r g C',

where s t' belongs to m = a. For a negative k, A and B change their places, and the two are C and s r g C'. Thus for a near
pair the exact values of parallel inputs stand alone, and C, C' are small (as in Genz 2004). Laguerre's generating function
is (1 - z)^(-1/2) exp(-B z / (1 - z)) = Σ_n L_n(B) z^n, with the polynomials of order -1/2, which gives

    C = (1/π) sqrt(T) exp(-B) Σ_n L_n(B) T^n M_n,   C' = (1/π) sqrt(T) exp(-B) Σ_n L_n(B) T^n (M_n - M_(n+1)),
    M_n = ∫_0^1 x^2n exp(-α / x²) dx,   α = A / T,   M_0 = exp(-α) - sqrt(π α) erfc(sqrt(α)),
    (2 n + 1) M_n = exp(-α) - 2 α M_(n-1),   n L_n = (2 n - 3/2 - B) L_(n-1) - (n - 3/2) L_(n-2).

The terms are at most 2 exp(B/2) 2^-n. The recursion of M_n is stable beside exp(-α), and exp(-B/2) is what the sum loses
where it cancels: its error is that of rounding, as long as it is compared with 1. Where it is compared with tails, as for a
hinge of an activation that is flat at zero, it is exact to exp(B/2) of them, which is 10^7 roundings at tails of 10^-15.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ntklens.kernels.rules import safe

TERMS = 44
"""Terms of the series: what is missing is below 1e-15."""
FARTHEST = 50.0
"""Kinks further than this many standard deviations from zero are taken to be there."""
LARGEST_B = 64.0
"""The largest argument of Laguerre's polynomials: beyond it, exp(-B) is negligible."""

_ROUNDING = 2.0**-53
"""Relative rounding of float64."""


class Hinges(NamedTuple):
    """An activation as a line and hinges, which are put together by their distance |t| from zero.

    Attributes:
        slope: ℓ, the slope on the left side of zero.
        distances: the different |t|, in ascending order.
        jumps: for each of them, the sum of s_i.
        turns: likewise the sum of s_i for hinges that open to the right, minus that of the others.
        pairs: for two of them (p, q), the sums of s_i s_j over hinges that open to the same side, and to opposite sides.
    """

    slope: float
    distances: tuple[float, ...]
    jumps: tuple[float, ...]
    turns: tuple[float, ...]
    pairs: dict[tuple[int, int], tuple[float, float]]


class _Side(NamedTuple):
    """What hinges at one distance know of one input: a = t / s, the tail Q(a), and s n(a)."""

    far: Tensor
    tail: Tensor
    density: Tensor


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
        """Compute E[φ(u) φ(v)] from the line, the line with each hinge, and each two hinges."""
        hinges, (std1, std2) = self.hinges, (safe.sqrt(q1), safe.sqrt(q2))
        sides1, sides2 = self._sides(std1), self._sides(std2)
        scale = std1 * std2
        gap, lack = _gap(k, scale)
        total = self.origin**2 + hinges.slope**2 * k
        for t, jump, turn, one, two in zip(hinges.distances, hinges.jumps, hinges.turns, sides1, sides2, strict=True):
            # E[h(u)] = s n(a) - t Q(a), and E[h(u) v] = ±k Q(a).
            total = total + self.origin * jump * (one.density + two.density - t * (one.tail + two.tail))
            total = total + hinges.slope * turn * k * (one.tail + two.tail)
        for (p, q), weights in hinges.pairs.items():
            t, other, one, two = hinges.distances[p], hinges.distances[q], sides1[p], sides2[q]
            tail = _smaller(one, two)
            # Where both sides are equal, so are the derivatives of `parallel`.
            is_one = one.far > two.far
            parallel = (scale + t * other) * torch.where(is_one, one.tail, two.tail)
            parallel = parallel - torch.where(is_one, other * one.density, t * two.density)
            for opposite, weight in _signs(k, weights):
                excess = scale * gap * self._wedge(one, two, gap, opposite, tail)[1]
                total = total + weight * torch.where(opposite, excess, parallel - lack * tail + excess)
        return total

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ'(u) φ'(v)] likewise."""
        hinges, (std1, std2) = self.hinges, (safe.sqrt(q1), safe.sqrt(q2))
        sides1, sides2 = self._sides(std1), self._sides(std2)
        gap, _ = _gap(k, std1 * std2)
        total = torch.full_like(k * gap, hinges.slope**2)
        for turn, one, two in zip(hinges.turns, sides1, sides2, strict=True):
            total = total + hinges.slope * turn * (one.tail + two.tail)
        for (p, q), weights in hinges.pairs.items():
            tail = _smaller(sides1[p], sides2[q])
            for opposite, weight in _signs(k, (weights[0], -weights[1])):
                wedge = self._wedge(sides1[p], sides2[q], gap, opposite, tail)[0]
                total = total + weight * torch.where(opposite, wedge, tail - wedge)
        return total

    def relative_error(self, q: float) -> float:
        """Return about how far values are off at a variance q, relative to them: the rounding of the largest term."""
        variance = torch.tensor(q, dtype=torch.float64)
        value, hinges, sides = float(self.nngp(variance, variance, variance)), self.hinges, self._sides(variance.sqrt())
        terms = [self.origin**2, hinges.slope**2 * q]
        for (i, j), weights in hinges.pairs.items():
            tail = min(float(sides[i].tail), float(sides[j].tail))
            terms.append(max(map(abs, weights)) * (q + hinges.distances[i] * hinges.distances[j]) * tail)
        rounding = _ROUNDING * max(terms)
        if rounding == 0:
            return 0.0
        return rounding / value if value > 0 and math.isfinite(value) else math.inf

    @functools.cached_property
    def hinges(self) -> Hinges:
        """The line and the hinges that the activation is made of."""
        jumps = [
            (t, after - before) for t, before, after in zip(self.kinks, self.slopes, self.slopes[1:], strict=False)
        ]
        jumps = [(t, jump) for t, jump in jumps if jump]
        distances = tuple(sorted({abs(t) for t, _ in jumps}))
        side = {t: -1 if t < 0 else 1 for t, _ in jumps}
        pairs: dict[tuple[int, int], tuple[float, float]] = {}
        for t, jump in jumps:
            for r, other in jumps:
                key = distances.index(abs(t)), distances.index(abs(r))
                same, opposite = pairs.get(key, (0.0, 0.0))
                is_same = side[t] == side[r]
                pairs[key] = (same + jump * other * is_same, opposite + jump * other * (not is_same))
        return Hinges(
            self.slopes[sum(t < 0 for t in self.kinks)],
            distances,
            tuple(sum(jump for t, jump in jumps if abs(t) == distance) for distance in distances),
            tuple(sum(side[t] * jump for t, jump in jumps if abs(t) == distance) for distance in distances),
            pairs,
        )

    def _sides(self, std: Tensor) -> list[_Side]:
        return [_Side(*tail_of(distance, std)) for distance in self.hinges.distances]

    def _wedge(self, one: _Side, two: _Side, gap: Tensor, opposite: Tensor, tail: Tensor) -> tuple[Tensor, Tensor]:
        """Compute C and C', both between 0 and the smaller tail."""
        zero = torch.zeros_like(tail * gap)
        if not bool(((gap > 0) & (tail > 0)).any()):  # such as an input with itself
            return zero, zero
        near, far = (one.far - two.far).abs(), one.far + two.far
        near, far = torch.where(opposite, far, near), torch.where(opposite, near, far)
        t, b = gap / 2, (far**2 / 8).clamp(max=LARGEST_B)
        inverse = torch.where(t > 0, 1 / torch.where(t > 0, t, 1.0), 0.0)
        x = near * safe.sqrt(inverse / 8)
        end = torch.exp(-x * x)
        moment = end * (1 - math.sqrt(math.pi) * x * torch.special.erfcx(x))
        before, polynomial = torch.zeros_like(t), torch.ones_like(t)  # T^n L_n(B)
        first, second = torch.zeros_like(moment), torch.zeros_like(moment)
        for n in range(TERMS):
            following = (end - 2 * x * x * moment) / (2 * n + 3)
            first = first + polynomial * moment
            second = second + polynomial * (moment - following)
            m = n + 1
            grown = t * ((2 * m - 1.5 - b) / m * polynomial - (1 - 1.5 / m) * t * before)
            before, polynomial, moment = polynomial, grown, following
        factor = safe.sqrt(t) * torch.exp(-(far**2) / 8) / math.pi
        return torch.clamp(factor * first, zero, tail), torch.clamp(factor * second, zero, tail)


def _smaller(one: _Side, two: _Side) -> Tensor:
    """Return the smaller tail, that of the hinge farther out; its derivative at equal distances is the mean of both.

    The derivative of |a - b| in the other terms jumps in the same place, and the two jumps cancel. So the distances choose,
    and not the tails, of which two can be equal where a and b differ by a rounding.
    """
    chosen = torch.where(one.far > two.far, one.tail, two.tail)
    return torch.where(one.far == two.far, (one.tail + two.tail) / 2, chosen)


def tail_of(distance: float, std: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute a = t / s, Q(a) and s n(a) for a hinge, with a at most FARTHEST.

    An input that is always 0 is on no hinge, also where the hinge is at 0.
    """
    positive = std > 0
    inverse = 1 / torch.where(positive, std, 1.0)
    far = torch.where(positive, (distance * inverse).clamp(max=FARTHEST), FARTHEST)
    tail = torch.where(positive, 0.5 * torch.special.erfc(far / math.sqrt(2)), 0.0)
    return far, tail, std * torch.exp(-far * far / 2) / math.sqrt(2 * math.pi)


def _signs(k: Tensor, weights: tuple[float, float]) -> list[tuple[Tensor, float]]:
    """Return where k is negative for hinges that open to the same side, and to opposite sides; and their weights."""
    negative = k < 0
    pairs = zip((negative, ~negative), weights, strict=True)
    return [(opposite, weight) for opposite, weight in pairs if weight]


def _gap(k: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Compute g = 1 - |k| / s r, 1 where a variance vanishes, and s r g; both 0 at parallel inputs, but for derivatives."""
    sign = torch.where(k < 0, -1.0, 1.0)  # and no derivative of |k|, which is 0 at k = 0
    gap = 1 - sign * safe.cosine(k, scale)
    lack = scale - sign * k
    return gap, torch.where(gap > 0, lack, lack - lack.detach())
