"""Coefficients of activations with a corner at zero, such as ELU, SELU and softsign, in the angle of two inputs.

A corner makes a Hermite series long. But for u = s ρ cos ω and v = r ρ cos(ω - θ), with a Rayleigh
variable ρ and an angle ω in a circle, the corners lie on four rays, and between these every expectation is smooth in the
angle θ of the two inputs and in their standard deviations s and r. So each is a short Chebyshev series in θ, and its
coefficients are sums of a few products of functions of s and of r. There are four expectations, with c = cos θ:

    V0 = E[φφ] at θ = 0,   H = (V0 - E[φφ]) / (1 - c),
    F0 = E[φ'φ'] at θ = 0, G = (F0 - E[φ'φ']) / (1 - c), or / θ where the slope jumps at the corner.

They are computed without a difference of two near numbers: by Price's theorem dE[φφ]/dc = s r E[φ'φ'], so that H is s r
times the mean of E[φ'φ'] over the correlations from c to 1. Likewise, with the jump J of φ', the second derivative g of φ
beside its corner, and a standard normal ζ,

    dE[φ'φ']/dθ = -(J² / 2π + sin θ Q),   Q = s r E[gg] + J (r E[g(r ζ sin θ)] + s E[g(s ζ sin θ)]) / sqrt(2 π).

So a covariance lacks to its value at θ = 0 what `corner` computes to its last digits, however near the two inputs are.

The expectations are tabulated on a grid of standard deviations, from which those at others are interpolated, and split
into functions of s and functions of r by singular values.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ntklens.kernels.engines.fused.threads import in_threads, own_threads
from ntklens.kernels.rules.quadrature import REACH, legendre
from ntklens.kernels.rules.series import Series, slope_of

DELTA = {True: 3e-8, False: 3e-14}
"""What is left out of an expectation, relative to its size, by whether single precision is enough."""
HIGHEST = 4
"""Variances below 2^HIGHEST have coefficients."""
_TERMS = 96
"""The longest series in the angle."""
_MIDDLE = -12
"""Below a variance of 2^_MIDDLE the grid is even in the standard deviation, above it in its logarithm."""
FEW, _MANY = 14, 72
"""Standard deviations of the grid below and above it."""
_NODES = (32, 48), (48, 80)
"""Quadrature nodes between two rays, and along each of them: the first that are enough."""
_ENOUGH = 1e-13
"""Relative difference of an expectation computed in two ways, up to which nodes are enough."""
_PROBES = 6
"""Standard deviations of the grid at which is tried what is enough."""
_REACH = 9.5
"""The last radius, where the density of ρ is 1e-19."""
AGREES = 1e-12
"""Relative difference of an expectation computed in two ways, above which a function counts as too rough."""

Array = NDArray[np.float64]


@functools.lru_cache(maxsize=64)
def jump(dual: Series) -> float:
    """Return the jump of the slope at zero, 0 for one of rounding."""
    near, usual = 2.0**-60, 1.0
    before, after, *usual_slopes = slope_of(
        dual.function, torch.tensor([-near, near, -usual, usual], dtype=torch.float64)
    ).tolist()
    step = after - before
    return 0.0 if abs(step) <= 1e-12 * max(abs(before), abs(after), *map(abs, usual_slopes)) else step


# The grid of standard deviations


@functools.lru_cache(maxsize=1)
def grid() -> Array:
    """Return its standard deviations, ascending: Chebyshev nodes in s, then in log s."""
    middle = 2.0 ** (_MIDDLE / 2)
    return np.concatenate([middle * (_chebyshev(FEW) + 1) / 2, _of_logarithm(_chebyshev(_MANY))])


def _chebyshev(n: int) -> Array:
    """Return Chebyshev nodes of the first kind on [-1, 1], ascending."""
    nodes: Array = -np.cos((np.arange(n) + 0.5) * (math.pi / n))
    return nodes


def _of_logarithm(y: Array) -> Array:
    """Return the standard deviations of places y in the upper part of the grid."""
    s: Array = 2.0 ** ((_MIDDLE + (y + 1) / 2 * (HIGHEST - _MIDDLE)) / 2)
    return s


def interpolation(s: Array) -> Array:
    """Return the matrix (n, grid) from a function's values on the grid to those at standard deviations (n,)."""
    matrix = np.zeros((len(s), FEW + _MANY))
    middle = 2.0 ** (_MIDDLE / 2)
    lower = s < middle
    matrix[lower, :FEW] = _barycentric(2 * s[lower] / middle - 1, FEW)
    y = (2 * np.log2(s[~lower]) - _MIDDLE) / (HIGHEST - _MIDDLE) * 2 - 1
    matrix[~lower, FEW:] = _barycentric(y, _MANY)
    return matrix


def _barycentric(y: Array, n: int) -> Array:
    """Return the values of Lagrange's polynomials of Chebyshev nodes at y: (len(y), n)."""
    weights = (-1.0) ** np.arange(n) * np.sin((np.arange(n) + 0.5) * (math.pi / n))
    distance = y[:, None] - _chebyshev(n)
    hit = distance == 0
    terms = weights / np.where(hit, 1.0, distance)
    terms[hit.any(1)] = hit[hit.any(1)]
    shares: Array = terms / terms.sum(1, keepdims=True)
    return shares


# The expectations


class _Derivatives(NamedTuple):
    """φ, φ' and φ'' beside the corner, as functions of a tensor."""

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    bend: Callable[[Tensor], Tensor]


def _derivatives(dual: Series) -> _Derivatives:
    def slope(u: Tensor) -> Tensor:
        return slope_of(dual.function, u).detach()

    def bend(u: Tensor) -> Tensor:
        return slope_of(lambda leaf: slope_of(dual.function, leaf), u.detach()).detach()

    return _Derivatives(lambda u: dual.function(u).detach(), slope, bend)


def _line() -> tuple[Tensor, Tensor]:
    """Return nodes and weights of expectations over a standard normal, fine on both sides of zero."""
    x, w = legendre(160)
    z = REACH * x * x
    weight = 2 * REACH * x * w * torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return torch.cat([-z.flip(0), z]), torch.cat([weight.flip(0), weight])


def sizes_of(dual: Series, s: Array) -> tuple[Array, Array, Array, Array]:
    """Return sizes of V0, F0, H and G at standard deviations: an expectation is at most about the product of two.

    They are the roots of E[φ²], E[φ'²], s² E[φ'²] and J² / 2π + s² E[g²].
    """
    z, w = _line()
    u = torch.from_numpy(s)[:, None] * z
    v, f, g = ((function(u).square() @ w).sqrt().numpy() for function in _derivatives(dual))
    return v, f, s * f, np.sqrt(jump(dual) ** 2 / (2 * math.pi) + (s * g) ** 2)


def mean_slopes(dual: Series, s: Array) -> Array:
    """Compute E[φ'(u)] at standard deviations (n,)."""
    z, w = _line()
    means: Array = (_derivatives(dual).slope(torch.from_numpy(s)[:, None] * z) @ w).numpy()
    return means


def _at_zero(dual: Series, s: Array) -> tuple[Array, Array]:
    """Compute V0 and F0 at standard deviations (n,): (n, n)."""
    z, w = _line()
    u = torch.from_numpy(s)[:, None] * z
    of = _derivatives(dual)
    values, slopes = of.value(u), of.slope(u)
    return ((values * w) @ values.T).numpy(), ((slopes * w) @ slopes.T).numpy()


def _plane(theta: float, rays: int, radii: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return nodes and weights of expectations at an angle, fine on both sides of the four rays.

    Returns:
        u / s at the nodes (radii, n), where v / r has the same values; at which of the n nodes it has that of a column;
        and the weights (radii, n).
    """
    x, w = (t.numpy() for t in legendre(radii))
    radius = _REACH * x * x
    over_radius = 2 * _REACH * x * w * radius * np.exp(-radius * radius / 2) / (2 * math.pi)
    x, w = (t.numpy() for t in legendre(rays))
    # Nodes gather at both ends: x² / (x² + (1 - x)²).
    total = x * x + (1 - x) ** 2
    y, w = x * x / total, w * 2 * x * (1 - x) / total**2
    # Between two rays, both values are sines of the angles to them. u and v have one sign in the sectors of angle π - θ,
    # and two in those of angle θ; from one end of a sector to the other, u grows as v falls.
    wide, narrow = np.sin((math.pi - theta) * y), np.sin(theta * y)
    u = np.concatenate([wide, -wide, narrow, -narrow])
    weight = np.concatenate([(math.pi - theta) * w] * 2 + [theta * w] * 2)
    back = np.arange(rays)[::-1]
    of_v = np.concatenate([back, back + rays, back + 3 * rays, back + 2 * rays])
    return (
        torch.from_numpy(np.outer(radius, u)),
        torch.from_numpy(of_v),
        torch.from_numpy(np.outer(over_radius, weight)),
    )


def _angles(terms: int) -> Array:
    return (_chebyshev(terms) + 1) * (math.pi / 2)


def _series(values: Array) -> Array:
    """Return the Chebyshev coefficients in the angle of values (terms, ...) at `_angles`."""
    terms = len(values)
    matrix = np.cos(np.arange(terms)[:, None] * np.arccos(_chebyshev(terms))) * (2 / terms)
    matrix[0] /= 2
    coefficients: Array = np.tensordot(matrix, values, 1)
    return coefficients


def _means(series: Array, *, of_cosine: bool) -> Array:
    """Return the means of Chebyshev series (terms, ...) over the angles from 0 to each of `_angles`.

    Args:
        series: coefficients.
        of_cosine: whether the mean is over cosines, not angles.
    """
    terms = len(series)
    x, w = (t.numpy() for t in legendre(terms))
    means = np.zeros((terms, terms))
    for i, theta in enumerate(_angles(terms)):
        t, weight = theta * x, w
        if of_cosine:  # sin t dt / (1 - cos θ)
            weight = w * theta * np.sin(t) / (2 * math.sin(theta / 2) ** 2)
        means[i] = np.cos(np.arange(terms)[:, None] * np.arccos(2 * t / math.pi - 1)) @ weight
    result: Array = np.tensordot(means, series, 1)
    return result


class _Expectations(NamedTuple):
    """Chebyshev coefficients in the angle, over the sizes of both sides: (1 or terms, grid, grid).

    `rough` (grid, grid) is by how much two ways to E[φ'φ'] differ at most: large for a function with a corner elsewhere,
    for one too rough at zero, and where the nodes are too few.
    """

    v0: Array
    f0: Array
    h: Array
    g: Array
    rough: Array


@functools.lru_cache(maxsize=8)
def expectations(dual: Series) -> _Expectations | None:
    """Compute the four expectations of an activation on the grid; None for one that fails everywhere."""
    probes = grid()[np.linspace(0, FEW + _MANY - 1, _PROBES).astype(int)]
    for nodes in _NODES:
        found = _on_grid(dual, probes, _TERMS, nodes)
        if found.rough.max() <= _ENOUGH:
            break
    if not found.rough.min() <= AGREES:
        return None
    sizes = np.maximum(np.abs(found.h), np.abs(found.g)).max((1, 2))
    needed = int((sizes > DELTA[False] / 2).nonzero()[0][-1]) + 1
    return _on_grid(dual, grid(), min(needed + needed // 4, _TERMS), nodes)


def _on_grid(dual: Series, s: Array, terms: int, nodes: tuple[int, int]) -> _Expectations:
    """Compute them at some standard deviations, with series of this length."""
    step, angles = jump(dual), _angles(terms)[:, None, None]
    with torch.inference_mode(False), torch.no_grad():
        slopes, bends = _slopes_and_bends(dual, torch.from_numpy(s), terms, nodes)
        v0, f0 = _at_zero(dual, s)
        sizes = sizes_of(dual, s)
    h = np.outer(s, s) * _means(_series(slopes), of_cosine=True)
    if step:
        g, reach = step**2 / (2 * math.pi) + _means(_series(np.sin(angles) * bends), of_cosine=False), angles
    else:
        g, reach = _means(_series(bends), of_cosine=True), 2 * np.sin(angles / 2) ** 2
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        over_v, over_f, over_h, over_g = (1 / np.outer(size, size) for size in sizes)
        rough = (np.abs(f0 - reach * g - slopes) * over_f).max(0)
        return _Expectations((v0 * over_v)[None], (f0 * over_f)[None], _series(h * over_h), _series(g * over_g), rough)


def _slopes_and_bends(dual: Series, s: Tensor, terms: int, nodes: tuple[int, int]) -> tuple[Array, Array]:
    """Compute E[φ'φ'] and Q at every angle and at standard deviations (n,): (terms, n, n)."""
    of, step = _derivatives(dual), jump(dual)
    results = torch.empty(2, terms, len(s), len(s), dtype=torch.float64)
    z, w = _line()

    def task(i: int, theta: float) -> None:
        u, of_v, weight = _plane(theta, *nodes)
        for to, function in zip(results, (of.slope, of.bend), strict=True):
            values = function(s[:, None, None] * u)
            to[i] = (values * weight).flatten(1) @ values[..., of_v].flatten(1).T
        results[1, i] *= torch.outer(s, s)
        if step:
            # r E[g(r ζ sin θ)] belongs to the corner of u, and s E[g(s ζ sin θ)] to that of v.
            beside = s * (of.bend(s[:, None] * (math.sin(theta) * z)) @ w) * (step / math.sqrt(2 * math.pi))
            results[1, i] += beside[:, None] + beside

    with own_threads():
        in_threads([(1, partial(task, i, theta)) for i, theta in enumerate(_angles(terms).tolist())])
    slopes, bends = results.numpy()
    return slopes, bends
