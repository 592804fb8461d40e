"""What every training input contributes to a kernel machine's outputs over a ball, enclosed for all coefficients at once.

An output is f = ρ Σ_j α_j H_j + B with α_j = a_j |ẑ_j|, and H_j is a function of y_j = c_j + t_j, r and β = 1/ρ (see
`ntklens.bounds.profile`). Over a ball around x, with e the direction of its centre x̂ and N = |x̂| there,

    ρ = N + <e, δ̂>,   t_j = <ẑ_j/|ẑ_j| - c_j e, δ̂> / ρ,   |t_j| ≤ s_j,   r ≤ r_max,   δ̂ = (κ δ, 0).

The direction e, in which the products of an image with all others grow together when it becomes brighter, is in ρ alone,
and ρ is a factor of the whole sum: what is left in each term is small. Every term is enclosed in several ways, of which a
bound takes what it needs:

    H(y, 0, 1/N) = k(y) ≥ k(c) + k'(c) t                  the tangent, because k is convex
    k(y) ≤ the chord through c - s and c + s
    k(c) + k'(c) t + R(-s) t²/2 ≤ k(y) ≤ k(c) + k'(c) t + R(s) t²/2,   R(t) = 2 (k(c+t) - k(c) - k'(c) t) / t²
    k(y) + b⁻ r ≤ H(y, r, 1/N) ≤ k(y) + b⁺ r
    H(y, r, 1/N) = k(y) + r (b + b' t + error)            for the second bound, in which the b' t cancel
    H(y, r, β) = H(y, r, 1/N) + (β - 1/N) (p + p' t + p'' (β - 1/N) + error),   |error| ≤ doubt

The last line is in β, because ρ (β - 1/N) = -<e, δ̂> / N is linear in δ.

R grows with t, because H has a power series in y without negative coefficients. Terms whose training input lies inside the
cone of the ball, where H has a kink, or at a right angle to it, are enclosed by an interval of H alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from ntklens.bounds.balls import Balls
from ntklens.bounds.intervals import Interval, Number
from ntklens.bounds.profile import Profile

_INSIDE = 1e-9
"""A term whose cosine may come this near to 1 is enclosed by an interval."""
_SMALL = 2e-4
"""Radii s below which a secant curvature is taken from k'' at the end: the difference cancels."""
_SMALL_PART = 0.01
"""And parts of s below which it is, where only a part of the ball is looked at: its rounding grows with (s/t)²."""
_ROUNDING = 1e-12
"""Added to every s, for the rounding of c and of s."""


@dataclass(frozen=True)
class Training:
    """The training inputs as unit vectors of the first layer.

    Attributes:
        scale: κ = w_std / √d of the first layer.
        bias: its b_std.
        units: (n, d), the pixel part of ẑ / |ẑ|.
        norms: (n,), |ẑ|.
    """

    scale: float
    bias: float
    units: Tensor
    norms: Tensor

    @classmethod
    def of(cls, inputs: Tensor, profile: Profile) -> Training:
        """Return those of training inputs (n, ...)."""
        flat = inputs.flatten(1).to(torch.float64)
        scale, bias = profile.first.w_std / flat.shape[1] ** 0.5, profile.first.b_std
        norms = (scale**2 * flat.square().sum(1) + bias**2).sqrt()
        return cls(scale, bias, scale * flat / norms[:, None], norms)


@dataclass(frozen=True)
class Terms:
    """The enclosures of all terms for a few images; (m, n) where nothing else is said.

    Attributes:
        length: N, (m,).
        least: the least ρ, (m,).
        away: the largest |ρ - N|, (m,).
        direction: the pixel part of e, (m, d).
        growth: r_max, (m,).
        cosines: c; 0 for terms that are enclosed by an interval, as all that follow up to `drift`.
        value: k(c).
        slope: k'(c).
        chord_value: of the chord, in its middle.
        chord_slope: of the chord.
        curvature_low: R(-s).
        curvature_high: R(s).
        rise: how H changes with r.
        drift: how H changes with β; None where it does not depend on it.
        reach: s.
        low: the interval of H for terms that are enclosed by it; 0 for the others.
        high: likewise.
    """

    length: Tensor
    least: Tensor
    away: Tensor
    direction: Tensor
    growth: Tensor
    cosines: Tensor
    value: Tensor
    slope: Tensor
    chord_value: Tensor
    chord_slope: Tensor
    curvature_low: Tensor
    curvature_high: Tensor
    rise: Rise
    drift: Drift | None
    reach: Tensor
    low: Tensor
    high: Tensor

    def of(self, rows: slice) -> Terms:
        """Return the enclosures of some of the images."""
        parts: dict[str, Any] = {}
        for field in fields(self):
            part = getattr(self, field.name)
            parts[field.name] = None if part is None else part[rows]
        return Terms(**parts)


@dataclass(frozen=True)
class Rise:
    """How H changes with r, as r b with b between two ends, and as r (b + b' t + error); (m, n) each.

    Attributes:
        low: b⁻.
        high: b⁺.
        value: b = ∂H/∂r in the centre.
        slope: b', the derivative of b in y there.
        error_low: the least error.
        error_high: the largest one.
    """

    low: Tensor
    high: Tensor
    value: Tensor
    slope: Tensor
    error_low: Tensor
    error_high: Tensor

    def __getitem__(self, rows: slice) -> Rise:
        return Rise(*(part[rows] for part in self.parts))

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """All of it."""
        return self.low, self.high, self.value, self.slope, self.error_low, self.error_high

    def only(self, wanted: Tensor) -> Rise:
        """Return this with zeros where it is not wanted."""
        return Rise(*(torch.where(wanted, part, 0.0) for part in self.parts))


@dataclass(frozen=True)
class Drift:
    """How H changes with β, as p + p' t + p'' (β - 1/N) and an error; (m, n) each.

    Attributes:
        value: p = ∂H/∂β in the centre.
        slope: p', the derivative of p in y there.
        curvature: p'', half of that in β.
        doubt: the largest error.
    """

    value: Tensor
    slope: Tensor
    curvature: Tensor
    doubt: Tensor

    def __getitem__(self, rows: slice) -> Drift:
        return Drift(self.value[rows], self.slope[rows], self.curvature[rows], self.doubt[rows])

    def only(self, wanted: Tensor) -> Drift:
        """Return this with zeros where it is not wanted."""
        return Drift(*(torch.where(wanted, part, 0.0) for part in (self.value, self.slope, self.curvature, self.doubt)))


def terms(profile: Profile, training: Training, area: Balls) -> Terms:
    """Enclose the terms of all training inputs over balls.

    A ball that contains the origin of the first layer's inputs, where no angle is defined, has `least` of zero or less; its
    terms are not to be used.
    """
    scale = training.scale
    length = (scale**2 * area.centres.square().sum(1) + training.bias**2).sqrt()
    direction = scale * area.centres / length.clamp(min=1e-300)[:, None]
    away = scale * area.reach(direction)
    least = length - away - 1e-12 * (length + away)  # for rounding: a ball that touches the origin has none
    safe = torch.where(least > 0, least, torch.ones_like(least))
    growth = scale**2 * area.square / safe.square() * (1 + 1e-12)
    c = direction @ training.units.T + training.bias**2 / (length[:, None].clamp(min=1e-300) * training.norms)
    s = scale * _reach_across(training.units, c, direction, area) / safe[:, None] * (1 + 1e-12) + _ROUNDING
    plain = (c + s < 1 - _INSIDE) & (c - s > 0) & (least > 0)[:, None]
    # Terms without a use are computed at a harmless place, and set to zero afterwards.
    c, s = torch.where(plain, c, 0.5), torch.where(plain, s, 0.25)
    norm_x, norm_z = length[:, None].clamp(min=1e-300), training.norms
    (down, value, up), (_, slope, _), (curve_down, _, curve_up) = profile.along(
        torch.stack([c - s, c, c + s]), norm_x, norm_z
    )
    tiny = s < _SMALL
    curvature_low = torch.where(tiny, curve_down, 2 * (down - value + slope * s) / s.square())
    curvature_high = torch.where(tiny, curve_up, 2 * (up - value - slope * s) / s.square())
    rise, drift = _rises_and_drifts(profile, c, s, growth, length, safe, norm_z)
    plain &= torch.stack([part.isfinite() for part in rise.parts]).all(0)
    if drift is not None:
        plain &= drift.doubt.isfinite()
    low, high = _intervals(profile, training, area, ~plain, length, safe, away, growth)

    def kept(part: Tensor) -> Tensor:
        return torch.where(plain, part, 0.0)

    return Terms(
        length=length,
        least=least,
        away=away,
        direction=direction,
        growth=growth,
        cosines=kept(c),
        value=kept(value),
        slope=kept(slope),
        chord_value=kept((up + down) / 2),
        chord_slope=kept((up - down) / (2 * s)),
        curvature_low=kept(curvature_low),
        curvature_high=kept(curvature_high),
        rise=rise.only(plain),
        drift=None if drift is None else drift.only(plain),
        reach=kept(s),
        low=low,
        high=high,
    )


def secant_curvatures(
    profile: Profile, found: Terms, training: Training, low: Tensor, high: Tensor
) -> tuple[Tensor, Tensor]:
    """Bound the secant curvatures R(t) of all terms for t between two ends: (m, n) each, 0 for terms without a use.

    R is 2 (k(c+t) - k(c) - k'(c) t) / t² = 2 ∫ (1-u) k''(c + u t) du, and grows with t.

    Args:
        profile: of the kernel.
        found: the terms.
        training: the training inputs.
        low: the least t, -s or more.
        high: the largest t, s or less.
    """
    used = found.reach > 0
    c = torch.where(used, found.cosines, 0.5)
    norm_x = found.length[:, None]
    ends = torch.stack([low, high])
    at_ends = torch.where(used, c + ends, 0.5)
    value, slope, _ = profile.along(c, norm_x, training.norms)
    there, _, _ = profile.along(at_ends, norm_x, training.norms)
    # Near t = 0 the difference cancels, and k'' further out is a bound.
    outer = torch.stack([low.clamp(max=0.0), high.clamp(min=0.0)])
    _, _, curve = profile.along(torch.where(used, c + outer, 0.5), norm_x, training.norms)
    tiny = ends.abs() < (_SMALL_PART * found.reach).clamp(min=_SMALL)
    secant = 2 * (there - value - slope * ends) / torch.where(tiny, 1.0, ends.square())
    found_curvatures = torch.where(used, torch.where(tiny, curve, secant), 0.0)
    return found_curvatures[0], found_curvatures[1]


def _reach_across(units: Tensor, cosines: Tensor, directions: Tensor, area: Balls) -> Tensor:
    """Compute the largest <ẑ_j/|ẑ_j| - c_j e, δ> over each ball: (m, n)."""
    result = torch.empty_like(cosines)
    for row in range(len(area)):
        # The training inputs without their part along e; one image at a time, since this is as large as all of them.
        across = torch.addmm(units, cosines[row, :, None], directions[row, None], alpha=-1.0)
        result[row] = across.abs_() @ area.half[row] if area.half is not None else area.reach(across[None])[0]
    return result


def _rises_and_drifts(
    profile: Profile,
    c: Tensor,
    s: Tensor,
    growth: Tensor,
    length: Tensor,
    least: Tensor,
    norm_z: Tensor,
) -> tuple[Rise, Drift | None]:
    """Enclose ∂H/∂r, and ∂H/∂β where H depends on β; each (m, n)."""
    shrink = (1 / (1 + growth).sqrt())[:, None]
    if profile.is_homogeneous:
        return _rise_without_biases(profile, c, s, shrink, length, norm_z), None
    reach = (s, growth[:, None], (1 / least - 1 / length)[:, None] * (1 + 1e-12))
    point, box = profile.about(c, length[:, None], norm_z, reach)
    # The derivatives in the box, cut down by what they are in its centre and by how much they may change from there.
    ends = _in_box(box.tightened(point, reach).first[1])
    centre, tilt = _in_point(point.first[1]), _in_point(point.derivative(0, 1))
    error = (
        _distance(_in_box(box.derivative(0, 1)), tilt) * reach[0]
        + _in_box(box.derivative(1, 1)).magnitude * reach[1]
        + 1e-12 * (centre.abs() + tilt.abs())
    )
    rise = Rise(ends.low, ends.high, centre, tilt, -error, error)
    value, slope, curvature = (_in_point(n) for n in (point.first[2], point.derivative(0, 2), point.derivative(2, 2)))
    across, by_r, bent = (_in_box(box.derivative(i, 2)) for i in range(3))
    doubt = (
        _distance(across, slope) * reach[0]
        + by_r.magnitude * reach[1]
        + _distance(bent, curvature) / 2 * reach[2]
        + 1e-12 * (value.abs() + slope.abs() + curvature.abs())
    )
    return rise, Drift(value, slope, curvature / 2, doubt)


def _rise_without_biases(
    profile: Profile, c: Tensor, s: Tensor, shrink: Tensor, length: Tensor, norm_z: Tensor
) -> Rise:
    """Enclose ∂H/∂r of H = √(1+r) k(y/√(1+r)), which is m(C) / 2√(1+r) with m(C) = k(C) - C k'(C) at C = y/√(1+r).

    For C ≥ 0 the first two derivatives of m are not positive, because m' = -C k'' and k'' grows: m falls and is concave, so
    that it is below its tangent, and least below it at the ends.

    Args:
        profile: of the kernel.
        c: cosines.
        s: the reach of y.
        shrink: 1 / √(1 + r_max).
        length: N, (m,).
        norm_z: |ẑ|, (n,).
    """
    ends = torch.stack([c + s, (c - s) * shrink, c - s, c])
    value, slope, curve = profile.along(ends, length[:, None], norm_z)
    m = value - ends * slope
    slack = 1e-12 * (value.abs() + slope.abs()).amax(0)  # the difference m may cancel
    low, high = torch.minimum(m[0], m[0] * shrink) / 2, torch.maximum(m[1], m[1] * shrink) / 2
    tilt = -c * curve[3]
    below = torch.minimum(m[0] - m[3] - tilt * s, m[2] - m[3] + tilt * s)
    # The factor 1/√(1+r), and C being less than y by as much.
    factor = (1 - shrink) * m.abs().amax(0)
    nearer = (1 - shrink) * (c + s).square() * curve[0]
    return Rise(
        low - slack, high + slack, m[3] / 2, tilt / 2, (below - factor) / 2 - slack, (nearer + factor) / 2 + slack
    )


def _distance(box: Interval, point: Tensor) -> Tensor:
    """Return the largest distance of a number of an interval from a point."""
    return torch.maximum(box.high - point, point - box.low)


def _in_point(number: Number | None) -> Tensor:
    assert isinstance(number, Tensor)
    return number


def _in_box(number: Number | None) -> Interval:
    assert isinstance(number, Interval)
    return number


def _intervals(
    profile: Profile,
    training: Training,
    area: Balls,
    wanted: Tensor,
    length: Tensor,
    least: Tensor,
    away: Tensor,
    growth: Tensor,
) -> tuple[Tensor, Tensor]:
    """Enclose H itself for the wanted terms, by the angles that a training input may have with the ball."""
    low, high = (torch.zeros(wanted.shape, dtype=torch.float64) for _ in range(2))
    rows, columns = wanted.nonzero().T
    if not len(rows):
        return low, high
    unit = training.units[columns]
    direction = training.scale * area.centres[rows] / length[rows, None].clamp(min=1e-300)
    bias = training.bias / training.norms[columns]
    c = (unit * direction).sum(1) + bias * training.bias / length[rows].clamp(min=1e-300)
    c = c.clamp(-1.0, 1.0)
    across = unit - c[:, None] * direction
    s = training.scale * area[rows].reach(across[:, None])[:, 0] / least[rows] * (1 + 1e-12) + _ROUNDING
    r = growth[rows]
    stretch = (1 + r).sqrt()
    # A point of the ball has an angle of at most arctan √r with e, and a cosine y / √(1+r) with the training input.
    angle, turn = torch.arccos(c), torch.arctan(r.sqrt()) + 1e-7
    highest = torch.minimum(c + s, torch.cos((angle - turn).clamp(min=0.0)) * stretch)
    lowest = torch.maximum(c - s, torch.cos((angle + turn).clamp(max=torch.pi)) * stretch)
    y = Interval(lowest, torch.maximum(highest, lowest))
    beta = Interval(1 / (length[rows] + away[rows]), 1 / least[rows])
    value = profile.enclosed(y, Interval(torch.zeros_like(r), r), beta, training.norms[columns])
    low[rows, columns], high[rows, columns] = value.low, value.high
    return low, high
