"""Hardswish, which is quadratic between its kinks at -3 and 3: φ(u) = u max(0, min(u + 3, 6)) / 6.

φ(u) = u / 2 + e(u) with an even function e, which is u² / 6 for |u| < t = 3 and |u| / 2 beyond. As a product of an odd and
an even function has no expectation,

    E[φ(u) φ(v)] = k / 4 + V(|k|),   E[φ'(u) φ'(v)] = 1/4 ± F(|k|),   V = E[e(u) e(v)],   F = E[e'(u) e'(v)],

with the sign of k. Let k be positive now, s and r the standard deviations of u and v, a = t / s, b = t / r, the gap
g = 1 - k / (s r), and d = s r g. By Price's theorem V' = F and F' = W = E[e''(u) e''(v)], where e'' is 1/3 for |u| < t, and
-1/2 times Dirac's δ at both kinks. From the values V° and F° of parallel inputs, at which k is s r,

    V = V° - d F° + Z,   F = F° - Y,   Y = ∫ W(κ) dκ,   Z = ∫ (κ - k) W(κ) dκ,   over κ from k to s r,

so that a near pair has the digits of V° and F°. With m_i(a) = E[|w|^i; |w| < a] of a standard Gaussian w, and for a <= b,

    V° = s² r² m_4(a) / 36 + s r² (m_3(b) - m_3(a)) / 12 + s r (1 - m_2(b)) / 4,
    F° = s r m_2(a) / 9 + r (m_1(b) - m_1(a)) / 6 + Q(b) / 2,

with Q and n the tail and the density of the normal distribution. W has three parts: 1/9 of the probability that both are
within the kinks, -1/6 of the densities that one is at a kink while the other is within them, and 1/4 of the density that
both are at kinks. Let p± be the density of (u, v) at (t, ±t), and J±_i = ∫ (κ - k)^i / i! p±(κ) dκ. They are integrals like
those of `piecewise`, whose A and B change their places for p-. With C and C' and the same names as there,

    J_0 = C,   J_1 = d C',   J_2 = d² C'' / 2,   C'' = (1/π) sqrt(T) exp(-B) Σ_n L_n(B) T^n (M_n - 2 M_(n+1) + M_(n+2)).

Now P+ = P[u > t, v > t] = Q(max(a, b)) - J+_0, P- = P[u > t, v < -t] = J-_0, and

    P[|u| < t, |v| < t] = 1 - 2 max(Q(a), Q(b)) - 2 J+_0 + 2 J-_0,

whose integrals, with weights 1 and κ - k, have d and d² / 2 for 1, and J_1 and J_2 for J_0. For the second part, let
ζ± = (b ∓ ρ a) / σ with ρ = 1 - g and σ² = 1 - ρ², such that Q(ζ+) and Q(ζ-) are the probabilities of v > t and of v < -t
where u = t, and let ζ' be ζ with a and b exchanged. Let X±_ij = E[(u - t)^i / i! (±v - t)^j / j!; u > t, ±v > t]. Stein's
identity gives, with κ = ±k,

    X_01 = -t P + κ n(a) / s Q(ζ) + r n(b) Q(ζ'),   X_10 = -t P + κ n(b) / r Q(ζ') + s n(a) Q(ζ),
    X_11 = (κ + t²) P - t s n(a) Q(ζ) - t r n(b) Q(ζ') + (s r σ)² p,
    2 X_12 = -t X_11 + κ X_01 + r² X_10,   2 X_02 = -t X_01 + r² P + κ n(a) / s E[(±v - t)_+ | u = t].

By Price's theorem the integrals of n(a) / s Q(ζ±) with weight 1 are X°_01 - X+_01 and X-_01, and those with weight κ - k
are X+_12 - X°_12 + d X°_01 and X-_12, where X° is X+ of parallel inputs. These differences have the absolute error of what
is subtracted; so they are bounded by the integrals of n(a) / s, which are small where the gap is.

The derivatives by log s, at a fixed k, are

    dV / d(log s) = s² (E[e(v)] - 2 E[e(v); u > t]) / 3 - s n(a) E[e(v) | u = t],
    dF / d(log s) = F - E[e'(v); u > t] - t n(a) / s E[e'(v) | u = t] - k W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx

from ntklens.kernels.rules import safe
from ntklens.kernels.rules.piecewise import LARGEST_B, TERMS, tail_of
from ntklens.kernels.rules.series import Series

KINK = 3.0
"""t."""


class Side(NamedTuple):
    """What is known of one input.

    Attributes:
        std: s.
        far: a = t / s.
        tail: Q(a).
        normal: n(a).
        m1: m_1(a).
        m2: m_2(a).
        m3: m_3(a).
        m4: m_4(a).
    """

    std: Tensor
    far: Tensor
    tail: Tensor
    normal: Tensor
    m1: Tensor
    m2: Tensor
    m3: Tensor
    m4: Tensor


def side(std: Tensor) -> Side:
    """Compute what is known of an input from its standard deviation, in float64, and without a derivative."""
    std = std.detach().double()
    far, tail, _ = tail_of(KINK, std)
    half, root = far * far / 2, math.sqrt(2 / math.pi)
    # E[|w|^i; |w| < a] is E[|w|^i] times a regularised incomplete gamma function, which keeps its digits at a small a.
    means = enumerate((root, 1.0, 2 * root, 3.0))
    moments = [mean * torch.special.gammainc(torch.full_like(far, i / 2 + 1), half) for i, mean in means]
    return Side(std, far, tail, torch.exp(-half) / math.sqrt(2 * math.pi), *moments)


class _Corner(NamedTuple):
    """What is known of u > t and ±v > t; names are those of the formulas.

    Attributes:
        k: κ.
        p: the density of (u, v) at the corner; 0 for coincident pairs, where it is infinite.
        dp: (s r σ)² p.
        j0: J_0.
        j1: J_1.
        j2: J_2.
        chance: P.
        q: Q(ζ) of v for u = t.
        q_other: Q(ζ') of u for v = t.
        x01: X_01.
        x10: X_10.
        x12: X_12.
        x21: X_21.
    """

    k: Tensor
    p: Tensor
    dp: Tensor
    j0: Tensor
    j1: Tensor
    j2: Tensor
    chance: Tensor
    q: Tensor
    q_other: Tensor
    x01: Tensor
    x10: Tensor
    x12: Tensor
    x21: Tensor


class Pair:
    """A pair of inputs.

    Attributes:
        sign: that of k.
        size: k of the formulas, which is positive.
        plus: the corner u > t, v > t.
        minus: the corner u > t, v < -t.
        value: V.
        slope: F.
    """

    def __init__(self, k: Tensor, one: Side, two: Side) -> None:
        k = k.detach().double()
        scale, self.sign = one.std * two.std, torch.where(k < 0, -1.0, 1.0).double()
        positive = scale > 0
        gap = torch.where(positive, (scale - k.abs()) / torch.where(positive, scale, 1.0), 1.0)
        gap = torch.where(gap > safe.COINCIDENT, gap, 0.0)
        lack = torch.where(gap > 0, scale - k.abs(), 0.0)
        self.one, self.two, self.size = one, two, torch.where(gap > 0, k.abs(), scale)
        self.plus, self.minus = (_corner(one, two, self.size, gap, lack, opposite) for opposite in (False, True))
        value, slope = _parallel(one, two)
        y, z = self._integrals(lack)
        self.value, self.slope = value - lack * slope + z, slope - y

    def _integrals(self, lack: Tensor) -> tuple[Tensor, Tensor]:
        """Compute Y and Z."""
        one, two, plus, minus = self.one, self.two, self.plus, self.minus
        inside, nothing = 1 - 2 * torch.maximum(one.tail, two.tail), torch.zeros_like(lack)
        y = (lack * inside - 2 * (plus.j1 - minus.j1)) / 9 + (plus.j0 + minus.j0) / 2
        z = (lack**2 / 2 * inside - 2 * (plus.j2 - minus.j2)) / 9 + (plus.j1 + minus.j1) / 2
        x01, x10, x12, x21 = _parallel_corner(one, two)
        for x, first, second in (
            (one, x01 - plus.x01 + minus.x01, plus.x12 - x12 + lack * x01 + minus.x12),
            (two, x10 - plus.x10 + minus.x10, plus.x21 - x21 + lack * x10 + minus.x21),
        ):
            density = x.normal * x.far / KINK
            y = y - torch.clamp(lack * density - first, nothing, lack * density) / 3
            z = z - torch.clamp(lack**2 / 2 * density - second, nothing, lack**2 / 2 * density) / 3
        return y, z

    def curvature(self) -> Tensor:
        """Compute W, without p+ of coincident pairs."""
        one, two, plus, minus = self.one, self.two, self.plus, self.minus
        inside = 1 - 2 * torch.maximum(one.tail, two.tail) - 2 * (plus.j0 - minus.j0)
        at_one = one.normal * one.far / KINK * (1 - plus.q - minus.q)
        at_two = two.normal * two.far / KINK * (1 - plus.q_other - minus.q_other)
        return inside / 9 - (at_one + at_two) / 3 + (plus.p + minus.p) / 2

    def by_std(self) -> tuple[Tensor, Tensor]:
        """Compute the derivatives of V and F by log s."""
        one, two, k = self.one, self.two, self.size
        density, inverse = one.normal * one.far / KINK, one.far / KINK
        mean, wide = k * inverse**2 * KINK, (two.std**2 - (k * inverse) ** 2).clamp(min=0)  # of v for u = t
        beyond = (two.std**2 * one.tail + (k * inverse) ** 2 * one.far * one.normal) / 6
        beyond_slope = k * density / 3
        at_kink, at_kink_slope = density * (mean**2 + wide) / 6, density * mean / 3
        for corner, sign in ((self.plus, 1), (self.minus, -1)):
            distance, spread = sign * mean - KINK, corner.dp * inverse**2
            h1 = density * distance * corner.q + spread
            h2 = (density * (distance**2 + wide) * corner.q + distance * spread) / 2
            x02 = (-KINK * corner.x01 + two.std**2 * corner.chance + corner.k * h1) / 2
            beyond = beyond - (corner.x01 / 2 + x02 / 3)
            beyond_slope = beyond_slope - sign * (corner.chance / 2 + corner.x01 / 3)
            at_kink = at_kink - (h1 / 2 + h2 / 3)
            at_kink_slope = at_kink_slope - sign * (density * corner.q / 2 + h1 / 3)
        mean_value = two.std**2 / 6 * two.m2 + two.std * two.normal
        value = one.std**2 * ((mean_value - 2 * beyond) / 3 - at_kink)
        return value, self.slope - beyond_slope - KINK * at_kink_slope - k * self.curvature()


def _corner(one: Side, two: Side, size: Tensor, gap: Tensor, lack: Tensor, opposite: bool) -> _Corner:
    difference, total = one.far - two.far, one.far + two.far
    near, far = difference**2 / 8, total**2 / 8
    if opposite:
        near, far, k = far, near, -size
        places = total - gap * one.far, total - gap * two.far
    else:
        k, places = size, (gap * one.far - difference, gap * two.far + difference)
    scale, sine, t = one.std * two.std, torch.sqrt(gap * (2 - gap)), gap / 2
    smaller = torch.minimum(one.tail, two.tail) + 0 * gap
    j0, j1, j2 = (torch.clamp(c, torch.zeros_like(c), smaller) for c in _wedge(near, far, t))
    regular = sine > 0
    exponential = torch.where(regular, torch.exp(-near / torch.where(regular, t, 1.0) - far / (1 - t)), 0.0)
    dp, divisor = scale * sine * exponential / (2 * math.pi), 2 * math.pi * scale * sine
    p = torch.where(divisor > 0, exponential / torch.where(divisor > 0, divisor, 1.0), 0.0)
    q, q_other = (_tail((v / sine.clamp(min=1e-150)).clamp(-50, 50)) for v in places)
    chance = j0 if opposite else smaller - j0
    u, v = one.std * one.normal * q, two.std * two.normal * q_other
    x01 = -KINK * chance + k * (one.normal * one.far / KINK * q) + v
    x10 = -KINK * chance + k * (two.normal * two.far / KINK * q_other) + u
    x11 = (k + KINK**2) * chance - KINK * (u + v) + dp
    x12 = (-KINK * x11 + k * x01 + two.std**2 * x10) / 2
    x21 = (-KINK * x11 + k * x10 + one.std**2 * x01) / 2
    return _Corner(k, p, dp, j0, lack * j1, lack**2 / 2 * j2, chance, q, q_other, x01, x10, x12, x21)


def _wedge(near: Tensor, far: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute C, C' and C'' from A, B and T."""
    b, inverse = far.clamp(max=LARGEST_B), torch.where(t > 0, 1 / torch.where(t > 0, t, 1.0), 0.0)
    x = torch.sqrt(near * inverse)
    end = torch.exp(-x * x)
    moment = end * (1 - math.sqrt(math.pi) * x * torch.special.erfcx(x))
    following = (end - 2 * x * x * moment) / 3
    before, polynomial, sums = torch.zeros_like(t), torch.ones_like(t), [torch.zeros_like(t * moment)] * 3
    for n in range(TERMS):
        after = (end - 2 * x * x * following) / (2 * n + 5)
        terms = moment, moment - following, moment - 2 * following + after
        sums = [total + polynomial * term for total, term in zip(sums, terms, strict=True)]
        m = n + 1
        grown = t * ((2 * m - 1.5 - b) / m * polynomial - (1 - 1.5 / m) * t * before)
        before, polynomial, moment, following = polynomial, grown, following, after
    factor = torch.sqrt(t) * torch.exp(-far) / math.pi
    return factor * sums[0], factor * sums[1], factor * sums[2]


def _parallel(one: Side, two: Side) -> tuple[Tensor, Tensor]:
    """Compute V° and F°."""
    is_one, scale = one.far < two.far, one.std * two.std
    a, b = (
        Side(*(torch.where(is_one, *numbers) for numbers in zip(*sides, strict=True)))
        for sides in ((one, two), (two, one))
    )
    value = scale**2 * a.m4 / 36 + scale * b.std * (b.m3 - a.m3) / 12 + scale * (b.tail + b.far * b.normal) / 2
    return value, scale * a.m2 / 9 + b.std * (b.m1 - a.m1) / 6 + b.tail / 2


def _parallel_corner(one: Side, two: Side) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute X°_01, X°_10, X°_12 and X°_21."""
    is_one, scale = one.far < two.far, one.std * two.std
    far, tail, normal = (
        torch.where(is_one, *numbers)
        for numbers in ((two.far, one.far), (two.tail, one.tail), (two.normal, one.normal))
    )
    x01, x10 = two.std * normal - KINK * tail, one.std * normal - KINK * tail
    x11 = (scale + KINK**2) * tail + (scale * far - KINK * (one.std + two.std)) * normal
    x12 = (-KINK * x11 + scale * x01 + two.std**2 * x10) / 2
    return x01, x10, x12, (-KINK * x11 + scale * x10 + one.std**2 * x01) / 2


def _tail(z: Tensor) -> Tensor:
    tail: Tensor = 0.5 * torch.special.erfc(z / math.sqrt(2))
    return tail


class _Expectation(torch.autograd.Function):
    """E[φ(u) φ(v)], or E[φ'(u) φ'(v)], of k, s and r, with the derivatives that are told above."""

    @staticmethod
    def forward(ctx: FunctionCtx, k: Tensor, std1: Tensor, std2: Tensor, is_slope: bool) -> Tensor:
        ctx.save_for_backward(k, std1, std2)
        ctx.is_slope = is_slope  # type: ignore[attr-defined]
        pair = Pair(k, side(std1), side(std2))
        found = 0.25 + pair.sign * pair.slope if is_slope else k.double() / 4 + pair.value
        return found.to(torch.promote_types(k.dtype, std1.dtype))

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs: tuple[Tensor, ...] = ctx.saved_tensors  # type: ignore[attr-defined]
        if torch.is_grad_enabled():  # the caller differentiates the gradient again, which the series follows
            series = Series(F.hardswish, kinks=(-KINK, KINK))
            expectation = series.derivative if ctx.is_slope else series.nngp  # type: ignore[attr-defined]
            value = expectation(inputs[0], inputs[1] ** 2, inputs[2] ** 2)
            needed = [x for x in inputs if x.requires_grad]
            slopes = iter(torch.autograd.grad(value, needed, grads[0], create_graph=True))
            return (*(next(slopes) if x.requires_grad else None for x in inputs), None)
        k, one, two = inputs[0], side(inputs[1]), side(inputs[2])
        pair, swapped = Pair(k, one, two), Pair(k, two, one)
        of_k = pair.curvature() if ctx.is_slope else 0.25 + pair.sign * pair.slope  # type: ignore[attr-defined]
        found = [of_k]
        for of, x in ((pair, one), (swapped, two)):
            value, slope = of.by_std()
            bar = of.sign * slope if ctx.is_slope else value  # type: ignore[attr-defined]
            found.append(torch.where(x.std > 0, bar / torch.where(x.std > 0, x.std, 1.0), 0.0))
        bars = [(grads[0].double() * v).sum_to_size(x.shape).to(x.dtype) for v, x in zip(found, inputs, strict=True)]
        return (*bars, None)


@dataclass(frozen=True)
class Hardswish:
    """φ(u) = u max(0, min(u + 3, 6)) / 6."""

    def __str__(self) -> str:
        return "Hardswish"

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ(u) φ(v)] from the values of parallel inputs and what a gap takes from them."""
        result: Tensor = _Expectation.apply(k, safe.sqrt(q1), safe.sqrt(q2), False)  # type: ignore[no-untyped-call]
        return result

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute E[φ'(u) φ'(v)] likewise."""
        result: Tensor = _Expectation.apply(k, safe.sqrt(q1), safe.sqrt(q2), True)  # type: ignore[no-untyped-call]
        return result

    def relative_error(self, q: float) -> float:
        """Return about how far values are off at a variance q, relative to them: terms of q² / 36 are added up to them."""
        if q < 1:  # nothing cancels
            return 0.0
        variance = torch.tensor(q, dtype=torch.float64)
        value = float(self.nngp(variance, variance, variance))
        return 2.0**-53 * q * (q / (36 * value)) if value > 0 and math.isfinite(value) else math.inf
