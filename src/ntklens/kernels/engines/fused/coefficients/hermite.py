"""Hermite coefficients of smooth activations, as tables with an entry for each position of each input.

A coefficient a_m(s) = E[φ(s ζ) h_m(ζ)] is a smooth function of the variance q = s². On each octave of q it is interpolated
(`rules.octaves`), once for an activation, from a few variances at which quadrature gives all coefficients. After that an
entry costs a small matrix product, however many positions there are. Interpolation adds less than 1e-13.

How many terms a pair takes depends on its two octaves alone. Let τ(D) be the share of the terms from degree D on in E[φ²],
or in E[φ'²] if that is more, the largest in an octave, and let δ be a bound. An octave's length is the first D with
τ(D) <= δ, and a pair takes the longer of its two. By Cauchy's inequality it then lacks less than δ of the root of the
product of both inputs' expectations. DELTA is 1e-16 in float64, and also where a kink follows, which takes an angle from
what a covariance lacks to the variances; without a kink, it is 3e-8 in float32.

A variance whose terms do not become as small by the last degree, where the activation's features are narrow beside s, has
no entry, and its pairs are computed by the reference engine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeGuard

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.rules import octaves
from ntklens.kernels.rules.duals import Dual, Exp, Gaussian, Sin
from ntklens.kernels.rules.quadrature import hermite_quadrature
from ntklens.kernels.rules.series import Series, largest_variance, slope_of

DELTA = {True: 3e-8, False: 1e-16}
"""δ, by whether single precision is enough."""
DEGREE = 2048
"""The last degree that is looked at."""
_NODES = 800
"""Quadrature nodes on each side of zero: eight for each oscillation of the last polynomial."""
_SETTLED = 3 * DEGREE // 4
"""A length beyond this may only look like one: the terms after it are not known."""
_SYMMETRIC, _VANISHING = 1e-9, 1e-13
"""What the odd part of an even function may be, relative to the function, and its coefficients up to a variance of 8."""

Smooth = Series | Sin | Exp | Gaussian
"""The activations that may have a table."""
GENERIC, EVEN, ODD = 0, 1, 2
"""Parities, as `hermite` tells them."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class _Octave:
    """The coefficients for variances within a factor of two, those that are summed as a polynomial in their own order.

    Attributes:
        terms: (octaves.RESOLUTION, terms) Chebyshev coefficients of the a_m.
        growth: the same of e_m = sqrt((m + 1) (m + 2)) a_(m+2).
        alone: (octaves.RESOLUTION,), of the one that stands alone.
        lengths: how many terms two variances of the octave take, by whether single precision is enough; -1 for too many.
    """

    terms: Array
    growth: Array
    alone: Array
    lengths: dict[bool, int]


@dataclass(frozen=True)
class HermiteTables:
    """The coefficients of one activation.

    Attributes:
        dual: the activation; one for which `has_series` is true.
        single: whether single precision is enough, which says how many coefficients count.
    """

    dual: Smooth
    single: bool

    @property
    def limit(self) -> float:
        """The largest standard deviation at which quadrature resolves the activation."""
        return math.sqrt(largest_variance(self.dual)) if isinstance(self.dual, Series) else math.inf

    def length(self, k: int) -> int:
        """Return how many terms two variances of an octave take; -1 where they have no series."""
        return _octave(self.dual, k).lengths[self.single] if k < octaves.HIGHEST else -1

    def room(self, length: int) -> tuple[int, int]:
        """Return how many numbers an entry of x, and one of z, of a series of this length has."""
        return max(length, 0), max(length, 0)

    def series(self, present: list[int], room: int, *, of_x: bool) -> tuple[Array, Array, Array]:
        """Return the Chebyshev series of some octaves, of x or of z alike; see `tables.Tables`."""
        found = [_octave(self.dual, k) for k in present]
        terms, growth = np.zeros((2, len(found), octaves.RESOLUTION, room))
        for i, octave in enumerate(found):
            count = min(room, octave.terms.shape[1])
            terms[i, :, :count], growth[i, :, :count] = octave.terms[:, :count], octave.growth[:, :count]
        return terms, growth, np.array([octave.alone for octave in found]).reshape(-1, octaves.RESOLUTION)

    def products(self, *, of_x: bool) -> tuple[int, int, int]:
        """Return zeros: the number that stands first is not diminished."""
        return 0, 0, 0


def has_series(dual: Dual) -> TypeGuard[Smooth]:
    """Return whether an activation's Hermite series is short, as it is for smooth functions, at variances around 1."""
    if not isinstance(dual, Smooth) or (isinstance(dual, Series) and dual.kinks != (0.0,)):
        return False
    return all(HermiteTables(dual, single=False).length(k) >= 0 for k in (-2, 0))


@functools.lru_cache(maxsize=64)
def parity(dual: Smooth) -> int:
    """Return which coefficients of an activation vanish."""
    function = _function(dual)
    u = torch.logspace(-6, 4, 1999, dtype=torch.float64)
    with torch.no_grad():
        above, below = function(u), function(-u)
        origin = function(torch.zeros(1, dtype=torch.float64))
    odd, even, size = (above - below) / 2, (above + below) / 2, torch.maximum(above.abs(), below.abs())
    a = np.abs(np.concatenate([_coefficients(dual, octaves.nodes(k)) for k in (-6, 2)]))
    for kind, rest, vanishing in ((EVEN, odd - odd[-1] / u[-1] * u, a[:, 3::2]), (ODD, even - origin, a[:, 2::2])):
        # Torch replaces softplus by a straight line above 20, where the two differ by 2e-9.
        is_close = bool((rest.abs() <= _SYMMETRIC * size).all()) and bool(size.isfinite().all())
        if is_close and (vanishing.max(1) <= _VANISHING * a.max(1)).all():
            return kind
    return GENERIC


def _function(dual: Smooth) -> Callable[[Tensor], Tensor]:
    """Return φ, elementwise on tensors."""
    if isinstance(dual, Series):
        return dual.function
    if isinstance(dual, Sin):
        return lambda u: torch.sin(u + dual.shift)
    return torch.exp if isinstance(dual, Exp) else lambda u: torch.exp(-u * u)


@functools.lru_cache(maxsize=2048)
def _octave(dual: Smooth, k: int) -> _Octave:
    """Compute the coefficients of an activation for variances from 2^k to 2^(k+1)."""
    a = _coefficients(dual, octaves.nodes(k))
    kind = parity(dual)
    lengths = {single: _length(dual, a, octaves.nodes(k), kind, DELTA[single]) for single in (False, True)}
    a = a[:, : _SETTLED + 2]
    m = np.arange(_SETTLED)
    growth = np.sqrt((m + 1) * (m + 2)) * a[:, 2:]
    chosen = m[(kind == ODD) * 1 :: 1 if kind == GENERIC else 2]
    alone = np.zeros(len(a)) if kind == GENERIC else a[:, 1 if kind == EVEN else 0]
    terms, growing, apart = (
        octaves.series(torch.from_numpy(part)).numpy() for part in (a[:, chosen], growth[:, chosen], alone)
    )
    return _Octave(terms, growing, apart, lengths)


def _length(dual: Smooth, a: Array, q: Tensor, kind: int, delta: float) -> int:
    """Return how many terms two inputs with some of these variances take; -1 where the last degree does not show it.

    Args:
        dual: the activation.
        a: (variances, DEGREE + 1), the coefficients.
        q: (variances,).
        kind: the activation's parity.
        delta: δ.
    """
    squares = np.stack([a * a, a * a * np.arange(a.shape[1])])
    rests = np.cumsum(squares[..., ::-1], -1)[..., ::-1]
    whole = rests[..., :1]
    with torch.no_grad():
        truth = np.stack([dual.nngp(q, q, q).numpy(), (q * dual.derivative(q, q, q)).numpy()])[..., None]
    # Where quadrature or the last degree fails, the coefficients do not add up to the two expectations.
    if not (np.isfinite(whole).all() and (np.abs(whole - truth) <= max(1e-12, 3 * delta) * truth).all()):
        return -1
    degree = int((rests > delta * whole).any((0, 1)).sum())
    if degree > _SETTLED:
        return -1
    return max(degree if kind == GENERIC else (degree + (kind == EVEN)) // 2, 1)


def _coefficients(dual: Smooth, q: Tensor) -> Array:
    """Compute a_0, ..., a_DEGREE at variances (r,): (r, DEGREE + 1).

    All but the first come from the slopes, a_m = s E[φ'(s ζ) h_(m-1)(ζ)] / sqrt(m), which keeps the digits of what is small
    with s beside a constant.
    """
    function = _function(dual)
    s = q.sqrt()[:, None]
    z, table = hermite_quadrature(DEGREE, _NODES)
    with torch.inference_mode(False), torch.no_grad():
        values = function(s * z) @ table[:, :1]
        slopes = slope_of(function, s * z).detach() @ table[:, :-1]
    roots = torch.arange(1, DEGREE + 1, dtype=torch.float64).sqrt()
    coefficients: Array = torch.cat([values, s * slopes / roots], 1).numpy()
    return coefficients
