"""Coefficients of activations with a corner at zero, such as ELU, SELU and softsign.

The four expectations of `expectations` are split into functions of s and functions of r by singular values, and each
coefficient of a series in the angle is a sum of a few products of the two.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ntklens.kernels.engines.fused.coefficients.expectations import (
    AGREES,
    DELTA,
    FEW,
    HIGHEST,
    expectations,
    grid,
    interpolation,
    mean_slopes,
    sizes_of,
)
from ntklens.kernels.engines.fused.coefficients.hermite import has_series
from ntklens.kernels.rules import octaves
from ntklens.kernels.rules.series import Series

Array = NDArray[np.float64]


class Sizes(NamedTuple):
    """How many functions of s there are for V0, for F0, and for each term of H and of G."""

    v0: int
    f0: int
    h: int
    g: int


@dataclass(frozen=True)
class _Split:
    """An expectation as Σ_j T_j Σ_a x_ja(s) z_a(r), both over its size at s and at r, on the grid.

    Attributes:
        x: (grid, terms, a).
        z: (grid, a).
    """

    x: Array
    z: Array


@dataclass(frozen=True)
class CornerTables:
    """The coefficients of one activation with a corner.

    Attributes:
        dual: the activation; one for which `has_corner` is true.
        single: whether single precision is enough.
    """

    dual: Series
    single: bool

    @property
    def limit(self) -> float:
        """The largest standard deviation with coefficients."""
        return math.sqrt(2**HIGHEST)

    def length(self, k: int) -> int:
        """Return how many terms of the series two variances of an octave take; -1 where they have no series."""
        return _lengths(self.dual, self.single)[k - octaves.LOWEST] if k < HIGHEST else -1

    def room(self, length: int) -> tuple[int, int]:
        """Return how many numbers an entry of x, and one of z, of a series of this length has."""
        if length < 0:
            return 0, 0
        n = self._sizes()
        length += -length % 4  # the rows take four terms at a time
        return len(n) + 1 + 2 * n.v0 + n.f0 + length * (n.h + n.g), 1 + 2 * n.v0 + n.f0 + n.h + n.g

    def products(self, *, of_x: bool) -> tuple[int, int, int]:
        """Return which numbers multiply to V0 of an input with itself: see `corner` for their order."""
        n = self._sizes()
        first = len(n) + 1 if of_x else 1
        return first, first + n.v0 + n.f0 + (0 if of_x else n.h + n.g), n.v0

    def series(self, present: list[int], room: int, *, of_x: bool) -> tuple[Array, Array, Array]:
        """Return the Chebyshev series of some octaves in the order of `corner`; see `tables.Tables`."""
        numbers, slopes = np.zeros((2, len(present), octaves.RESOLUTION, room))
        alone = np.zeros((len(present), octaves.RESOLUTION))
        for i, k in enumerate(present):
            series, slope, alone[i] = _on_octave(self, k, of_x)
            count = min(room, series.shape[1])
            numbers[i, :, :count], slopes[i, :, :count] = series[:, :count], slope[:, :count]
        return numbers, slopes, alone

    def _sizes(self) -> Sizes:
        return Sizes(*(split.z.shape[1] for split in _splits(self.dual, self.single)))


def has_corner(dual: object) -> bool:
    """Return whether an activation is smooth but for a corner at zero, at variances around 1."""
    if not isinstance(dual, Series) or dual.kinks != (0.0,) or has_series(dual):
        return False
    return all(CornerTables(dual, single=False).length(k) >= 0 for k in (-2, 0))


# Split into functions of s and of r


@functools.lru_cache(maxsize=64)
def _splits(dual: Series, single: bool) -> tuple[_Split, ...]:
    """Split V0, F0, H and G; the first two always to the last digits."""
    deltas = DELTA[False], DELTA[False], DELTA[single], DELTA[single]
    longest, found = max(_lengths(dual, single)), expectations(dual)
    assert found is not None
    return tuple(_split(series[:longest], delta) for series, delta in zip(found[:4], deltas, strict=True))


def _split(series: Array, delta: float) -> _Split:
    """Split coefficients (terms, grid, grid), both sides over their sizes."""
    terms, n, _ = series.shape
    matrix = series.transpose(2, 0, 1).reshape(n, terms * n)
    z, _, _ = np.linalg.svd(matrix, full_matrices=False)
    rest, count = matrix, 0
    while np.abs(rest).max() > delta and count < n:
        rest = rest - np.outer(z[:, count], z[:, count] @ rest)
        count += 1
    z = z[:, : max(count, 1)]
    return _Split((series @ z).transpose(1, 0, 2), z)


@functools.lru_cache(maxsize=64)
def _lengths(dual: Series, single: bool) -> list[int]:
    """Return the lengths of the octaves from octaves.LOWEST on, below HIGHEST."""
    found = expectations(dual)
    if found is None:
        return [-1] * (HIGHEST - octaves.LOWEST)
    terms = len(found.h)
    # Terms fall geometrically, so that what follows a small one is as small.
    sizes = np.maximum(np.abs(found.h), np.abs(found.g))
    lengths = []
    for k in range(octaves.LOWEST, HIGHEST):
        # The grid's standard deviations in this octave and below, and the next one.
        inside = max(int((grid() ** 2 < 2.0 ** (k + 1)).sum()) + 1, FEW)
        (counted,) = (sizes[:, :inside, :inside].max((1, 2)) > DELTA[single] / 2).nonzero()
        longest = int(counted[-1]) + 1
        fails = not found.rough[:inside, :inside].max() <= AGREES or longest > terms - min(terms // 8, 4)
        lengths.append(-1 if fails else max(longest, 1))
    return lengths


def _of_x(tables: CornerTables, s: Array, means: Array) -> Array:
    """Return the numbers of entries of x at standard deviations: (n, numbers)."""
    v0, f0, h, g = _splits(tables.dual, tables.single)
    weights, sizes = interpolation(s), sizes_of(tables.dual, s)
    of_v, of_f = (weights @ part.x[:, 0] * size[:, None] for part, size in zip((v0, f0), sizes, strict=False))
    own = weights @ v0.z * sizes[0][:, None]
    of_h, of_g = (
        np.tensordot(weights, part.x, 1) * size[:, None, None] for part, size in zip((h, g), sizes[2:], strict=True)
    )
    counts = np.broadcast_to(np.array([part.z.shape[1] for part in (v0, f0, h, g)], float), (len(s), 4))
    series = np.concatenate([of_h, of_g], 2).reshape(len(s), -1)
    return np.concatenate([counts, means[:, None], of_v, of_f, own, series], 1)


def _of_z(tables: CornerTables, s: Array, means: Array) -> Array:
    """Return the numbers of entries of z at standard deviations: (n, numbers)."""
    splits = _splits(tables.dual, tables.single)
    weights, sizes = interpolation(s), sizes_of(tables.dual, s)
    parts = [weights @ split.z * size[:, None] for split, size in zip(splits, sizes, strict=True)]
    own = weights @ splits[0].x[:, 0] * sizes[0][:, None]
    return np.concatenate([means[:, None], *parts, own], 1)


@functools.lru_cache(maxsize=256)
def _on_octave(tables: CornerTables, k: int, of_x: bool) -> tuple[Array, Array, Array]:
    """Return the Chebyshev series on an octave of an entry's numbers, of their slopes, and of E[φ(u)²]."""
    q = octaves.nodes(k)
    s = q.sqrt().numpy()
    # An input of variance 0 is in the lowest octave.
    means = mean_slopes(tables.dual, s if k > octaves.LOWEST else np.zeros_like(s))
    values = _of_x(tables, s, means) if of_x else _of_z(tables, s, means)
    series = octaves.series(torch.from_numpy(values))
    return series.numpy(), octaves.logarithmic_slope(series).numpy(), octaves.series(tables.dual.nngp(q, q, q)).numpy()
