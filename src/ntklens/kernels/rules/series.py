"""Any activation by its Hermite series: E[φ(u) φ(v)] = Σ_m a_m(q1) a_m(q2) c^m (Mehler 1866; Daniely et al. 2016).

Here a_m(q) = E[φ(√q z) h_m(z)] for a standard normal z, with the normalised Hermite polynomials h_m, and c is the
correlation of u and v. The coefficients are one-dimensional integrals of each input alone, so that a pair of inputs costs
a polynomial in c and no two-dimensional quadrature.

The terms beyond a degree D are at most c^D times those at c = 1, which a one-dimensional integral gives exactly. So a pair
gets as many terms as its correlation and its variances ask for:

- up to the degree of the series, such as 128, every pair;
- up to D = 1024, pairs for which the rest may be more than 1e-9 of the value at c = 1;
- pairs for which it still may be, a two-dimensional integral;
- at c = ±1, a one-dimensional integral.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ntklens.errors import InputError
from ntklens.kernels.rules import safe
from ntklens.kernels.rules.octaves import HIGHEST, LOWEST, interpolated, nodes, octaves
from ntklens.kernels.rules.octaves import series as series_of
from ntklens.kernels.rules.quadrature import REACH, hermite_quadrature, normal_density, panels

_DEGREES = 256, 512
"""Degrees for pairs of high correlation."""
_LONG_DEGREE = 1024
"""The highest of these degrees."""
_LONG_NODES = 600
"""Quadrature nodes on each side of zero for that degree, three for each oscillation of its Hermite polynomial."""
_ENOUGH = 1e-9
"""Error of a pair's series, relative to the value at c = 1, above which the pair gets a longer one, or an integral."""
_RESOLVED = 1e-8
"""Relative difference from a finer quadrature at which a function counts as resolved by the nodes."""
_OCTAVES = -24, 18
"""Powers of two between which variances are told apart when the length of a series is chosen."""
_STEPS_PER_OCTAVE = 4
_KINK = 1e-6
"""Relative difference of two computations of E[φ'(u)] that only a kink or a jump between the nodes explains."""
_PARALLEL = 1e-13
"""A correlation nearer to ±1 counts as ±1."""
_PAIRS_AT_A_TIME = 1 << 12
"""Pairs whose long series are summed at a time: 34 MB for each tensor of terms."""
_PLANE_REACH = 10.0
"""Both axes of the integral in two dimensions end at this value, where the normal density is 1e-22."""
_PLANE_NODES = 96, 72
"""Nodes of the integral in two dimensions on each side of its two lines of kinks."""
_PLANE_POWERS = 4, 2
"""How fast these nodes thin out away from the lines."""
_PLANES_AT_A_TIME = 64
"""Pairs that are integrated in two dimensions at a time: 16 MB for each tensor of values."""


@dataclass(frozen=True)
class Series:
    """An activation φ by its Hermite coefficients up to a degree.

    E[φ'(u) φ'(v)] is computed as the derivative in k of the truncated series (Price's theorem), so that the two
    expectations fit each other exactly.

    Attributes:
        function: φ, elementwise on tensors, smooth but for the kinks.
        degree: highest power of the series for every pair; pairs that need more get more.
        nodes: quadrature nodes on each side of a kink.
        kinks: where φ' jumps or bends, ascending.
    """

    function: Callable[[Tensor], Tensor]
    degree: int = 128
    nodes: int = 200
    kinks: tuple[float, ...] = (0.0,)

    def __str__(self) -> str:
        return f"{self._name()}, series of degree {self.degree}"

    def coefficients(self, q: Tensor) -> Tensor:
        """Compute a_0(q), ..., a_degree(q): the shape of q with one more axis at the end."""
        root = safe.sqrt(q)[..., None]
        if self.kinks == (0.0,):
            z, table = hermite_quadrature(self.degree, self.nodes)
            values: Tensor = self.function(root * z.to(q))
            return values @ table.to(q)
        # The kinks of φ(√q z) lie elsewhere for every variance, so the nodes and the polynomials at them differ.
        z, weights = self._nodes(root)
        terms = self.function(root * z) * normal_density(z) * weights
        coefficients, last, before = [], torch.ones_like(z), torch.zeros_like(z)
        for m in range(self.degree + 1):  # h_{m+1} = (z h_m - sqrt(m) h_{m-1}) / sqrt(m + 1)
            coefficients.append((terms * last).sum(-1))
            last, before = (z * last - math.sqrt(m) * before) / math.sqrt(m + 1), last
        return torch.stack(coefficients, -1)

    def _nodes(self, root: Tensor) -> tuple[Tensor, Tensor]:
        """Return nodes z and weights between the kinks of φ(√q z), for √q of shape (..., 1)."""
        kinks = torch.tensor(self.kinks, dtype=root.dtype, device=root.device)
        return panels(kinks / torch.where(root > 0, root, 1.0), self.nodes, 2, REACH)

    def nngp(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute Σ_m a_m(q1) a_m(q2) c^m by Horner's scheme; see the module for the number of terms."""
        if k is q1 and k is q2:
            return self._with_itself(k, derivative=False)
        a, b, c, _ = self._terms(k, q1, q2)
        total = a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, -1, -1):
            total = total * c + a[..., m] * b[..., m]
        return self._completed(total, c, q1, q2, derivative=False)

    def derivative(self, k: Tensor, q1: Tensor, q2: Tensor) -> Tensor:
        """Compute Σ_m m a_m(q1) a_m(q2) c^(m-1) / sqrt(q1 q2); where a variance is 0, E[φ'(u)] E[φ'(v)]."""
        if k is q1 and k is q2:
            return self._with_itself(k, derivative=True)
        a, b, c, scale = self._terms(k, q1, q2)
        total = self.degree * a[..., -1] * b[..., -1] + torch.zeros_like(c)
        for m in range(self.degree - 1, 0, -1):
            total = total * c + m * a[..., m] * b[..., m]
        positive = scale > 0
        total = total / torch.where(positive, scale, 1.0)
        if not bool(positive.all()):
            # A Gaussian of variance 0 is a constant, and its slope is independent of everything.
            apart = (_mean_slope(self, q1) * _mean_slope(self, q2)).expand_as(total)
            total = torch.where(positive, total, apart)
        return self._completed(total, c, q1, q2, derivative=True)

    def _terms(self, k: Tensor, q1: Tensor, q2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute a_m(q1), a_m(q2), the correlation c and sqrt(q1 q2)."""
        scale = safe.sqrt(q1) * safe.sqrt(q2)
        return self.coefficients(q1), self.coefficients(q2), safe.cosine(k, scale), scale

    def rest(self, q: Tensor) -> Tensor:
        """Return which share of E[φ'(u)²] the terms beyond the degree have: the relative error of the derivative at c = 1.

        Args:
            q: variances of u, of any shape.

        Returns:
            The shares, of the same shape, rounded up to those of the next variances of a grid.
        """
        known = q.detach().nan_to_num(0.0)  # what is no number stays so in the series itself
        steps = _STEPS_PER_OCTAVE * torch.log2(known.clamp(2.0 ** _OCTAVES[0], 2.0 ** _OCTAVES[1]))
        return _rests(self).to(q)[(steps - _STEPS_PER_OCTAVE * _OCTAVES[0]).long()]

    def check(self) -> None:
        """Refuse a function that is not smooth but for its kinks, or that autograd does not follow.

        Two expectations of φ' are computed from the slopes and, by parts, from the values, at the variances 1 and 9.

        Raises:
            InputError: the two differ, or values are not finite.
        """
        q = torch.tensor([1.0, 9.0], dtype=torch.float64)
        root = q.sqrt()[:, None]
        z, weights = panels(torch.tensor(self.kinks, dtype=torch.float64) / root, self.nodes, 1, REACH)
        density = normal_density(z) * weights
        values, slopes = self.function(root * z).detach(), slope_of(self.function, root * z)
        size = ((slopes.square() + values.square()) * density).sum(1).sqrt()
        # E[φ'(u) h_m(z)] √q = √(m + 1) E[φ(u) h_{m+1}(z)]. Kinks at u and -u can cancel at m = 0 or at 1, not at both.
        first = (slopes * density).sum(1) * q.sqrt() - (values * z * density).sum(1)
        second = (slopes * z * density).sum(1) * q.sqrt() - (values * (z * z - 1) * density).sum(1)
        if not bool(values.isfinite().all()):
            raise InputError(
                f"expected function with finite values from -39 to 39; got {self._name()}, which has others."
            )
        if bool((torch.maximum(first.abs(), second.abs()) > _KINK * size).any()):
            places = ", ".join(f"{kink:g}" for kink in self.kinks)
            raise InputError(
                f"expected function smooth but for kinks at {places}, and known to autograd; got {self._name()}, whose "
                "slope jumps elsewhere, which has a jump, or which autograd does not follow. Say where its kinks are as "
                "kinks=, or give its two expectations as dual=."
            )

    def _with_itself(self, q: Tensor, *, derivative: bool) -> Tensor:
        """Compute E[φ(u)²], or E[φ'(u)²], at variances q: by interpolation but for those far from 1."""
        self._check_variances(q, q)
        of = octaves(q)
        inside = (of > LOWEST) & (of < HIGHEST)
        if bool(inside.all()):
            return interpolated(q, functools.partial(_octave_with_itself, self, derivative))
        ones = torch.ones_like(q)
        near = interpolated(torch.where(inside, q, ones), functools.partial(_octave_with_itself, self, derivative))
        flat = q.flatten()
        parts = [
            self._in_line(part, part, torch.ones_like(part), derivative) for part in torch.split(flat, _PAIRS_AT_A_TIME)
        ]
        return torch.where(inside, near, torch.cat(parts).reshape(q.shape))

    def _in_line(self, q1: Tensor, q2: Tensor, sign: Tensor, derivative: bool) -> Tensor:
        """Compute E[φ(√q1 z) φ(± √q2 z)], or the same of φ', by one integral: the values at correlation ±1, (n,).

        Autograd follows the variances. The correlation is stationary there along every path of the inputs, so that this is
        the derivative by the inputs, though not that by the covariance alone.
        """
        if self.kinks != (0.0,):
            # As the kinks of equal variances part, E[φ'φ'] has one slope for q1 > q2 and one for q1 < q2: take the mean.
            q1, q2 = (torch.where(q1 == q2, (q1 + q2) / 2, q) for q in (q1, q2))
        root1, root2 = safe.sqrt(q1)[:, None], sign[:, None] * safe.sqrt(q2)[:, None]
        kinks = torch.tensor(self.kinks, dtype=q1.dtype, device=q1.device)
        breaks = kinks / torch.where(root1 > 0, root1, 1.0)
        if self.kinks != (0.0,):
            breaks = torch.cat([breaks, kinks / torch.where(root2 != 0, root2, 1.0)], 1).sort(1).values
        z, weights = panels(breaks, self.nodes, 2, REACH)
        function = functools.partial(slope_of, self.function) if derivative else self.function
        return (function(root1 * z) * function(root2 * z) * normal_density(z) * weights).sum(-1)

    def _completed(self, total: Tensor, c: Tensor, q1: Tensor, q2: Tensor, *, derivative: bool) -> Tensor:
        """Return the sum of the first terms, completed at the pairs where these do not suffice."""
        self._check_variances(q1, q2)
        # How a pair is completed depends on the pair alone, so that a value does not depend on the rest of the batch.
        with torch.no_grad():
            error = (self.rest(q1) * self.rest(q2)).sqrt() * c.abs() ** (self.degree - 1)
            short = error > _ENOUGH
            if not bool(short.any()):
                return total
            parallel = short & (c.abs() > 1 - _PARALLEL)
        if bool(parallel.any()):
            given = (t.expand(c.shape)[parallel] for t in (q1, q2, c.detach().sign()))
            parts = list(zip(*(torch.split(t, _PAIRS_AT_A_TIME) for t in given), strict=True))
            total = total.masked_scatter(
                parallel,
                torch.cat([checkpoint(self._in_line, *part, derivative, use_reentrant=False) for part in parts]),
            )
        chosen = (short & ~parallel).nonzero(as_tuple=True)
        if len(chosen[0]):
            first, second = (_indexed(q, c.shape, chosen) for q in (q1, q2))
            total = total.index_put(chosen, self._of_pairs(c[chosen], first, second, derivative=derivative))
        return total

    def _check_variances(self, q1: Tensor, q2: Tensor) -> None:
        largest = max((float(q.detach().max()) for q in (q1, q2) if q.numel()), default=0.0)
        if largest > (known := largest_variance(self)):
            warnings.warn(
                f"expected inputs of {self._name()} with a variance of {known:.3g} at most, up to which its kernel is "
                f"right to 1e-8; got {largest:.3g}, where it may be wrong. Use a smaller w_std, pixels from 0 to 1, or, "
                "for a function of your own that changes fast at one place, that place in kinks=.",
                stacklevel=2,
            )

    def _name(self) -> str:
        return str(getattr(self.function, "__name__", self.function))

    def _of_pairs(
        self, c: Tensor, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], *, derivative: bool
    ) -> Tensor:
        """Compute the expectation of pairs by longer series where these suffice and by integrals elsewhere.

        Args:
            c: correlations (p,).
            first: the distinct variances of the first inputs, and which of them each pair has (p,).
            second: the same of the second inputs.
            derivative: whether to take φ' in place of φ.
        """
        (q1, i1), (q2, i2) = first, second
        long = Series(self.function, max(_LONG_DEGREE, self.degree), max(_LONG_NODES, self.nodes), self.kinks)
        # Autograd keeps neither coefficients nor integrands, thousands of numbers per pair: they are computed again.
        a, b = (checkpoint(long.coefficients, q, use_reentrant=False) for q in (q1, q2))
        root1, root2 = safe.sqrt(q1), safe.sqrt(q2)
        with torch.no_grad():
            rest, left = ((series.rest(q1)[i1] * series.rest(q2)[i2]).sqrt() for series in (self, long))
            is_open = left * c.abs() ** (long.degree - 1) > _ENOUGH
            # The first degree that suffices even if nothing but c^m made the terms smaller.
            degrees = [*(d for d in _DEGREES if d > self.degree), long.degree]
            place = torch.stack(
                [torch.zeros_like(c), *(rest * c.abs() ** (d - 1) > _ENOUGH for d in degrees[:-1])]
            ).sum(0)
        values = torch.zeros_like(c)
        for i, degree in enumerate(degrees):
            for part in torch.split(((place == i) & ~is_open).nonzero()[:, 0], _PAIRS_AT_A_TIME):
                places = a, b, i1[part], i2[part], c[part]
                series = checkpoint(_sum_of_pairs, *places, degree, derivative, use_reentrant=False)
                values = values.index_put(
                    (part,), series / (root1[i1[part]] * root2[i2[part]]) if derivative else series
                )
        for part in torch.split(is_open.nonzero()[:, 0], _PLANES_AT_A_TIME):
            given = c[part], q1[i1[part]], q2[i2[part]], derivative
            values = values.index_put((part,), checkpoint(self._in_the_plane, *given, use_reentrant=False))
        return values

    def _in_the_plane(self, c: Tensor, q1: Tensor, q2: Tensor, derivative: bool) -> Tensor:
        """Integrate φ(√q1 z) φ(√q2 (c z + s t)), s = √(1 - c²), or φ' for φ, over two standard normals z and t.

        The kinks of the integrand lie on lines, for one at 0 on z = 0 and t = -c z / s, which separate the panels of the
        quadrature. Autograd follows the lines, so that a jump of φ' counts in the derivative by c.
        """
        # Where a line crosses t = 0 the inner integral changes within s, and near a line the integrand within 1 / √q2.
        kinks = torch.tensor(self.kinks, dtype=c.dtype, device=c.device)
        s = safe.sqrt((1 - c) * (1 + c))[:, None]
        own, others = kinks / safe.sqrt(q1)[:, None], kinks / (safe.sqrt(q2) * c)[:, None]
        breaks = own if self.kinks == (0.0,) else torch.cat([own, others], 1).sort(1).values
        z, over_z = panels(breaks, _PLANE_NODES[0], _PLANE_POWERS[0], _PLANE_REACH)
        lines = (kinks / safe.sqrt(q2)[:, None, None] - (c[:, None] * z)[..., None]) / s[..., None]
        t, over_t = panels(lines, _PLANE_NODES[1], _PLANE_POWERS[1], _PLANE_REACH)
        u = safe.sqrt(q1)[:, None] * z
        v = safe.sqrt(q2)[:, None, None] * ((c[:, None] * z)[..., None] + s[..., None] * t)
        function = functools.partial(slope_of, self.function) if derivative else self.function
        inner = (function(v) * normal_density(t) * over_t).sum(-1)
        result: Tensor = (function(u) * normal_density(z) * over_z * inner).sum(-1)
        return result


def _mean_slope(series: Series, q: Tensor) -> Tensor:
    """Compute E[φ'(u)] at variances of any shape."""
    root = safe.sqrt(q)[..., None]
    z, weights = series._nodes(root)
    return (slope_of(series.function, root * z) * normal_density(z) * weights).sum(-1)


@functools.lru_cache(maxsize=1024)
def _octave_with_itself(series: Series, derivative: bool, k: int) -> Tensor:
    """Compute the Chebyshev series of E[φ(u)²], or of E[φ'(u)²], for variances from 2^k to 2^(k+1)."""
    with torch.inference_mode(False), torch.no_grad():
        q = nodes(k)
        return series_of(series._in_line(q, q, torch.ones_like(q), derivative))


@functools.lru_cache(maxsize=64)
def _rests(series: Series) -> Tensor:
    """Compute `Series.rest` on a grid of variances, in float64 on the processor: the larger of each two neighbours."""
    low, high = (_STEPS_PER_OCTAVE * octave for octave in _OCTAVES)
    q = 2 ** (torch.arange(low, high + 2, dtype=torch.float64) / _STEPS_PER_OCTAVE)
    with torch.no_grad():
        terms = series.coefficients(q).square() @ torch.arange(series.degree + 1, dtype=torch.float64) / q
        whole = series._in_line(q, q, torch.ones_like(q), True)
        shares = torch.where(whole > 0, (1 - terms / torch.where(whole > 0, whole, 1.0)).abs(), 0.0)
    return torch.maximum(shares[:-1], shares[1:])


@functools.lru_cache(maxsize=64)
def largest_variance(series: Series) -> float:
    """Return the variance up to which the quadratures above resolve φ and φ' of a Gaussian, beside a finer one."""
    q = 2 ** torch.arange(*_OCTAVES, dtype=torch.float64)
    worst, root = torch.zeros_like(q), q.sqrt()[:, None]
    kinks = torch.tensor(series.kinks, dtype=torch.float64) / root
    rules = [
        panels(kinks, nodes, power, _PLANE_REACH) for nodes, power in zip(_PLANE_NODES, _PLANE_POWERS, strict=True)
    ]
    if series.kinks == (0.0,):
        z, table = hermite_quadrature(series.degree, series.nodes)
        rules += [(z.expand(len(q), -1), (table[:, 0] / normal_density(z)).expand(len(q), -1))]
    else:
        rules += [series._nodes(root)]
    finest = panels(kinks, 500, 2, REACH)
    # Below variance 1 a function that is constant about zero has tiny moments: beside a millionth of those of a line.
    z, weights = (rows[-_OCTAVES[0]] for rows in finest)
    line = (slope_of(series.function, z).square() * normal_density(z) * weights).sum().detach()
    for function, power in ((series.function, 1), (functools.partial(slope_of, series.function), 0)):
        moments = [(function(root * z).square() * normal_density(z) * w).sum(1).detach() for z, w in (finest, *rules)]
        errors = torch.stack([(moment - moments[0]).abs() for moment in moments[1:]]).amax(0)
        worst = torch.maximum(worst, errors / moments[0].maximum(torch.where(q < 1, 1e-6 * line * q**power, 1e-300)))
    unresolved = (worst > _RESOLVED).nonzero()
    return float(q[int(unresolved[0, 0])] / 2) if len(unresolved) else float(q[-1])


def _indexed(q: Tensor, shape: torch.Size, chosen: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    """Return the distinct entries of q that some pairs have, and which of them each pair has.

    Args:
        q: variances that broadcast to the shape.
        shape: shape of the pairs' maps.
        chosen: indices of the pairs, one tensor for each axis.
    """
    places = torch.arange(q.numel(), device=q.device).view(q.shape).expand(shape)[chosen]
    distinct, which = torch.unique(places, return_inverse=True)
    return q.flatten()[distinct], which


def _sum_of_pairs(
    a: Tensor, b: Tensor, first: Tensor, second: Tensor, c: Tensor, degree: int, derivative: bool
) -> Tensor:
    """Compute the polynomial of pairs (p,) from the coefficients (n, ...) of inputs and which inputs each pair has."""
    return _polynomial(a[first, : degree + 1] * b[second, : degree + 1], c, derivative=derivative)


def _polynomial(terms: Tensor, c: Tensor, *, derivative: bool) -> Tensor:
    """Compute Σ_m t_m c^m, or Σ_m m t_m c^(m-1), for terms (p, degree + 1) and correlations (p,)."""
    if derivative:
        terms = terms[:, 1:] * torch.arange(1, terms.shape[1], dtype=c.dtype, device=c.device)
    # Powers by two short tables, c^(s i + j) = (c^s)^i c^j.
    side = math.isqrt(terms.shape[1] - 1) + 1
    low = c[:, None] ** torch.arange(side, device=c.device)
    high = (low[:, -1] * c)[:, None] ** torch.arange(side, device=c.device)
    powers = (high[:, :, None] * low[:, None, :]).flatten(1)[:, : terms.shape[1]]
    return (terms * powers).sum(1)


def slope_of(function: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """Compute φ'(u) elementwise by autograd, which can follow the result on if it follows u."""
    with torch.enable_grad():
        leaf = u if u.requires_grad else u.detach().requires_grad_()
        values = function(leaf)
        if not values.requires_grad:  # a constant, or unknown to autograd: `check` tells the two apart
            return torch.zeros_like(u)
        (slope,) = torch.autograd.grad(values.sum(), leaf, create_graph=u.requires_grad)
    return slope
